// The cut of a receive queue: which of the device's write-backs the destination's ring shows.
import { DmaPurpose, tagIndex, tagPurpose, tagQueue } from "../iommu/dma-port.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import type { WritesAfterPause } from "./expected-image.ts";
import type { Finding } from "./findings.ts";
import { factEndOfPacket, NONE, type Attribution, type LedgerRecord } from "./ledger-record.ts";
import { descriptorLength, distance, next, previous, type ReceiveRing } from "./rings.ts";
import type { VfView } from "./vf-view.ts";

export interface CutInput {
  readonly record: LedgerRecord;
  readonly attribution: Attribution;
  readonly writes: WritesAfterPause;
  readonly destinationMemory: Uint8Array;
  readonly vfAtPause: VfView;
}

export interface FoundCut {
  readonly ring: ReceiveRing;
  /** The first descriptor not written back in memory at P: the head then, or before it if write-backs were in flight. */
  readonly first: number;
  /** The first descriptor that the image does not show done. */
  readonly cut: number;
  /** Row of the write-back after P, by descriptor. */
  readonly writeBacks: ReadonlyMap<number, number>;
  /** Rows of the write-backs after P that belong to the cut, in ring order. */
  readonly carriedRows: readonly number[];
  readonly framesCarried: number;
  readonly isInsideFrame: boolean;
  /** The frame the cut lies in was being received at P already. */
  readonly wasInsideFrameAtPause: boolean;
  readonly findings: readonly Finding[];
}

/*
 * What a slot shows is told by comparing bytes, never by DD: ixgbevf posts a descriptor by writing its address and
 * zeroing its length, and leaves the status of the last write-back, DD and EOP included, where it was
 * (ixgbevf_alloc_rx_buffers).
 */
interface SlotShows {
  /** Which of the two the lower and the upper 8 bytes equal; a half may equal both or neither. */
  readonly lowerPosted: boolean;
  readonly lowerWritten: boolean;
  readonly upperPosted: boolean;
  readonly upperWritten: boolean;
  /** A driver that looks at the length takes the descriptor for done. */
  readonly hasLength: boolean;
}

const isPosted = (shows: SlotShows): boolean => shows.lowerPosted && shows.upperPosted;
const isWritten = (shows: SlotShows): boolean => shows.lowerWritten && shows.upperWritten;

const HALF = DESCRIPTOR_BYTES / 2;

