// How the driver starts its interface, and starts it over: ixgbevf_down, ixgbevf_reset, ixgbevf_up; and how a driver
// does it that keeps its rings.
import { VfDriver, type RegisterAccess } from "../../nic/guest-driver.ts";
import { CastMode, MailboxApi, MessageType } from "../../nic/mailbox-messages.ts";
import {
  VFPSRTYPE,
  VTEIAC,
  VTEIAM,
  VTEICR,
  VTEIMC,
  VTEIMS,
  VTEITR,
  VTEITR_CNT_WDIS,
  VTIVAR,
  VTIVAR_MISC,
  VTIVAR_VALID,
} from "../../nic/registers.ts";
import { RING_AREAS, type Layout } from "./layout.ts";
import { guestExpects } from "./panic.ts";
import type { ReceiveDriver } from "./receive-driver.ts";
import type { ModelState, Program, ProgramAt } from "./state.ts";
import type { TransmitDriver } from "./transmit-driver.ts";

const PSRTYPE_RQPL_SHIFT = 29;

export interface StartOverParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  readonly registers: RegisterAccess;
  readonly receive: ReceiveDriver;
  readonly transmit: TransmitDriver;
}

type StartOverProgram = ProgramAt<
  | "disable-queues"
  | "turn-rings"
  | "reset"
  | "free-rings"
  | "reopen-queue"
  | "open-queue"
  | "fill-ring"
  | "enable-interrupts"
>;

/**
 * Stock: disable-queues, reset, free-rings, then open-queue and fill-ring for each queue, enable-interrupts. Probing is
 * the same without the first. A driver that keeps its rings (cooperation `shuffle`): disable-queues, turn-rings for each
 * queue, reset, reopen-queue for each queue, enable-interrupts.
 */
export class StartOver {
  readonly #parts: StartOverParts;
  readonly #vf: VfDriver;

  constructor(parts: StartOverParts) {
    this.#parts = parts;
    this.#vf = new VfDriver(parts.registers);
  }

  step(program: StartOverProgram): Program {
    switch (program.at) {
      case "disable-queues":
        this.#disable();
        return this.#keepsRings ? { at: "turn-rings", queue: 0 } : { at: "reset", keepsRings: false };
      case "turn-rings":
        this.#parts.transmit.turn(program.queue);
        this.#parts.receive.turn(program.queue);
        return this.#forNextQueue("turn-rings", program.queue) ?? { at: "reset", keepsRings: true };
      case "reset":
        this.#reset();
        return program.keepsRings ? { at: "reopen-queue", queue: 0 } : { at: "free-rings" };
      case "reopen-queue":
        this.#spreadFlows();
        this.#parts.transmit.reopen(program.queue);
        this.#parts.receive.reopen(program.queue);
        return this.#forNextQueue("reopen-queue", program.queue) ?? { at: "enable-interrupts" };
      case "free-rings":
        this.#freeRings();
        return { at: "open-queue", queue: 0 };
      case "open-queue":
        return this.#openQueue(program);
      case "fill-ring":
        return this.#fillRing(program);
      case "enable-interrupts":
        this.#enableInterrupts();
        return { at: "idle" };
      default:
        return program satisfies never;
    }
  }

  /** An administrator who has the rings moved wants new ones. */
  get #keepsRings(): boolean {
    return this.#parts.layout.cooperation === "shuffle" && !this.#parts.state().driver.isReopenDue;
  }

  #forNextQueue(at: "turn-rings" | "reopen-queue" | "open-queue", queue: number): Program | undefined {
    return queue + 1 < this.#parts.layout.queuePairs ? { at, queue: queue + 1 } : undefined;
  }

  /** Looks at the link, by which a driver hears that its PF wants it to start over. */
  isWanted(): boolean {
    return this.#withVf(() => this.#vf.checkLink().mustReset);
  }

  /** What VfDriver remembers is the guest's state. */
  #withVf<Result>(talk: () => Result): Result {
    const { driver } = this.#parts.state();
    this.#vf.restore(driver.vf);
    const result = talk();
    driver.vf = { ...this.#vf.save(), mac: [...this.#vf.mac] };
    return result;
  }

  #disable(): void {
    const { registers, layout, receive, transmit, state } = this.#parts;
    const { driver } = state();
    driver.isUp = false;
    driver.scheduled = 0;
    driver.missed = 0;
    registers.write(VTEIMC, (2 << layout.queuePairs) - 1);
    for (let queue = 0; queue < layout.queuePairs; queue++) {
      receive.disable(queue);
      transmit.disable(queue);
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
    const { layout, receive, transmit, state } = this.#parts;
    const { driver } = state();
    for (let queue = 0; queue < layout.queuePairs; queue++) {
      receive.free(queue);
      transmit.free(queue);
    }
    if (driver.isReopenDue) driver.ringArea = (driver.ringArea + 1) % RING_AREAS;
    driver.isReopenDue = false;
    driver.isServiceDue = false;
  }

  #openQueue({ queue }: ProgramAt<"open-queue">): Program {
    const { receive, transmit } = this.#parts;
    this.#spreadFlows();
    transmit.open(queue);
    receive.open(queue);
    return { at: "fill-ring", queue, left: receive.unused(queue), posted: 0 };
  }

  /** ixgbevf_setup_psrtype: how many queues the device spreads flows over, as a power of two. */
  #spreadFlows(): void {
    this.#parts.registers.write(VFPSRTYPE, (this.#parts.layout.queuePairs - 1) << PSRTYPE_RQPL_SHIFT);
  }

  #fillRing({ queue, left, posted }: ProgramAt<"fill-ring">): Program {
    const { receive } = this.#parts;
    if (left > 0 && receive.post(queue)) return { at: "fill-ring", queue, left: left - 1, posted: posted + 1 };
    if (posted > 0) receive.publish(queue);
    return this.#forNextQueue("open-queue", queue) ?? { at: "enable-interrupts" };
  }

  /**
   * ixgbevf_configure_msix and ixgbevf_up_complete: a vector for each queue pair and one for the mailbox, pending causes
   * thrown away, and a look at the link, which is how a PF that spoke meanwhile is heard after all.
   */
  #enableInterrupts(): void {
    const { registers, layout, state } = this.#parts;
    const { driver, counters } = state();
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
    driver.isUp = true;
    driver.isServiceDue = true;
    driver.vf.getLinkStatus = true;
    counters.opened++;
    registers.write(VTEIMS, all);
  }
}
