// The guest's driver as a program of small steps: probe, open, interrupts, polls, and starting over when the PF says so.
import { VfDriver, type RegisterAccess } from "../../nic/guest-driver.ts";
import { CastMode, MailboxApi, MessageType } from "../../nic/mailbox-messages.ts";
import {
  VFPSRTYPE,
  VTEIAC,
  VTEIAM,
  VTEICR,
  VTEICS,
  VTEIMC,
  VTEIMS,
  VTEITR,
  VTEITR_CNT_WDIS,
  VTIVAR,
  VTIVAR_MISC,
  VTIVAR_VALID,
} from "../../nic/registers.ts";
import type { CpuMemory } from "./cpu-memory.ts";
import { RING_AREAS, type Layout } from "./layout.ts";
import type { PageAllocator } from "./page-allocator.ts";
import { guestExpects, GuestPanic } from "./panic.ts";
import { ReceiveDriver } from "./receive-driver.ts";
import type { DriverState, ModelState, Program, SocketBuffer } from "./state.ts";
import { TransmitDriver } from "./transmit-driver.ts";

const PSRTYPE_RQPL_SHIFT = 29;

export interface DriverParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly memory: CpuMemory;
  readonly pages: PageAllocator;
  readonly registers: RegisterAccess;
}

type At<Name extends Program["at"]> = Extract<Program, { at: Name }>;

/**
 * One call of `step` is one thing that a device could race with. Interrupts are taken between any two steps, as a CPU
 * takes them between instructions; polls run one at a time, as softirqs on one CPU do.
 */
export class GuestDriver {
  readonly receive: ReceiveDriver;
  readonly transmit: TransmitDriver;
  readonly #parts: DriverParts;
  readonly #vf: VfDriver;

  constructor(parts: DriverParts) {
    this.#parts = parts;
    this.#vf = new VfDriver(parts.registers);
    this.receive = new ReceiveDriver(parts);
    this.transmit = new TransmitDriver(parts);
  }

