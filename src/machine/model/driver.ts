// The guest's driver as a program of small steps: interrupts, whose turn it is, and the service task.
import { VTEICS, VTEIMS } from "../../nic/registers.ts";
import type { RegisterAccess } from "../../nic/guest-driver.ts";
import type { CpuMemory } from "./cpu-memory.ts";
import type { DmaMapping } from "./dma-mapping.ts";
import type { Layout } from "./layout.ts";
import type { PageAllocator } from "./page-allocator.ts";
import { GuestPanic } from "./panic.ts";
import { isBeforeDummyWrite, Poll } from "./poll.ts";
import { ReceiveDriver } from "./receive-driver.ts";
import { StartOver } from "./start-over.ts";
import type { DriverState, ModelState, Program } from "./state.ts";
import { TransmitDriver } from "./transmit-driver.ts";

export interface DriverParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly memory: CpuMemory;
  readonly pages: PageAllocator;
  readonly registers: RegisterAccess;
  readonly mapping: DmaMapping | undefined;
}

/**
 * One call of `step` is one thing that a device could race with. Interrupts are taken between any two steps, as a CPU
 * takes them between instructions; polls run one at a time, as softirqs on one CPU do.
 */
export class GuestDriver {
  readonly receive: ReceiveDriver;
  readonly transmit: TransmitDriver;
  readonly #parts: DriverParts;
  readonly #poll: Poll;
  readonly #startOver: StartOver;

  constructor(parts: DriverParts) {
    this.#parts = parts;
    this.receive = new ReceiveDriver(parts);
    this.transmit = new TransmitDriver(parts);
    const withRings = { ...parts, receive: this.receive, transmit: this.transmit };
    this.#poll = new Poll(withRings);
    this.#startOver = new StartOver(withRings);
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

  /** The queue's next descriptor has been seen done, and its buffer has not been dirtied yet. */
  isBetweenCheckAndWrite(queue: number): boolean {
    const { program } = this.#state;
    return isBeforeDummyWrite(program, this.#parts.layout.cooperation) && program.queue === queue;
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
        return { at: "reset", keepsRings: false };
      case "idle":
        return this.#choose();
      case "disable-queues":
      case "turn-rings":
      case "reset":
      case "free-rings":
      case "reopen-queue":
      case "open-queue":
      case "fill-ring":
      case "enable-interrupts":
        return this.#startOver.step(program);
      case "clean-transmit":
      case "look":
      case "read-descriptor":
      case "read-buffer":
      case "write-buffer":
      case "look-after-write":
      case "copy-descriptor":
      case "take-buffer":
      case "refill":
      case "end-poll":
        return this.#poll.step(program);
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
    if (this.#startOver.isWanted()) return { at: "disable-queues" };
    registers.write(VTEICS, (1 << layout.queuePairs) - 1);
    return { at: "idle" };
  }
}
