// Takes one whole frame from a transmit queue to the wire: reads it, inserts what the driver left out, cuts it if asked.
import { addressFromHalves } from "../base/numbers.ts";
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";
import type { DatapathHooks } from "./datapath-ports.ts";
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
import { FETCH_LATER, type TransmitQueue } from "./transmit-queue.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok, later } = DmaStatus;
const DEXT = TXD_CMD_DEXT;
const DTYP = TXD_DTYP_MASK;
const DTYP_DATA = TXD_DTYP_DATA;
const LENGTH = TXD_LENGTH_MASK;
const RS = TXD_CMD_RS;
const TSE = TXD_CMD_TSE;
const VLE = TXD_CMD_VLE;
const IDX_SHIFT = TXD_IDX_SHIFT;
const IDX_MASK = TXD_IDX_MASK;
const POPTS = TXD_POPTS_IXSM | TXD_POPTS_TXSM;
const HEADER = ETHERNET_HEADER_BYTES;
const FCS = FCS_BYTES;

/** A frame to be segmented: PAYLEN has 18 bits, and the headers that a context can describe come on top. */
const LARGE_FRAME_BYTES_MAX = 0x3_ffff + 1024;
const FRAME_BYTES_MAX = FRAME_BYTES_MAX_WITH_FCS - FCS_BYTES;

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

const goodFrames: PortCounters = {
  frames: VFGPTC >>> 2,
  octetsLow: VFGOTC_LSB >>> 2,
  octetsHigh: VFGOTC_MSB >>> 2,
};

/** What became of a frame. `later` is that the rest of it is read when the DMA port has an answer. */
export const Sending = { done: 0, fault: 1, later: 2 } as const;
export type Sending = (typeof Sending)[keyof typeof Sending];
const { done, fault } = Sending;
const LATER = Sending.later;

export interface TransmitSenderParts {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly hooks: Pick<DatapathHooks, "transmit">;
  readonly counters: TransmitCounters;
}

export class TransmitSender {
  readonly #registers: Uint32Array;
  readonly #dma: DmaPort;
  readonly #hooks: Pick<DatapathHooks, "transmit">;
  readonly #counters: TransmitCounters;
  readonly #whole = new OutgoingFrame(LARGE_FRAME_BYTES_MAX);
  readonly #segment = new OutgoingFrame(FRAME_BYTES_MAX);
  readonly #segmenter: Segmenter;

  // The frame that was gathered last. Its first descriptor alone says what is to be done with it.
  /** Descriptors of it that are read with their data, when the rest comes later. */
  #gathered = 0;
  #length = 0;
  #command = 0;
  #options = 0;
  #isMalformed = false;
  #hasFault = false;

  constructor(parts: TransmitSenderParts) {
    this.#registers = parts.registers;
    this.#dma = parts.dma;
    this.#hooks = parts.hooks;
    this.#counters = parts.counters;
    this.#segmenter = new Segmenter({
      source: this.#whole.frame,
      sourceStart: this.#whole.start,
      target: this.#segment.frame,
      targetStart: this.#segment.start,
    });
  }

  /** Sends the frame that `queue.find` found and moves the head past it. `fault` if a descriptor cannot be read. */
  send(queue: TransmitQueue): Sending {
    this.#length = 0;
    this.#isMalformed = false;
    this.#hasFault = false;
    return this.#sendFrom(queue, queue.ring.head, 0);
  }

  /** Goes on with a frame whose rest came later. It is the last one that `send` was called for. */
  resume(queue: TransmitQueue): Sending {
    const { head, descriptors } = queue.ring;
    return this.#sendFrom(queue, (head + this.#gathered) % descriptors, this.#gathered);
  }

  #sendFrom(queue: TransmitQueue, index: number, gathered: number): Sending {
    const result = this.#gather(queue, index, gathered);
    if (result !== done) return result;
    queue.consume();
    if (this.#isMalformed) this.#counters.malformed++;
    else if (this.#hasFault) this.#counters.dataFaults++;
    else this.#offload(queue);
    return done;
  }

  /** Nobody will resume the frame that is under way. */
  leave(queue: TransmitQueue): void {
    queue.leave();
    this.#dma.forgetReads?.();
  }

  /** Reads the frame from its descriptor `gathered` on, whose index is `first`. */
  #gather(queue: TransmitQueue, first: number, gathered: number): Sending {
    const { ring } = queue;
    for (let i = gathered, index = first; i < queue.frameDescriptors; i++, index = ring.after(index)) {
      const at = queue.fetch(index);
      if (at < 0) return this.#without(i, at === FETCH_LATER);
      const command = queue.fetched[at + 2] as number;
      if (i === 0) {
        this.#command = command;
        this.#options = queue.fetched[at + 3] as number;
      }
      if ((command & DEXT) === 0 || (command & DTYP) !== DTYP_DATA) this.#isMalformed = true;
      else if (!this.#append(queue.fetched[at] as number, queue.fetched[at + 1] as number, command & LENGTH)) {
        return this.#without(i, true);
      }
      if ((command & RS) !== 0) queue.note(index);
    }
    return done;
  }

  #without(gathered: number, isLater: boolean): Sending {
    this.#gathered = gathered;
    return isLater ? LATER : fault;
  }

  /** False if the data comes later. */
  #append(addressLow: number, addressHigh: number, length: number): boolean {
    if (this.#length + length > LARGE_FRAME_BYTES_MAX) this.#isMalformed = true;
    if (length === 0 || this.#isMalformed || this.#hasFault) return true;
    const address = addressFromHalves(addressLow, addressHigh);
    const { frame, start } = this.#whole;
    const status = this.#dma.readBytes(address, frame.bytes, start + this.#length, length);
    if (status === ok) this.#length += length;
    else if (status === later) return false;
    else this.#hasFault = true;
    return true;
  }

  #offload(queue: TransmitQueue): void {
    const command = this.#command;
    const options = this.#options;
    const context = queue.contexts[(options >>> IDX_SHIFT) & IDX_MASK] as TransmitContext;
    const needsContext = (command & (TSE | VLE)) | (options & POPTS);
    if (needsContext !== 0 && !context.valid) {
      this.#counters.withoutContext++;
      return;
    }
    const tag = (command & VLE) !== 0 ? context.vlanTag : -1;
    if ((command & TSE) !== 0) this.#sendSegments(context, tag);
    else this.#sendWhole(context, tag);
  }

  #sendWhole(context: TransmitContext, tag: number): void {
    const length = this.#length;
    const { frame, start } = this.#whole;
    const isFrame = length >= HEADER && length <= FRAME_BYTES_MAX;
    if (!isFrame || !insertChecksums(frame, start, length, context, this.#options)) this.#counters.malformed++;
    else this.#emit(this.#whole, length, tag);
  }

  #sendSegments(context: TransmitContext, tag: number): void {
    if (!this.#segmenter.begin(this.#length, context, this.#options)) {
      this.#counters.malformed++;
      return;
    }
    for (let segment = this.#segmenter.next(); segment > 0; segment = this.#segmenter.next()) {
      this.#emit(this.#segment, segment, tag);
    }
  }

  #emit(outgoing: OutgoingFrame, length: number, tag: number): void {
    const frame = tag < 0 ? outgoing.plain(length) : outgoing.tagged(length, tag);
    this.#counters.sent++;
    countGoodFrame(this.#registers, goodFrames, frame.length + FCS);
    this.#hooks.transmit(frame);
  }
}