function equalHalf(a: Uint8Array, b: Uint8Array, start: number): boolean {
  for (let i = start; i < start + HALF; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Finds the cut, and everything that is wrong with the ring itself. Buffers and heads are for others to check. */
export function findCut(ring: ReceiveRing, input: CutInput): FoundCut {
  return new CutSearch(ring, input).run();
}

class CutSearch {
  readonly #ring: ReceiveRing;
  readonly #input: CutInput;
  /** Row of the write-back after P, by descriptor. */
  readonly #writeBacks: ReadonlyMap<number, number>;
  readonly #findings: Finding[] = [];
  readonly #carriedRows: number[] = [];

  constructor(ring: ReceiveRing, input: CutInput) {
    this.#ring = ring;
    this.#input = input;
    this.#writeBacks = writeBacksAfterPause(ring.queue, input);
  }

  run(): FoundCut {
    const ring = this.#ring;
    const first = this.#firstUndecided();
    let cut = first;
    while (cut !== ring.tail && this.#takesForDone(cut)) cut = next(ring, cut);
    this.#checkBehind(cut);

    const wasInside = wasInsideFrameAtPause(ring, first, this.#input);
    const { facts } = this.#input.record;
    const isEnd = (row: number): boolean => factEndOfPacket(facts[row] ?? 0);
    const ends = this.#carriedRows.filter(isEnd).length;
    const lastRow = this.#carriedRows.at(-1);
    const isInside = lastRow === undefined ? wasInside : !isEnd(lastRow);
    return {
      ring,
      first,
      cut,
      writeBacks: this.#writeBacks,
      carriedRows: this.#carriedRows,
      framesCarried: ends,
      isInsideFrame: isInside,
      wasInsideFrameAtPause: (wasInside && ends === 0) || this.#isInsideFrameInFlight(first, isEnd),
      findings: this.#findings,
    };
  }

  /**
   * At P the device was inside a frame whose first descriptors were written back and still in flight, and the cut lies in
   * that frame: it began before P, though memory did not show it yet.
   */
  #isInsideFrameInFlight(first: number, isEnd: (row: number) => boolean): boolean {
    const ring = this.#ring;
    const inFlight = distance(ring, first, ring.head);
    const deviceSaysSo = this.#input.vfAtPause.receive(ring.queue)?.frameInProgress ?? false;
    if (!deviceSaysSo || inFlight === 0 || this.#carriedRows.length < inFlight) return false;
    return !this.#carriedRows.slice(inFlight).some(isEnd);
  }

  /** The head may have passed descriptors whose write-back was still in flight at P: the ledger shows them landing later. */
  #firstUndecided(): number {
    const ring = this.#ring;
    let first = ring.head;
    let room = ring.length - 1 - distance(ring, ring.head, ring.tail);
    while (room-- > 0 && this.#writeBacks.has(previous(ring, first))) first = previous(ring, first);
    return first;
  }

  /** True while the prefix goes on; a slot that is wrong and that a driver takes for done does not end it. */
  #takesForDone(slot: number): boolean {
    const row = this.#writeBacks.get(slot);
    const shows = this.#shows(slot);
    if (shows === undefined || isPosted(shows)) return false;
    if (row !== undefined && isWritten(shows)) {
      this.#carriedRows.push(row);
      return true;
    }
    this.#reportWrongSlot(slot, shows);
    if (row === undefined || !shows.upperWritten) return false;
    this.#carriedRows.push(row);
    return true;
  }

  /** Nothing behind the first not-done descriptor may be done. */
  #checkBehind(cut: number): void {
    const ring = this.#ring;
    if (cut === ring.tail) return;
    let hole: { start: number; count: number } | undefined;
    for (let slot = next(ring, cut); slot !== ring.tail; slot = next(ring, slot)) {
      const shows = this.#shows(slot);
      if (shows !== undefined && isWritten(shows)) {
        hole ??= { start: slot, count: 0 };
        hole.count++;
        continue;
      }
      if (hole !== undefined) this.#reportHole(cut, hole.start, hole.count);
      hole = undefined;
      if (shows !== undefined && !isPosted(shows)) this.#reportWrongSlot(slot, shows);
    }
    if (hole !== undefined) this.#reportHole(cut, hole.start, hole.count);
  }

  #shows(slot: number): SlotShows | undefined {
    const address = this.#ring.slots[slot] ?? NONE;
    if (address < 0) return undefined;
    const { writes, destinationMemory } = this.#input;
    const row = this.#writeBacks.get(slot);
    const shown = destinationMemory.subarray(address, address + DESCRIPTOR_BYTES);
    const posted = writes.atPause.slice(address, DESCRIPTOR_BYTES);
    const written = row === undefined ? undefined : writes.written(row);
    return {
      lowerPosted: equalHalf(shown, posted, 0),
      lowerWritten: written !== undefined && equalHalf(shown, written, 0),
      upperPosted: equalHalf(shown, posted, HALF),
      upperWritten: written !== undefined && equalHalf(shown, written, HALF),
      hasLength: descriptorLength(shown) !== 0,
    };
  }

  #reportWrongSlot(slot: number, shows: SlotShows): void {
    const { queue } = this.#ring;
    const where = `receive queue ${queue}, descriptor ${slot}`;
    const address = this.#ring.slots[slot] ?? 0;
    const row = this.#writeBacks.get(slot);
    const frame = row === undefined ? {} : { frame: this.#input.attribution.frames[row] ?? NONE };
    const place = { address, lengthBytes: DESCRIPTOR_BYTES, queue, descriptor: slot, ...frame };
    const isLowerKnown = shows.lowerPosted || shows.lowerWritten;
    if (isLowerKnown && (shows.upperPosted || shows.upperWritten)) {
      const newHalf = shows.upperWritten ? "upper" : "lower";
      const sentence = `${where}: only the ${newHalf} 8 bytes of the write-back arrived`;
      this.#findings.push({ hazard: "torn-descriptor", sentence, ...place });
    } else if (!isLowerKnown && !shows.hasLength) {
      const sentence = `${where} is not done, and the buffer address in it is not the one the driver posted`;
      this.#findings.push({ hazard: "lost-descriptor-address", sentence, ...place });
    } else {
      const sentence = `${where} shows neither what the driver posted nor what the device wrote back`;
      this.#findings.push({ hazard: "stale-descriptor", sentence, ...place });
    }
  }

  #reportHole(cut: number, start: number, count: number): void {
    const { queue, slots } = this.#ring;
    const row = this.#writeBacks.get(start) ?? NONE;
    this.#findings.push({
      hazard: "ring-hole",
      sentence: `receive queue ${queue}: ${count} done descriptors from ${start} on, behind descriptor ${cut} which is not done`,
      address: slots[start] ?? 0,
      lengthBytes: DESCRIPTOR_BYTES * count,
      queue,
      descriptor: start,
      frame: this.#input.attribution.frames[row] ?? NONE,
    });
  }
}

function writeBacksAfterPause(queue: number, input: CutInput): ReadonlyMap<number, number> {
  const { record, writes } = input;
  const rows = new Map<number, number>();
  for (let row = writes.firstRow; row < record.rows; row++) {
    const tag = record.tags[row] ?? 0;
    if (tagPurpose(tag) === DmaPurpose.rxWriteBack && tagQueue(tag) === queue) rows.set(tagIndex(tag), row);
  }
  return rows;
}

/**
 * Whether the queue's last write-back before P left its frame unfinished. The ledger alone would remember a frame that a
 * reset cut short, and the VF alone counts write-backs that were still in flight, so both have a say.
 */
function wasInsideFrameAtPause(ring: ReceiveRing, first: number, input: CutInput): boolean {
  const { record, writes, vfAtPause } = input;
  const deviceSaysSo = vfAtPause.receive(ring.queue)?.frameInProgress ?? false;
  for (let row = writes.firstRow - 1; row >= 0; row--) {
    const tag = record.tags[row] ?? 0;
    if (tagPurpose(tag) !== DmaPurpose.rxWriteBack || tagQueue(tag) !== ring.queue) continue;
    return !factEndOfPacket(record.facts[row] ?? 0) && (deviceSaysSo || first !== ring.head);
  }
  return deviceSaysSo && first === ring.head;
}

/** Slots from the cut to the tail: posted, and not done in the image. */
export function postedSlots(cut: FoundCut): number[] {
  const count = distance(cut.ring, cut.cut, cut.ring.tail);
  return Array.from({ length: count }, (_, index) => (cut.cut + index) % cut.ring.length);
}
