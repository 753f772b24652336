// Whose turn it is: the VF's work one beat at a time, and how it is stopped and started.
import type { Clock } from "../base/clock.ts";
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";
import type { RingView } from "./datapath-ports.ts";
import type { InterruptUnit } from "./interrupts.ts";
import type { PhysicalFunction } from "./physical-function.ts";
import type { ReceiveUnit } from "./receive.ts";
import type { TransmitUnit } from "./transmit.ts";

export interface BeatsParts {
  readonly clock: Clock;
  readonly dma: DmaPort;
  readonly queuePairs: number;
  readonly interrupts: InterruptUnit;
  readonly pf: PhysicalFunction;
  readonly receive: ReceiveUnit;
  readonly transmit: TransmitUnit;
  /** Whether the function may use the bus. */
  readonly isBusMaster: () => boolean;
}

/** Runs receive and transmit turn about, and keeps the deadlines of interrupts and PF. Allocates nothing. */
export class Beats {
  onWork: () => void = () => {};
  readonly #parts: BeatsParts;
  readonly #pushed = new Uint32Array(1);
  #isStopped = false;
  /** Something may have to be done; cleared by a step that finds nothing. */
  #isAwake = false;
  #isTransmitTurn = false;
  /** A deadline may be known: set by whoever makes one, cleared by a look that finds none. */
  #mayHaveDeadline = true;
  /** Nobody has called `wake` since this was set. */
  #isUndisturbed = false;

  constructor(parts: BeatsParts) {
    this.#parts = parts;
  }

  get isStopped(): boolean {
    return this.#isStopped;
  }

  get hasWork(): boolean {
    return !this.#isStopped && (this.#isAwake || this.#isDue());
  }

  /** There may be work, or there is a new deadline: tells the owner, once until a step has found nothing to do. */
  wake(): void {
    this.#isUndisturbed = false;
    if (this.#isAwake || this.#isStopped) return;
    this.#isAwake = true;
    this.onWork();
  }

  /** The DMA port has answers for reads that it put off. */
  retry(): void {
    this.#parts.receive.retry();
    this.#parts.transmit.retry();
    this.wake();
  }

  /** The bus was given to the function or taken away: what was read of memory before is not what it holds after. */
  busChanged(): void {
    this.#parts.dma.forgetReads?.();
    this.retry();
  }

  /** There is a new deadline: it is looked at from now on. */
  deadlineSet(): void {
    this.#mayHaveDeadline = true;
    this.wake();
  }

  step(): boolean {
    if (this.#isStopped) return false;
    if (this.#isDue()) {
      this.advance();
      return true;
    }
    if (this.#parts.isBusMaster() && this.#stepDatapath()) return true;
    this.#isAwake = false;
    return false;
  }

  /** One beat of one unit, for whoever decides himself whose turn it is. False when that unit has nothing to do. */
  stepOne(unit: "receive" | "transmit"): boolean {
    return !this.#isStopped && this.#parts.isBusMaster() && this.#parts[unit].step();
  }

  /** Steps until there is nothing to do. */
  run(): void {
    while (this.step()) this.#runOne();
  }

  /**
   * The beats of one unit in a row, as `step` would order them while the other is idle: no deadline is known, and the bus
   * is ours. Whatever may change that calls `wake`.
   */
  #runOne(): void {
    const { receive, transmit, isBusMaster } = this.#parts;
    if (this.#mayHaveDeadline || this.#isStopped || !isBusMaster()) return;
    this.#isUndisturbed = true;
    if (transmit.isIdle) {
      while (this.#isUndisturbed && receive.step()) this.#isTransmitTurn = !this.#isTransmitTurn;
    } else if (receive.isIdle) {
      while (this.#isUndisturbed && transmit.step()) this.#isTransmitTurn = !this.#isTransmitTurn;
    }
  }

  deadlineMs(): number {
    if (this.#isStopped) return Infinity;
    return Math.min(this.#parts.interrupts.deadlineMs(), this.#parts.pf.deadlineMs());
  }

  advance(): void {
    if (this.#isStopped) return;
    this.#parts.interrupts.evaluate();
    this.#parts.pf.advance();
  }

  /** Finishes the frame being sent and reports every descriptor that is owed a report; begins no other. */
  stopTransmit(): void {
    const { transmit, isBusMaster } = this.#parts;
    transmit.stop();
    if (isBusMaster()) while (transmit.step());
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isUndisturbed = false;
    const { receive, isBusMaster } = this.#parts;
    receive.stop();
    if (isBusMaster()) while (receive.step());
    this.stopTransmit();
    this.pushPostedWrites();
    this.#isStopped = true;
    this.#isAwake = false;
  }

  /** Takes over the stopped state of a restored device. */
  holdStill(): void {
    this.#parts.receive.stop();
    this.#parts.transmit.stop();
    this.#isStopped = true;
    this.#isAwake = false;
    this.#isTransmitTurn = false;
  }

  start(): void {
    this.#parts.receive.start();
    this.#parts.transmit.start();
    this.#isStopped = false;
    this.#mayHaveDeadline = true;
    this.wake();
  }

  #stepDatapath(): boolean {
    const { receive, transmit } = this.#parts;
    this.#isTransmitTurn = !this.#isTransmitTurn;
    return this.#isTransmitTurn ? transmit.step() || receive.step() : receive.step() || transmit.step();
  }

  #isDue(): boolean {
    if (!this.#mayHaveDeadline) return false;
    const dueMs = this.deadlineMs();
    this.#mayHaveDeadline = dueMs !== Infinity;
    return this.#mayHaveDeadline && dueMs <= this.#parts.clock.nowMs();
  }

  /**
   * A read may not pass posted writes (PCI Express Base Specification, section 2.4.1): reading the first descriptor of
   * a ring pushes out what is still on its way. It is the drain of a stopped device (hazard `late-write`), and what
   * reading a register of real hardware does by itself.
   *
   * A port that answers `later` has sent its writes before this read, in one stream with all else that its peer is told.
   * They are where the peer sees them first, and in memory for nobody else: such a VF can be moved by its peer, which
   * reads the stream, but not by anyone who looks at the memory past it.
   */
  pushPostedWrites(): void {
    const { dma, queuePairs, receive, transmit, isBusMaster } = this.#parts;
    if (!isBusMaster()) return;
    for (let queue = 0; queue < queuePairs; queue++) {
      if (this.#pushBy(dma, receive.ring(queue)) || this.#pushBy(dma, transmit.ring(queue))) return;
    }
  }

  #pushBy(dma: DmaPort, ring: RingView): boolean {
    if (ring.condition !== "ready") return false;
    if (dma.readWords(ring.base, this.#pushed, 1) === DmaStatus.later) dma.forgetReads?.();
    return true;
  }
}
