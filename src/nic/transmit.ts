// The transmit unit: whole frames out of the guest's rings onto the wire, and their completions back, beat by beat.
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";
import { QueueDirection, type DatapathHooks, type RingView, type TransmitState } from "./datapath-ports.ts";
import { Found, TransmitQueue } from "./transmit-queue.ts";
import { Sending, TransmitSender, type TransmitCounters } from "./transmit-sender.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok, later } = DmaStatus;
const { frame, fault } = Found;
const FOUND_LATER = Found.later;
const { done } = Sending;
const SENDING_LATER = Sending.later;
const { transmit } = QueueDirection;

export interface TransmitOptions {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly hooks: DatapathHooks;
  readonly queuePairs: number;
}

/** What the next step does; `frame` is to go on with a frame whose rest came later. */
const Phase = { idle: 0, report: 1, cause: 2, frame: 3 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

/**
 * Beats. A frame is read, worked on and sent in one step, which writes nothing to the guest; VFTDH moves past it. Each
 * completion is a step: DD in the RS descriptors, oldest first, or one head write-back; after a batch comes the cause.
 * Nothing is read of a frame whose end is not posted. So between any two steps the unit's state is its registers, the
 * contexts, and which RS descriptors behind the head still owe their DD (`reported`).
 *
 * WTHRESH holds completions back until that many descriptors were consumed, but never longer than the queue has frames
 * to send: hardware would wait for the interrupt timer, which here has always just run out.
 *
 * Queues take turns, a frame each. On a DMA port that answers `later` the unit waits for one read at a time, and a queue
 * does not lose its turn over it: others wait with it. Between two steps there may then be a frame that is half read. It
 * is no part of the saved state, since the head is not past it, and `stop` leaves it to be read again.
 */
export class TransmitUnit {
  readonly counters: TransmitCounters = {
    sent: 0,
    malformed: 0,
    withoutContext: 0,
    dataFaults: 0,
    descriptorFaults: 0,
  };
  readonly #hooks: DatapathHooks;
  readonly #queues: readonly TransmitQueue[];
  readonly #sender: TransmitSender;
  #isStopped = false;
  /** The last step found nothing to do, or nothing without an answer of the DMA port, and nothing has changed since. */
  isIdle = false;
  #nextQueue = 0;
  #phase: Phase = Phase.idle;
  /** The queue that is being reported on or read from; good while the phase is not idle. */
  #queue: TransmitQueue;

  constructor(options: TransmitOptions) {
    const { registers, dma, hooks } = options;
    this.#hooks = hooks;
    this.#queues = Array.from(
      { length: options.queuePairs },
      (_, queue) => new TransmitQueue(queue, { registers, dma }),
    );
    this.#sender = new TransmitSender({ registers, dma, hooks, counters: this.counters });
    this.#queue = this.#queueAt(0);
    this.reset();
  }

  #queueAt(queue: number): TransmitQueue {
    return this.#queues[queue] as TransmitQueue;
  }

  /** Every frame that was sent is reported, with its cause. */
  get isAtFrameBoundary(): boolean {
    return this.#phase === Phase.idle && this.#queues.every((queue) => !queue.owesReport && !queue.causePending);
  }

  /** Sends no further frame; `step` still reports what was sent. */
  stop(): void {
    this.#isStopped = true;
    this.isIdle = false;
    this.#leaveFrame();
  }

  start(): void {
    this.#isStopped = false;
    this.isIdle = false;
  }

  /**
   * One frame sent, one completion written or one cause. False when nothing can be done, or not before the DMA port has
   * an answer (DmaStatus.later); then `retry` says when to try again.
   */
  step(): boolean {
    switch (this.#phase) {
      case Phase.idle:
        return this.#next();
      case Phase.report:
        return !this.isIdle && this.#report();
      case Phase.cause:
        this.#cause(this.#queue);
        return true;
      case Phase.frame:
        return !this.isIdle && this.#resume();
      default:
        return false;
    }
  }

  /** The DMA port has answers for reads that it put off. */
  retry(): void {
    this.isIdle = false;
  }

  #next(): boolean {
    if (this.isIdle) return false;
    const count = this.#queues.length;
    let index = this.#nextQueue;
    for (let turn = 0; turn < count; turn++) {
      if (this.#serve(this.#queueAt(index), index)) return true;
      if (this.isIdle) return false;
      index = index + 1 === count ? 0 : index + 1;
    }
    this.isIdle = true;
    return false;
  }

  #serve(queue: TransmitQueue, index: number): boolean {
    if (queue.causePending && !queue.owesReport) {
      this.#cause(queue);
      return true;
    }
    if (!queue.ring.isReady) return false;
    if (!queue.isReportDue && !this.#isStopped) {
      const found = queue.find();
      if (found === fault) {
        this.#descriptorFault(queue);
        return true;
      }
      if (found === frame) {
        this.#nextQueue = index + 1 === this.#queues.length ? 0 : index + 1;
        const sending = this.#sender.send(queue);
        return sending === done || this.#notSent(queue, sending);
      }
      if (found === FOUND_LATER) {
        this.#nextQueue = index;
        return this.#wait();
      }
    }
    if (!queue.owesReport) return false;
    this.#queue = queue;
    this.#phase = Phase.report;
    return this.#report();
  }

  #resume(): boolean {
    this.#phase = Phase.idle;
    const sending = this.#sender.resume(this.#queue);
    return sending === done || this.#notSent(this.#queue, sending);
  }

  #notSent(queue: TransmitQueue, sending: Sending): boolean {
    if (sending === SENDING_LATER) {
      this.#queue = queue;
      this.#phase = Phase.frame;
      return this.#wait();
    }
    this.#descriptorFault(queue);
    return true;
  }

  /** Nothing can be done before the DMA port has an answer. */
  #wait(): boolean {
    this.isIdle = true;
    return false;
  }

  #leaveFrame(): void {
    if (this.#phase !== Phase.frame) return;
    this.#phase = Phase.idle;
    this.#sender.leave(this.#queue);
  }

  #report(): boolean {
    const queue = this.#queue;
    const status = queue.report();
    if (status !== ok) return this.#notReported(queue, status);
    queue.causePending = true;
    if (!queue.owesReport) this.#phase = Phase.cause;
    return true;
  }

  #notReported(queue: TransmitQueue, status: DmaStatus): boolean {
    if (status === later) return this.#wait();
    this.#descriptorFault(queue);
    return true;
  }

  #cause(queue: TransmitQueue): void {
    this.#phase = Phase.idle;
    queue.causePending = false;
    this.#hooks.cause(queue.ring.queue, transmit);
  }

  #descriptorFault(queue: TransmitQueue): void {
    this.counters.descriptorFaults++;
    this.#phase = Phase.idle;
    queue.halt();
  }

  /** The guest wrote VFTDT. */
  tailWritten(index: number): void {
    const queue = this.#queueAt(index);
    this.isIdle = false;
    queue.ring.check();
    this.#abandonUnready(queue);
  }

  /** The guest wrote another register of the queue. */
  queueChanged(index: number): void {
    const queue = this.#queueAt(index);
    const wasEnabled = queue.ring.isEnabled;
    this.isIdle = false;
    if (this.#queue === queue) this.#leaveFrame();
    queue.decode();
    if (queue.ring.isEnabled !== wasEnabled) {
      // A queue starts with a head of 0 and nothing under way; what a disabled one still owed is not written any more.
      if (queue.ring.isEnabled) queue.ring.moveHead(0);
      queue.clear();
    }
    this.#abandonUnready(queue);
  }

  /** The guest set VFTXDCTL.SWFLSH: completions that wait for WTHRESH go out before the next frame. */
  flush(queue: number): void {
    this.#queueAt(queue).flushDue = true;
    this.isIdle = false;
  }

  #abandonUnready(queue: TransmitQueue): void {
    if (queue.ring.isReady) return;
    if (this.#queue === queue) {
      this.#leaveFrame();
      this.#phase = Phase.idle;
    }
    queue.forgetOwed();
  }

  /** After the registers took their reset values. */
  reset(): void {
    this.#leaveFrame();
    this.#phase = Phase.idle;
    this.isIdle = false;
    this.#nextQueue = 0;
    for (const queue of this.#queues) queue.clear();
  }

  ring(queue: number): RingView {
    return this.#queueAt(queue).ring.view();
  }

  save(): TransmitState {
    return { queues: this.#queues.map((queue) => queue.save()), nextQueue: this.#nextQueue };
  }

  /** After the registers were restored. The guest's memory is not looked at before the next step. */
  restore(state: TransmitState): void {
    this.reset();
    this.#nextQueue = state.nextQueue < this.#queues.length ? state.nextQueue : 0;
    for (const [index, queue] of this.#queues.entries()) {
      const saved = state.queues[index];
      if (saved !== undefined) queue.restore(saved);
    }
  }
}
