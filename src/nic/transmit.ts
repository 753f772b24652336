// The transmit unit: whole frames out of the guest's rings onto the wire, and their completions back, beat by beat.
import { addressFromHalves } from "../base/numbers.ts";
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";
import { QueueDirection, type DatapathHooks, type RingView, type TransmitState } from "./datapath-ports.ts";
import {
  TXD_CMD_DEXT,
  TXD_CMD_RS,
  TXD_CMD_TSE,
  TXD_CMD_VLE,
  TXD_DTYP_DATA,
  TXD_DTYP_MASK,
  TXD_IDX_MASK,
  TXD_IDX_SHIFT,
  TXD_LENGTH_MASK,
  TXD_POPTS_IXSM,
  TXD_POPTS_TXSM,
} from "./descriptors.ts";
import { ETHERNET_HEADER_BYTES, FCS_BYTES, FRAME_BYTES_MAX_WITH_FCS } from "./frame-limits.ts";
import { OutgoingFrame } from "./outgoing-frame.ts";
import { countGoodFrame, type PortCounters } from "./port-counters.ts";
import { VFGOTC_LSB, VFGOTC_MSB, VFGPTC } from "./registers.ts";
import { Segmenter } from "./segmentation.ts";
import { insertChecksums } from "./transmit-checksums.ts";
import type { TransmitContext } from "./transmit-context.ts";
import { Found, TransmitQueue } from "./transmit-queue.ts";

/** A frame to be segmented: PAYLEN has 18 bits, and the headers that a context can describe come on top. */
const LARGE_FRAME_BYTES_MAX = 0x3_ffff + 1024;
const SEGMENT_FRAME_BYTES_MAX = FRAME_BYTES_MAX_WITH_FCS - FCS_BYTES;

export interface TransmitOptions {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly hooks: DatapathHooks;
  readonly queuePairs: number;
}

/** Since the unit was made. Frames that are not sent are completed all the same, so that the driver goes on. */
export interface TransmitCounters {
  /** Frames on the wire, each segment counted. */
  sent: number;
  /** Descriptors that make no frame: reserved types, a context in the middle, too short, too long, headers that do not fit. */
  malformed: number;
  /** Frames that refer to a context slot that was never written. */
  withoutContext: number;
  /** Frames whose data could not be read. */
  dataFaults: number;
  /** A descriptor could not be read or written back: the queue stands still. */
  descriptorFaults: number;
}

const transmitCounters: PortCounters = {
  frames: VFGPTC >>> 2,
  octetsLow: VFGOTC_LSB >>> 2,
  octetsHigh: VFGOTC_MSB >>> 2,
};

