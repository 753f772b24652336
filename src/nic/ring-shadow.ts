// The shadow of the receive rings: what the driver posted in each slot, which the device's write-back destroys in memory.
import { addressFromHalves } from "../base/numbers.ts";
import { DmaAccess } from "../iommu/fault-log.ts";
import type { DmaDomain } from "../iommu/domain.ts";
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";
import type { PageGeometry } from "../memory/geometry.ts";
import type { PageSet } from "../memory/page-set.ts";
import { QueueDirection } from "./datapath-ports.ts";
import { DESCRIPTOR_BYTES, DESCRIPTOR_WORDS } from "./descriptors.ts";
import {
  SRRCTL_BSIZEPKT_MASK,
  SRRCTL_BSIZEPKT_UNIT_BYTES,
  TDWBAL_HEAD_WB_ENABLE,
  VFSRRCTL,
  VFTDWBAH,
  VFTDWBAL,
} from "./registers.ts";
import { Ring, RING_DESCRIPTORS_MAX } from "./ring.ts";

/** Descriptors read with one DMA read; ixgbevf posts 16 at a time, and a whole ring once. */
const FETCH_MAX = 64;
/** Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use. */
const SLOT_WORDS = DESCRIPTOR_WORDS;

/** Hears of every buffer that the device may write from now on, and of every one it will not write any more. */
export interface BufferListener {
  posted(address: number, lengthBytes: number): void;
  released(address: number, lengthBytes: number): void;
}

export interface RingShadowOptions {
  readonly registers: Uint32Array;
  /** Descriptors are read as the device reads them. */
  readonly dma: DmaPort;
  readonly domain: DmaDomain;
  readonly queuePairs: number;
  /** Unit of SRRCTL.BSIZEPKT; see ReceiveOptions. */
  readonly bufferUnitBytes?: number;
  readonly listener?: BufferListener;
}

/** The shadow of one ring. */
class Slots {
  readonly ring: Ring;
  bufferBytes = 0;
  /** Up to here the driver's postings are known. */
  tail = 0;
  /** Four words a slot, as posted. */
  readonly words = new Uint32Array(RING_DESCRIPTORS_MAX * DESCRIPTOR_WORDS);
  readonly isPosted = new Uint8Array(RING_DESCRIPTORS_MAX);
  /** Geometry that the postings belong to; another one begins a new life of the ring. */
  base = -1;
  descriptors = 0;

  constructor(registers: Uint32Array, queue: number) {
    this.ring = new Ring(registers, queue, QueueDirection.receive);
  }
}

/**
 * A posted descriptor cannot be told from a done one by its status bits: ixgbevf clears nothing but the length of the
 * *next* descriptor when it posts one (ixgbevf_alloc_rx_buffers), so a posted one carries DD and EOP of its last use. It
 * is done when its 16 bytes differ from what was posted, and this is who remembers what was posted.
 *
 * A posting lasts until its slot is posted again, or the queue is disabled, reset, or given another ring. It does not end
 * with the write-back: until the driver posts the slot again it may not even have looked at the buffer.
 *
 * Whoever owns the VF calls the entry points below right after the receive unit's, before the device takes another step.
 * The DMA port must answer at once: on one that answers `later` the shadow would not know a posting in time, and takes
 * the answer for a fault.
 */
export class RingShadow {
  readonly #options: RingShadowOptions;
  readonly #bufferUnitBytes: number;
  readonly #receive: readonly Slots[];
  readonly #transmit: readonly Ring[];
  readonly #fetched = new Uint32Array(FETCH_MAX * DESCRIPTOR_WORDS);

