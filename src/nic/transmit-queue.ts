// One transmit queue: its ring and contexts, the search for a whole frame, and the completions it owes the driver.
import { addressFromHalves } from "../base/numbers.ts";
import { DmaPurpose, DmaStatus, dmaTag, type DmaPort } from "../iommu/dma-port.ts";
import { QueueDirection, type TransmitQueueState } from "./datapath-ports.ts";
import {
  DESCRIPTOR_WORDS,
  TXD_CMD_DEXT,
  TXD_CMD_EOP,
  TXD_CMD_RS,
  TXD_DTYP_CONTEXT,
  TXD_DTYP_MASK,
  TXD_IDX_MASK,
  TXD_IDX_SHIFT,
  TXD_STAT_DD,
} from "./descriptors.ts";
import {
  DCA_TXCTRL_DESC_WRO_EN,
  TDWBAL_HEAD_WB_ENABLE,
  TXDCTL_WTHRESH_MASK,
  TXDCTL_WTHRESH_SHIFT,
  VFDCA_TXCTRL,
  VFTDWBAH,
  VFTDWBAL,
  VFTXDCTL,
} from "./registers.ts";
import { Ring, RING_DESCRIPTORS_MAX } from "./ring.ts";
import { TransmitContext } from "./transmit-context.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok, later } = DmaStatus;
const WORDS = DESCRIPTOR_WORDS;
const DEXT = TXD_CMD_DEXT;
const DTYP = TXD_DTYP_MASK;
const DTYP_CONTEXT = TXD_DTYP_CONTEXT;
const EOP = TXD_CMD_EOP;
const DD = TXD_STAT_DD;
const IDX_SHIFT = TXD_IDX_SHIFT;
const IDX_MASK = TXD_IDX_MASK;

/** Descriptors read with one DMA read; the 82599 holds 40 a queue. */
const FETCH_MAX = 32;

/** What a descriptor is, by its DEXT and DTYP. */
function isContext(command: number): boolean {
  return (command & DEXT) !== 0 && (command & DTYP) === DTYP_CONTEXT;
}

/** What `fetch` gives instead of a place. */
const FETCH_FAULT = -1;
export const FETCH_LATER = -2;

/** What the search for a frame found at the head; `later` is that the search goes on when the port has an answer. */
export const Found = { nothing: 0, frame: 1, fault: 2, later: 3 } as const;
export type Found = (typeof Found)[keyof typeof Found];
const found = Found;

function notFound(at: number): Found {
  return at === FETCH_LATER ? found.later : found.fault;
}

export class TransmitQueue {
  readonly ring: Ring;
  readonly contexts = [new TransmitContext(), new TransmitContext()] as const;
  causePending = false;
  dmaFault = false;
  /** Descriptors of the frame that `find` found, from the head on. */
  frameDescriptors = 0;
  /** Report at the next turn, whatever WTHRESH says. */
  flushDue = false;

  readonly #registers: Uint32Array;
  readonly #dma: DmaPort;
  /**
   * Descriptors fetched from the ring: `#fetchedCount` of them from index `#fetchedFirst`. They are never the whole ring,
   * so before the device comes to one of them again it has fetched another, and these are gone.
   */
  readonly fetched = new Uint32Array(FETCH_MAX * WORDS);
  #fetchedFirst = 0;
  #fetchedCount = 0;
  /** Descriptors that the port has been asked for and will give later: `#askedCount` of them, or 0, from `#askedFirst`. */
  #askedFirst = 0;
  #askedCount = 0;
  /** Descriptors from the head on that are known to hold no end of packet. */
  #searched = 0;

  /**
   * RS descriptors that were sent and not completed, oldest first, and from `#owedEnd` to `#notedEnd` those of the frame
   * that is being read. At most a ring before a batch, and one frame.
   */
  readonly #owed = new Uint16Array(2 * RING_DESCRIPTORS_MAX);
  #owedFirst = 0;
  #owedEnd = 0;
  #notedEnd = 0;
  /** Descriptors consumed since the last report, for WTHRESH. */
  #consumed = 0;
  /** After a restore: where the owed descriptors begin; -1 when `#owed` knows. */
  #owedFrom = -1;
  /** Up to here `#owed` knows already. */
  #owedSearched = 0;
  readonly #words = new Uint32Array(WORDS);

  #threshold = 0;
  #writeBackTag = 0;
  #headWriteBackTag = 0;
  /** Where head write-back goes, or -1 while it is off. */
  #headAddress = -1;