const Phase = { idle: 0, report: 1, cause: 2 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

/** The frame that was gathered last. */
interface Gathered {
  length: number;
  /** Of the first data descriptor, which alone says what is to be done with the frame. */
  command: number;
  options: number;
  isMalformed: boolean;
  hasFault: boolean;
}

/**
 * Beats. A frame is read, worked on and sent in one step, which writes nothing to the guest; VFTDH moves past it. Each
 * completion is a step: DD in the RS descriptors, oldest first, or one head write-back; after a batch comes the cause.
 * Nothing is read of a frame whose end is not posted. So between any two steps the unit's state is its registers, the
 * contexts, and which RS descriptors behind the head still owe their DD (`reported`).
 *
 * WTHRESH holds completions back until that many descriptors were consumed, but never longer than the queue has frames
 * to send: hardware would wait for the interrupt timer, which here has always just run out.
 *
 * Queues take turns, a frame each.
 */
export class TransmitUnit {
  readonly counters: TransmitCounters = {
    sent: 0,
    malformed: 0,
    withoutContext: 0,
    dataFaults: 0,
    descriptorFaults: 0,
  };
  readonly #registers: Uint32Array;
  readonly #dma: DmaPort;
  readonly #hooks: DatapathHooks;
  readonly #queues: readonly TransmitQueue[];
  readonly #whole = new OutgoingFrame(LARGE_FRAME_BYTES_MAX);
  readonly #segment = new OutgoingFrame(SEGMENT_FRAME_BYTES_MAX);
  readonly #segmenter: Segmenter;
  readonly #gathered: Gathered = { length: 0, command: 0, options: 0, isMalformed: false, hasFault: false };

  #isStopped = false;
  #nextQueue = 0;
  #phase: Phase = Phase.idle;
  /** The queue that is being reported on; good while the phase is not idle. */
  #queue: TransmitQueue;

  constructor(options: TransmitOptions) {
    const { registers, dma } = options;
    this.#registers = registers;
    this.#dma = dma;
    this.#hooks = options.hooks;
    this.#queues = Array.from(
      { length: options.queuePairs },
      (_, queue) => new TransmitQueue(queue, { registers, dma }),
    );
    this.#queue = this.#queueAt(0);
    this.#segmenter = new Segmenter({
      source: this.#whole.frame,
      sourceStart: this.#whole.start,
      target: this.#segment.frame,
      targetStart: this.#segment.start,
    });
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
  }

  start(): void {
    this.#isStopped = false;
  }

  /** One frame sent, one completion written or one cause. False when nothing can be done. */
  step(): boolean {
    switch (this.#phase) {
      case Phase.idle:
        return this.#next();
      case Phase.report:
        this.#report();
        return true;
      case Phase.cause:
        this.#cause(this.#queue);
        return true;
      default:
        return false;
    }
  }

  #next(): boolean {
    for (let turn = 0; turn < this.#queues.length; turn++) {
      const index = (this.#nextQueue + turn) % this.#queues.length;
      if (this.#serve(this.#queueAt(index), index)) return true;
    }
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
      if (found === Found.fault) {
        this.#descriptorFault(queue);
        return true;
      }
      if (found === Found.frame) {
        this.#nextQueue = (index + 1) % this.#queues.length;
        this.#send(queue);
        return true;
      }
    }
    if (!queue.owesReport) return false;
    this.#queue = queue;
    this.#phase = Phase.report;
    this.#report();
    return true;
  }

  #send(queue: TransmitQueue): void {
    if (!this.#gather(queue)) {
      this.#descriptorFault(queue);
      return;
    }
    queue.consume();
    const { isMalformed, hasFault } = this.#gathered;
    if (isMalformed) this.counters.malformed++;
    else if (hasFault) this.counters.dataFaults++;
    else this.#offload(queue);
  }

  /** Reads the frame that was found. False if a descriptor cannot be read. */
  #gather(queue: TransmitQueue): boolean {
    const { ring } = queue;
    const gathered = this.#gathered;
    gathered.length = 0;
    gathered.isMalformed = false;
    gathered.hasFault = false;
    for (let i = 0, index = ring.head; i < queue.frameDescriptors; i++, index = ring.after(index)) {
      const at = queue.fetch(index);
      if (at < 0) return false;
      const command = queue.fetched[at + 2] as number;
      if (i === 0) {
        gathered.command = command;
        gathered.options = queue.fetched[at + 3] as number;
      }
      if ((command & TXD_CMD_DEXT) === 0 || (command & TXD_DTYP_MASK) !== TXD_DTYP_DATA) gathered.isMalformed = true;
      else this.#append(queue.fetched[at] as number, queue.fetched[at + 1] as number, command & TXD_LENGTH_MASK);
      if ((command & TXD_CMD_RS) !== 0) queue.owe(index);
    }
    return true;
  }

  #append(addressLow: number, addressHigh: number, length: number): void {
    const gathered = this.#gathered;
    if (gathered.length + length > LARGE_FRAME_BYTES_MAX) gathered.isMalformed = true;
    if (length === 0 || gathered.isMalformed || gathered.hasFault) return;
    const address = addressFromHalves(addressLow, addressHigh);
    const { frame, start } = this.#whole;
    const status = this.#dma.readBytes(address, frame.bytes, start + gathered.length, length);
    if (status === DmaStatus.ok) gathered.length += length;
    else gathered.hasFault = true;
  }

  #offload(queue: TransmitQueue): void {
    const { length, command, options } = this.#gathered;
    const context = queue.contexts[(options >>> TXD_IDX_SHIFT) & TXD_IDX_MASK] as TransmitContext;
    const needsContext = (command & (TXD_CMD_TSE | TXD_CMD_VLE)) | (options & (TXD_POPTS_IXSM | TXD_POPTS_TXSM));
    if (needsContext !== 0 && !context.valid) {
      this.counters.withoutContext++;
      return;
    }
    const tag = (command & TXD_CMD_VLE) !== 0 ? context.vlanTag : -1;
    if ((command & TXD_CMD_TSE) !== 0) this.#sendSegments(length, context, tag);
    else this.#sendWhole(length, context, tag);
  }

  #sendWhole(length: number, context: TransmitContext, tag: number): void {
    const { options } = this.#gathered;
    const { frame, start } = this.#whole;
    const isFrame = length >= ETHERNET_HEADER_BYTES && length <= SEGMENT_FRAME_BYTES_MAX;
    if (!isFrame || !insertChecksums(frame, start, length, context, options)) this.counters.malformed++;
    else this.#emit(this.#whole, length, tag);
  }

  #sendSegments(length: number, context: TransmitContext, tag: number): void {
    if (!this.#segmenter.begin(length, context, this.#gathered.options)) {
      this.counters.malformed++;
      return;
    }
    for (let segment = this.#segmenter.next(); segment > 0; segment = this.#segmenter.next()) {
      this.#emit(this.#segment, segment, tag);
    }
  }

  #emit(outgoing: OutgoingFrame, length: number, tag: number): void {
    const frame = tag < 0 ? outgoing.plain(length) : outgoing.tagged(length, tag);
    this.counters.sent++;
    countGoodFrame(this.#registers, transmitCounters, frame.length + FCS_BYTES);
    this.#hooks.transmit(frame);
  }

  #report(): void {
    const queue = this.#queue;
    if (queue.report() !== DmaStatus.ok) {
      this.#descriptorFault(queue);
      return;
    }
    queue.causePending = true;
    if (!queue.owesReport) this.#phase = Phase.cause;
  }

  #cause(queue: TransmitQueue): void {
    this.#phase = Phase.idle;
    queue.causePending = false;
    this.#hooks.cause(queue.ring.queue, QueueDirection.transmit);
  }

  #descriptorFault(queue: TransmitQueue): void {
    this.counters.descriptorFaults++;
    this.#phase = Phase.idle;
    queue.halt();
  }

  /** The guest wrote VFTDT. */
  tailWritten(index: number): void {
    const queue = this.#queueAt(index);
    queue.ring.check();
    this.#abandonUnready(queue);
  }

  /** The guest wrote another register of the queue. */
  queueChanged(index: number): void {
    const queue = this.#queueAt(index);
    const wasEnabled = queue.ring.isEnabled;
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
  }

  #abandonUnready(queue: TransmitQueue): void {
    if (queue.ring.isReady) return;
    queue.forgetOwed();
    if (this.#queue === queue) this.#phase = Phase.idle;
  }

  /** After the registers took their reset values. */
  reset(): void {
    this.#phase = Phase.idle;
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