  constructor(options: RingShadowOptions) {
    const { registers, queuePairs } = options;
    this.#options = options;
    this.#bufferUnitBytes = options.bufferUnitBytes ?? SRRCTL_BSIZEPKT_UNIT_BYTES;
    this.#receive = Array.from({ length: queuePairs }, (_, queue) => new Slots(registers, queue));
    this.#transmit = Array.from(
      { length: queuePairs },
      (_, queue) => new Ring(registers, queue, QueueDirection.transmit),
    );
    this.rebuild();
  }

  #slotsOf(queue: number): Slots {
    return this.#receive[queue] as Slots;
  }

  /** The guest wrote VFRDT: everything from the old tail up to the new one is posted. */
  tailWritten(queue: number): void {
    const slots = this.#slotsOf(queue);
    slots.ring.check();
    if (slots.ring.isReady) this.#post(slots);
  }

  /** The guest wrote another register of the receive queue. */
  queueChanged(queue: number): void {
    const slots = this.#slotsOf(queue);
    const wasEnabled = slots.ring.isEnabled;
    this.#decode(slots);
    const { ring } = slots;
    if (ring.isEnabled && !wasEnabled) this.#begin(slots, 0);
    else if (!ring.isEnabled && wasEnabled) this.#end(slots);
    else if (ring.isReady && this.#hasMoved(slots)) this.#begin(slots, ring.head);
  }

  /** After the registers took their reset values, or were restored: knows what lies between head and tail, no more. */
  rebuild(): void {
    for (const slots of this.#receive) {
      this.#decode(slots);
      if (slots.ring.isReady) this.#begin(slots, slots.ring.head);
      else this.#end(slots);
    }
  }

  #decode(slots: Slots): void {
    const { registers } = this.#options;
    slots.ring.decode();
    const srrctl = registers[VFSRRCTL(slots.ring.queue) >>> 2] as number;
    // The device uses the size of now for postings of before, too.
    const bufferBytes = (srrctl & SRRCTL_BSIZEPKT_MASK) * this.#bufferUnitBytes;
    if (bufferBytes !== slots.bufferBytes) this.#resize(slots, bufferBytes);
  }

  #resize(slots: Slots, bufferBytes: number): void {
    const { listener } = this.#options;
    const bufferBytesBefore = slots.bufferBytes;
    slots.bufferBytes = bufferBytes;
    if (listener === undefined) return;
    for (let slot = 0; slot < slots.descriptors; slot++) {
      if (slots.isPosted[slot] === 0) continue;
      const address = bufferAddress(slots.words, slot);
      listener.posted(address, bufferBytes);
      listener.released(address, bufferBytesBefore);
    }
  }

  #hasMoved(slots: Slots): boolean {
    return slots.base !== slots.ring.base || slots.descriptors !== slots.ring.descriptors;
  }

  #begin(slots: Slots, from: number): void {
    this.#end(slots);
    slots.base = slots.ring.base;
    slots.descriptors = slots.ring.descriptors;
    slots.tail = from;
    if (slots.ring.isReady) this.#post(slots);
  }

  #end(slots: Slots): void {
    for (let slot = 0; slot < slots.descriptors; slot++) this.#release(slots, slot);
    slots.descriptors = 0;
    slots.base = -1;
  }

  #post(slots: Slots): void {
    const { ring } = slots;
    if (this.#hasMoved(slots)) {
      this.#begin(slots, ring.head);
      return;
    }
    const { tail } = ring;
    while (slots.tail !== tail) {
      const first = slots.tail;
      const count = Math.min(FETCH_MAX, (tail > first ? tail : ring.descriptors) - first);
      const status = this.#options.dma.readWords(ring.address(first), this.#fetched, count * SLOT_WORDS);
      if (status === DmaStatus.ok) this.#replace(slots, first, count);
      else for (let i = 0; i < count; i++) this.#release(slots, first + i);
      slots.tail = first + count === ring.descriptors ? 0 : first + count;
    }
  }

  /** Takes in what was fetched for `count` slots from `first` on. */
  #replace(slots: Slots, first: number, count: number): void {
    const { words, isPosted } = slots;
    const fetched = this.#fetched;
    for (let i = 0; i < count; i++) {
      const slot = first + i;
      const from = i * SLOT_WORDS;
      const at = slot * SLOT_WORDS;
      const low = fetched[from] as number;
      const high = fetched[from + 1] as number;
      words[at + 2] = fetched[from + 2] as number;
      words[at + 3] = fetched[from + 3] as number;
      if (isPosted[slot] === 1 && words[at] === low && words[at + 1] === high) continue;
      this.#exchange(slots, slot, low, high);
    }
  }

  /** The new buffer is posted before the old one is released, so that a page they share is mapped all along. */
  #exchange(slots: Slots, slot: number, low: number, high: number): void {
    const { listener } = this.#options;
    const { words, isPosted, bufferBytes } = slots;
    const wasPosted = isPosted[slot] === 1;
    const before = bufferAddress(words, slot);
    words[slot * SLOT_WORDS] = low;
    words[slot * SLOT_WORDS + 1] = high;
    isPosted[slot] = 1;
    listener?.posted(bufferAddress(words, slot), bufferBytes);
    if (wasPosted) listener?.released(before, bufferBytes);
  }

  #release(slots: Slots, slot: number): void {
    if (slots.isPosted[slot] === 0) return;
    slots.isPosted[slot] = 0;
    this.#options.listener?.released(bufferAddress(slots.words, slot), slots.bufferBytes);
  }

  /** Whether the driver posted the slot and has not posted it again since, written back or not. */
  isPosted(queue: number, slot: number): boolean {
    return this.#slotsOf(queue).isPosted[slot] === 1;
  }

  /** Copies the four words that the driver posted into target[0..4). False if the slot is not posted. */
  postedWords(queue: number, slot: number, target: Uint32Array): boolean {
    const slots = this.#slotsOf(queue);
    if (slots.isPosted[slot] !== 1) return false;
    for (let i = 0; i < DESCRIPTOR_WORDS; i++) target[i] = slots.words[slot * SLOT_WORDS + i] as number;
    return true;
  }

  /**
   * Adds the guest pages that hold the rings of enabled queues of both directions, and the words of head write-back: the
   * pages, besides buffers, that the device writes.
   */
  ringPagesInto(into: PageSet, pages: PageGeometry): void {
    const { registers } = this.#options;
    for (const slots of this.#receive) this.#addRing(slots.ring, into, pages);
    for (const ring of this.#transmit) {
      ring.decode();
      this.#addRing(ring, into, pages);
      const low = registers[VFTDWBAL(ring.queue) >>> 2] as number;
      const high = registers[VFTDWBAH(ring.queue) >>> 2] as number;
      if (ring.isEnabled && (low & TDWBAL_HEAD_WB_ENABLE) !== 0) {
        this.#addPage(addressFromHalves(low & ~3, high), into, pages);
      }
    }
  }

  #addRing(ring: Ring, into: PageSet, pages: PageGeometry): void {
    if (!ring.isEnabled) return;
    const bytes = ring.descriptors * DESCRIPTOR_BYTES;
    const start = ring.base - (ring.base % pages.sizeBytes);
    for (let address = start; address < ring.base + bytes; address += pages.sizeBytes) {
      this.#addPage(address, into, pages);
    }
  }

  #addPage(iova: number, into: PageSet, pages: PageGeometry): void {
    const address = this.#options.domain.translate(iova, DmaAccess.write);
    const page = Math.floor(address / pages.sizeBytes);
    if (address >= 0 && page < pages.count) into.add(page);
  }
}

function bufferAddress(words: Uint32Array, slot: number): number {
  const at = slot * SLOT_WORDS;
  return addressFromHalves(words[at] as number, words[at + 1] as number);
}