  constructor(queue: number, parts: { registers: Uint32Array; dma: DmaPort }) {
    this.ring = new Ring(parts.registers, queue, QueueDirection.transmit);
    this.#registers = parts.registers;
    this.#dma = parts.dma;
  }

  /** Reads the queue's registers again. What was fetched and searched is forgotten. */
  decode(): void {
    const registers = this.#registers;
    const { queue } = this.ring;
    const relaxed = ((registers[VFDCA_TXCTRL(queue) >>> 2] as number) & DCA_TXCTRL_DESC_WRO_EN) !== 0;
    const low = registers[VFTDWBAL(queue) >>> 2] as number;
    const high = registers[VFTDWBAH(queue) >>> 2] as number;
    this.#threshold = ((registers[VFTXDCTL(queue) >>> 2] as number) & TXDCTL_WTHRESH_MASK) >>> TXDCTL_WTHRESH_SHIFT;
    this.#writeBackTag = dmaTag(DmaPurpose.txWriteBack, queue, 0, relaxed);
    this.#headWriteBackTag = dmaTag(DmaPurpose.txHeadWriteBack, queue, 0, relaxed);
    const headAddress = addressFromHalves(low, high);
    this.#headAddress = (low & TDWBAL_HEAD_WB_ENABLE) !== 0 ? headAddress - (headAddress % 4) : -1;
    this.ring.decode(this.dmaFault ? "dma-fault" : undefined);
    this.#searched = 0;
    this.#fetchedCount = 0;
    if (this.#askedCount > 0) this.#forgetAsked();
  }

  #forgetAsked(): void {
    this.#askedCount = 0;
    this.#dma.forgetReads?.();
  }

  /** Stands still from here on until the guest disables the queue. */
  halt(): void {
    this.dmaFault = true;
    this.forgetOwed();
    this.decode();
  }