  get #state(): DriverState {
    return this.#parts.state().driver;
  }

  /** Nothing to do until an interrupt comes. */
  get isIdle(): boolean {
    const { program, scheduled, isServiceDue, isReopenDue } = this.#state;
    const isBusy = scheduled !== 0 || isServiceDue || isReopenDue || this.#parts.state().pendingVectors !== 0;
    return program.at === "idle" && !isBusy;
  }

  /** False when there is nothing to do. */
  step(): boolean {
    if (this.#takeInterrupt()) return true;
    const next = this.#carryOut(this.#state.program);
    if (next === undefined) return false;
    this.#state.program = next;
    return true;
  }

  #takeInterrupt(): boolean {
    const state = this.#parts.state();
    const pending = state.pendingVectors;
    if (pending === 0) return false;
    const vector = 31 - Math.clz32(pending & -pending);
    state.pendingVectors &= ~(1 << vector);
    state.counters.interrupts++;
    if (vector < this.#parts.layout.queuePairs) this.#schedule(vector);
    else this.#otherInterrupt();
    return true;
  }

  /** napi_schedule. */
  #schedule(queue: number): void {
    const driver = this.#state;
    const { program } = driver;
    const bit = 1 << queue;
    if (!driver.isUp) return;
    const isPolling = "queue" in program && program.queue === queue;
    if (isPolling) driver.missed |= bit;
    else driver.scheduled |= bit;
  }

  /** ixgbevf_msix_other. */
  #otherInterrupt(): void {
    this.#state.vf.getLinkStatus = true;
    this.#state.isServiceDue = true;
    this.#parts.registers.write(VTEIMS, 1 << this.#parts.layout.queuePairs);
  }

  /** Does what the program is at; gives where it goes on, or undefined when it waits. */
  #carryOut(program: Program): Program | undefined {
    switch (program.at) {
      case "off":
        return { at: "reset" };
      case "idle":
        return this.#choose();
      case "disable-queues":
      case "reset":
      case "free-rings":
      case "open-queue":
      case "fill-ring":
      case "enable-interrupts":
        return this.#startOver(program);
      case "clean-transmit":
        return this.#cleanTransmit(program);
      case "look":
        return this.#look(program);
      case "read-descriptor":
        return { ...program, at: "take-buffer", status: this.receive.status(program.queue) };
      case "take-buffer":
        return this.#takeBuffer(program);
      case "refill":
        return this.#refill(program);
      case "end-poll":
        return this.#endPoll(program);
      default:
        return program satisfies never;
    }
  }

  #choose(): Program | undefined {
    const driver = this.#state;
    if (driver.scheduled !== 0) {
      const queue = this.#nextScheduled();
      driver.scheduled &= ~(1 << queue);
      driver.lastPolled = queue;
      return { at: "clean-transmit", queue };
    }
    if (driver.isReopenDue) return { at: "disable-queues" };
    if (driver.isServiceDue) return this.#service();
    return undefined;
  }

  /** A queue that was polled goes to the end of the line, as in net_rx_action. */
  #nextScheduled(): number {
    const { scheduled, lastPolled } = this.#state;
    const { queuePairs } = this.#parts.layout;
    for (let turn = 1; turn <= queuePairs; turn++) {
      const queue = (lastPolled + turn) % queuePairs;
      if ((scheduled & (1 << queue)) !== 0) return queue;
    }
    throw new GuestPanic(`a queue is scheduled that does not exist: ${scheduled}`);
  }

  /**
   * ixgbevf_service_task. The link: the driver was never reset before, or long ago (pf-reset.ts of the VF). Then
   * ixgbevf_check_hang_subtask raises every queue's vector: a frame that came while the interface came up has lost its
   * interrupt, since ixgbevf_up_complete throws pending causes away.
   */
  #service(): Program {
    const { registers, layout } = this.#parts;
    this.#state.isServiceDue = false;
    const { mustReset } = this.#withVf(() => this.#vf.checkLink());
    if (mustReset) return { at: "disable-queues" };
    registers.write(VTEICS, (1 << layout.queuePairs) - 1);
    return { at: "idle" };
  }

  /** What VfDriver remembers is the guest's state. */
  #withVf<Result>(talk: () => Result): Result {
    this.#vf.restore(this.#state.vf);
    const result = talk();
    this.#state.vf = { ...this.#vf.save(), mac: [...this.#vf.mac] };
    return result;
  }

  // Starting over: ixgbevf_down, ixgbevf_reset, ixgbevf_up; probing is the same without the first.

  #startOver(
    program: At<"disable-queues" | "reset" | "free-rings" | "open-queue" | "fill-ring" | "enable-interrupts">,
  ): Program {
    switch (program.at) {
      case "disable-queues":
        this.#disable();
        return { at: "reset" };
      case "reset":
        this.#reset();
        return { at: "free-rings" };
      case "free-rings":
        this.#freeRings();
        return { at: "open-queue", queue: 0 };
      case "open-queue":
        this.#spreadFlows();
        this.transmit.open(program.queue);
        this.receive.open(program.queue);
        return { at: "fill-ring", queue: program.queue, left: this.receive.unused(program.queue), posted: 0 };
      case "fill-ring":
        return this.#fillRing(program);
      case "enable-interrupts":
        this.#enableInterrupts();
        return { at: "idle" };
      default:
        return program satisfies never;
    }
  }

  #disable(): void {
    const { registers, layout } = this.#parts;
    const driver = this.#state;
    driver.isUp = false;
    driver.scheduled = 0;
    driver.missed = 0;
    registers.write(VTEIMC, (2 << layout.queuePairs) - 1);
    for (let queue = 0; queue < layout.queuePairs; queue++) {
      this.receive.disable(queue);
      this.transmit.disable(queue);
    }
  }

  #reset(): void {
    this.#withVf(() => {
      this.#vf.reset();
      this.#vf.negotiate(MailboxApi.v15);
      guestExpects(this.#vf.isAccepted([MessageType.getQueues, 0, 0, 0, 0]), "the PF gives no queues");
      guestExpects(this.#vf.isAccepted([MessageType.updateCastMode, CastMode.multicast]), "no cast mode");
      guestExpects(this.#vf.isAccepted([MessageType.setMaximumFrame, 1518]), "no frame size");
    });
  }

  #freeRings(): void {
    const { layout } = this.#parts;
    const driver = this.#state;
    for (let queue = 0; queue < layout.queuePairs; queue++) {
      this.receive.free(queue);
      this.transmit.free(queue);
    }
    if (driver.isReopenDue) driver.ringArea = (driver.ringArea + 1) % RING_AREAS;
    driver.isReopenDue = false;
    driver.isServiceDue = false;
  }

  /** ixgbevf_setup_psrtype: how many queues the device spreads flows over, as a power of two. */
  #spreadFlows(): void {
    this.#parts.registers.write(VFPSRTYPE, (this.#parts.layout.queuePairs - 1) << PSRTYPE_RQPL_SHIFT);
  }

  #fillRing({ queue, left, posted }: At<"fill-ring">): Program {
    const { queuePairs } = this.#parts.layout;
    if (left > 0 && this.receive.post(queue)) return { at: "fill-ring", queue, left: left - 1, posted: posted + 1 };
    if (posted > 0) this.receive.publish(queue);
    return queue + 1 < queuePairs ? { at: "open-queue", queue: queue + 1 } : { at: "enable-interrupts" };
  }

  /**
   * ixgbevf_configure_msix and ixgbevf_up_complete: a vector for each queue pair and one for the mailbox, pending causes
   * thrown away, and a look at the link, which is how a PF that spoke meanwhile is heard after all.
   */
  #enableInterrupts(): void {
    const { registers, layout, state } = this.#parts;
    const { queuePairs } = layout;
    let route = 0;
    for (let queue = 0; queue < queuePairs; queue++) {
      const entry = VTIVAR_VALID | queue;
      route |= (entry | (entry << 8)) << (16 * queue);
      registers.write(VTEITR(queue), VTEITR_CNT_WDIS);
    }
    registers.write(VTIVAR(0), route >>> 0);
    registers.write(VTIVAR_MISC, VTIVAR_VALID | queuePairs);
    registers.read(VTEICR);
    const all = (2 << queuePairs) - 1;
    registers.write(VTEIAM, all);
    registers.write(VTEIAC, all);
    this.#state.isUp = true;
    this.#state.isServiceDue = true;
    this.#state.vf.getLinkStatus = true;
    state().counters.opened++;
    registers.write(VTEIMS, all);
  }

  // The poll: ixgbevf_poll, ixgbevf_clean_tx_irq, ixgbevf_clean_rx_irq.

  #cleanTransmit(program: At<"clean-transmit">): Program {
    const { queue } = program;
    if (this.transmit.clean(queue)) return program;
    return { at: "look", queue, budget: this.#parts.layout.pollBudget, unused: this.receive.unused(queue) };
  }

  #look({ queue, budget, unused }: At<"look">): Program {
    if (budget === 0) return { at: "end-poll", queue, isDone: false };
    if (unused >= this.#parts.layout.refillBatch) return { at: "refill", queue, budget, left: unused, posted: 0 };
    const bytes = this.receive.look(queue);
    if (bytes === 0) return { at: "end-poll", queue, isDone: true };
    return { at: "read-descriptor", queue, budget, unused, bytes };
  }

  #takeBuffer({ queue, budget, unused, bytes, status }: At<"take-buffer">): Program {
    const { frame, isTaken } = this.receive.take(queue, bytes, status);
    if (!isTaken) return { at: "end-poll", queue, isDone: true };
    if (frame === undefined) return { at: "look", queue, budget, unused: unused + 1 };
    this.#deliver(frame);
    return { at: "look", queue, budget: budget - 1, unused: unused + 1 };
  }

  #deliver(frame: SocketBuffer): void {
    const { socket, counters } = this.#parts.state();
    if (socket.length >= this.#parts.layout.socketFrames) {
      counters.droppedBySocket++;
      this.receive.freeFrame(frame);
      return;
    }
    counters.received++;
    socket.push(frame);
  }

  #refill({ queue, budget, left, posted }: At<"refill">): Program {
    if (left > 0 && this.receive.post(queue))
      return { at: "refill", queue, budget, left: left - 1, posted: posted + 1 };
    if (posted > 0) this.receive.publish(queue);
    // cleaned_count starts again at 0, whatever could not be posted.
    return { at: "look", queue, budget, unused: 0 };
  }

  /** napi_complete_done, and ixgbevf_irq_enable_queues unless there is more to do. */
  #endPoll({ queue, isDone }: At<"end-poll">): Program {
    const driver = this.#state;
    const bit = 1 << queue;
    if (!isDone || (driver.missed & bit) !== 0) driver.scheduled |= bit;
    else this.#parts.registers.write(VTEIMS, bit);
    driver.missed &= ~bit;
    return { at: "idle" };
  }
}