  /** Place of a descriptor's words in `fetched`, FETCH_FAULT or FETCH_LATER. The index lies before the tail. */
  fetch(index: number): number {
    const place = index - this.#fetchedFirst;
    if (place >= 0 && place < this.#fetchedCount) return place * WORDS;
    const { ring } = this;
    const end = ring.tail > index ? ring.tail : ring.descriptors;
    const isAsked = this.#askedCount > 0 && this.#askedFirst === index;
    const count = Math.min(isAsked ? this.#askedCount : FETCH_MAX, end - index);
    this.#fetchedCount = 0;
    const status = this.#dma.readWords(ring.address(index), this.fetched, count * WORDS);
    this.#askedCount = 0;
    if (status !== ok) return this.#notFetched(status, index, count);
    this.#fetchedFirst = index;
    this.#fetchedCount = count;
    return 0;
  }

  #notFetched(status: DmaStatus, index: number, count: number): number {
    if (status !== later) return FETCH_FAULT;
    this.#askedFirst = index;
    this.#askedCount = count;
    return FETCH_LATER;
  }

  /**
   * Looks for a whole frame at the head. Context descriptors before it are taken in at once, so that the head may move
   * even if nothing is found. A frame whose end is not posted yet is left alone; each descriptor of it is looked at
   * once, however often the guest rings the doorbell.
   */
  find(): Found {
    const { ring } = this;
    let { available } = ring;
    while (this.#searched === 0 && available > 0) {
      const at = this.fetch(ring.head);
      if (at < 0) return notFound(at);
      if (!isContext(this.fetched[at + 2] as number)) break;
      this.#take(at);
      ring.moveHead(ring.after(ring.head));
      this.#consumed++;
      available--;
    }
    for (; this.#searched < available; this.#searched++) {
      const index = (ring.head + this.#searched) % ring.descriptors;
      const at = this.fetch(index);
      if (at < 0) return notFound(at);
      const command = this.fetched[at + 2] as number;
      if (isContext(command) || (command & EOP) === 0) continue;
      this.frameDescriptors = this.#searched + 1;
      return found.frame;
    }
    return found.nothing;
  }

  #take(at: number): void {
    const words = this.fetched;
    const mssL4lenIdx = words[at + 3] as number;
    const slot = (mssL4lenIdx >>> IDX_SHIFT) & IDX_MASK;
    (this.contexts[slot] as TransmitContext).set(words[at] as number, words[at + 2] as number, mssL4lenIdx);
  }

  /** Moves the head past the frame that was found; what was noted of it is owed. */
  consume(): void {
    const { ring } = this;
    this.#owedEnd = this.#notedEnd;
    ring.moveHead((ring.head + this.frameDescriptors) % ring.descriptors);
    this.#consumed += this.frameDescriptors;
    this.#searched = 0;
  }

  /**
   * Notes a descriptor of the frame, at its index, as one whose completion the driver waits for once it is sent. While
   * the descriptors owed from before a restore are not searched for, that search is to find this one, too, in its order.
   */
  note(index: number): void {
    if (this.#owedFrom < 0) this.#owed[this.#notedEnd++] = index;
  }

  /** The frame that was found is not sent now: the search begins again at the head. */
  leave(): void {
    this.#notedEnd = this.#owedEnd;
    this.#searched = 0;
    this.#askedCount = 0;
  }

  get owesReport(): boolean {
    return this.#owedEnd > this.#owedFirst || this.#owedFrom >= 0;
  }

  /** Enough was consumed for a report (WTHRESH), or the driver asked for it. */
  get isReportDue(): boolean {
    return this.owesReport && (this.flushDue || this.#consumed >= this.#threshold);
  }

  /**
   * Writes one completion: DD in the oldest owed descriptor, or the head for all of them. A fault ends it: what cannot be
   * reported is forgotten. `later` if it must be read first which descriptors are owed theirs.
   */
  report(): DmaStatus {
    if (this.#owedFrom >= 0) {
      const status = this.#searchOwed();
      if (status !== ok) return status;
    }
    if (this.#owedFirst === this.#owedEnd) return ok;
    if (this.#headAddress >= 0) return this.#reportHead();
    const index = this.#owed[this.#owedFirst] as number;
    const words = this.#words;
    words[0] = 0;
    words[1] = 0;
    words[2] = 0;
    words[3] = DD;
    const address = this.ring.address(index);
    const status = this.#dma.writeWords(address, this.#words, WORDS, this.#writeBackTag | index);
    this.#owedFirst++;
    if (this.#owedFirst === this.#owedEnd) this.forgetOwed();
    return status;
  }

  #reportHead(): DmaStatus {
    const { head } = this.ring;
    this.#words[0] = head;
    this.forgetOwed();
    return this.#dma.writeWords(this.#headAddress, this.#words, 1, this.#headWriteBackTag | head);
  }

  /** After a restore, finds the RS descriptors between where the reports stopped and the head. */
  #searchOwed(): DmaStatus {
    const { ring } = this;
    for (; this.#owedSearched !== ring.head; this.#owedSearched = ring.after(this.#owedSearched)) {
      const address = ring.address(this.#owedSearched);
      const status = this.#dma.readWords(address, this.#words, WORDS);
      if (status !== ok) return status;
      const command = this.#words[2] as number;
      if ((command & TXD_CMD_RS) !== 0 && !isContext(command)) this.#owed[this.#notedEnd++] = this.#owedSearched;
    }
    this.#owedEnd = this.#notedEnd;
    this.#owedFrom = -1;
    return ok;
  }

  /** Reports nothing of what was sent so far. */
  forgetOwed(): void {
    this.#owedFirst = 0;
    this.#owedEnd = 0;
    this.#notedEnd = 0;
    this.#owedFrom = -1;
    this.#consumed = 0;
    this.flushDue = false;
  }

  save(): TransmitQueueState {
    const { causePending, dmaFault } = this;
    const [first, second] = this.contexts;
    const oldest = this.#owedFirst < this.#owedEnd ? (this.#owed[this.#owedFirst] as number) : this.ring.head;
    const reported = this.#owedFrom >= 0 ? this.#owedFrom : oldest;
    return { contexts: [first.save(), second.save()], reported, causePending, dmaFault };
  }

  restore(state: TransmitQueueState): void {
    this.clear();
    this.contexts[0].restore(state.contexts[0]);
    this.contexts[1].restore(state.contexts[1]);
    this.causePending = state.causePending;
    this.dmaFault = state.dmaFault;
    this.decode();
    const isIndex = state.reported < this.ring.descriptors;
    if (this.ring.isReady && isIndex && state.reported !== this.ring.head) {
      this.#owedFrom = state.reported;
      this.#owedSearched = state.reported;
    }
  }

  /** Forgets what was under way, as disabling or resetting the queue does. */
  clear(): void {
    for (const context of this.contexts) context.clear();
    this.causePending = false;
    this.dmaFault = false;
    this.forgetOwed();
    this.decode();
  }
}
