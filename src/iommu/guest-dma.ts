// The DMA port of a real machine: a domain, the guest's memory, and those who watch the writes.
import { assert, AssertionError } from "../base/assert.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { DmaDomain } from "./domain.ts";
import { TRANSLATION_UNMAPPED } from "./domain.ts";
import { DmaStatus, type DmaObserver, type DmaPort } from "./dma-port.ts";
import { DmaAccess } from "./fault-log.ts";
import { WordView } from "./word-view.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok } = DmaStatus;
const { read, write } = DmaAccess;

/**
 * Up to this many bytes a loop over words is faster than `set` with a `subarray`, whose view costs more than the copy
 * (measured by bench/vf.ts on Node 26: the two meet at about 1 KiB).
 */
const WORD_LOOP_BYTES_MAX = 1024;
/** Words of RAM are counted in 31 bits. */
const MEMORY_BYTES_MAX = 2 ** 33;
/** What #locate gives for a range that is whole in the domain but lies in pieces in memory. */
const SCATTERED = -16;

type Before = Required<Pick<DmaObserver, "before">>;
type After = Required<Pick<DmaObserver, "after">>;
const wantsBefore = (observer: DmaObserver): observer is Before => observer.before !== undefined;
const wantsAfter = (observer: DmaObserver): observer is After => observer.after !== undefined;

function remove(list: DmaObserver[], observer: DmaObserver): void {
  const index = list.indexOf(observer);
  if (index >= 0) list.splice(index, 1);
}

/** Apart from its callers, which are hot, and shorter so. */
function misaligned(iova: number): never {
  throw new AssertionError(`a word access is aligned to 4 bytes, and ${iova} is not`);
}

/** Index of the word at an aligned address; the shift spares most memories a division of doubles. */
function wordIndex(address: number): number {
  return address < 0x1_0000_0000 ? address >>> 2 : address / 4;
}

/** Indices are below 2^31, which `| 0` tells the compiler: it computes them without looking for an overflow. */
function copyWords(target: Uint32Array, to: number, source: Uint32Array, from: number, count: number): void {
  for (let i = 0; i < count; i++) target[(to + i) | 0] = source[(from + i) | 0] as number;
}

/**
 * Translates, checks, copies and tells, in this order: nothing is copied until every page of the range is known to be
 * there, so a fault transfers nothing. Observers see each piece of memory before and after it changes; between the two
 * the machine hears of it (GuestMemory.deviceWrote).
 *
 * The four accesses are kept short, and all that is rare lies apart from them, so that the compiler can inline them.
 */
export class GuestDma implements DmaPort {
  readonly #memory: GuestMemory;
  readonly #domain: DmaDomain;
  /** Those who watch, by what they want to hear: most only `after`. */
  readonly #before: Before[] = [];
  readonly #after: After[] = [];
  readonly #pageBytes: number;
  readonly #memoryBytes: number;
  /** The domain is the identity, and a range is located by a comparison. */
  readonly #isFlat: boolean;
  readonly #sourceView = new WordView();
  readonly #targetView = new WordView();

  constructor(parts: { memory: GuestMemory; domain: DmaDomain; observers?: readonly DmaObserver[] }) {
    assert(parts.memory.sizeBytes <= MEMORY_BYTES_MAX, `RAM of ${parts.memory.sizeBytes} bytes`);
    this.#memory = parts.memory;
    this.#domain = parts.domain;
    this.#pageBytes = parts.memory.pages.sizeBytes;
    this.#memoryBytes = parts.memory.sizeBytes;
    this.#isFlat = parts.domain.isIdentity;
    for (const observer of parts.observers ?? []) this.addObserver(observer);
  }

  /** Observers are called in the order they were added. */
  addObserver(observer: DmaObserver): void {
    if (wantsBefore(observer)) this.#before.push(observer);
    if (wantsAfter(observer)) this.#after.push(observer);
  }

  removeObserver(observer: DmaObserver): void {
    remove(this.#before, observer);
    remove(this.#after, observer);
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    if ((iova & 3) !== 0) misaligned(iova);
    const address = this.#locate(iova, count * 4, read);
    if (address < 0) return this.#readScatteredWords(address, iova, target, count);
    const words = this.#memory.words();
    const first = wordIndex(address);
    copyWords(target, 0, words, first, count);
    return ok;
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    if ((iova & 3) !== 0) misaligned(iova);
    const address = this.#locate(iova, count * 4, write);
    if (address < 0) return this.#writeScatteredWords(address, iova, source, count, tag);
    this.#putWords(address, source, 0, count, tag);
    return ok;
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    const address = this.#locate(iova, length, read);
    if (address < 0) return this.#readScatteredBytes(address, iova, target, targetOffset, length);
    this.#getBytes(address, target, targetOffset, length);
    return ok;
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    const address = this.#locate(iova, length, write);
    if (address < 0) return this.#writeScatteredBytes(address, iova, source, sourceOffset, length, tag);
    this.#putBytes(address, source, sourceOffset, length, tag);
    return ok;
  }

  /** Guest physical address of a range that lies in one piece, SCATTERED, or the negative of a fault that it recorded. */
  #locate(iova: number, length: number, access: DmaAccess): number {
    if (this.#isFlat && iova >= 0 && iova + length <= this.#memoryBytes) return iova;
    return this.#translate(iova, length, access);
  }

  #translate(iova: number, length: number, access: DmaAccess): number {
    let isWhole = true;
    let first = 0;
    for (let done = 0; done === 0 || done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      const address = this.#domain.translate(iova + done, access);
      if (address < 0) return this.#fault(iova, length, access, address);
      if (address + piece > this.#memoryBytes) return this.#fault(iova, length, access, TRANSLATION_UNMAPPED);
      if (done === 0) first = address;
      else if (address !== first + done) isWhole = false;
      done += piece;
    }
    return isWhole ? first : SCATTERED;
  }

  #bytesToPageEnd(iova: number): number {
    return this.#pageBytes - (iova % this.#pageBytes);
  }

  #fault(iova: number, length: number, access: DmaAccess, translation: number): number {
    this.#domain.faults.record(iova, length, access, -translation as DmaStatus);
    return translation;
  }

  #getBytes(address: number, target: Uint8Array, offset: number, length: number): void {
    const isAligned = ((address | offset) & 3) === 0 && length <= WORD_LOOP_BYTES_MAX;
    const targetWords = isAligned ? this.#targetView.of(target) : undefined;
    if (targetWords === undefined) {
      target.set(this.#memory.bytes().subarray(address, address + length), offset);
      return;
    }
    const words = this.#memory.words();
    const from = wordIndex(address);
    const to = offset >>> 2;
    const count = length >>> 2;
    copyWords(targetWords, to, words, from, count);
    if ((length & 3) === 0) return;
    const bytes = this.#memory.bytes();
    for (let i = count * 4; i < length; i++) target[offset + i] = bytes[address + i] as number;
  }

  #putBytes(address: number, source: Uint8Array, offset: number, length: number, tag: number): void {
    if (this.#before.length > 0) this.#tellBefore(address, length, tag);
    const isAligned = ((address | offset) & 3) === 0 && length <= WORD_LOOP_BYTES_MAX;
    const sourceWords = isAligned ? this.#sourceView.of(source) : undefined;
    if (sourceWords === undefined) {
      this.#memory.bytes().set(source.subarray(offset, offset + length), address);
    } else {
      const words = this.#memory.words();
      const from = offset >>> 2;
      const to = wordIndex(address);
      const count = length >>> 2;
      copyWords(words, to, sourceWords, from, count);
      if ((length & 3) !== 0) this.#putTail(address, source, offset, length);
    }
    this.#memory.deviceWrote(address, length);
    if (this.#after.length > 0) this.#tellAfter(address, length, tag);
  }

  #putTail(address: number, source: Uint8Array, offset: number, length: number): void {
    const bytes = this.#memory.bytes();
    for (let i = length & ~3; i < length; i++) bytes[address + i] = source[offset + i] as number;
  }

  #putWords(address: number, source: Uint32Array, from: number, count: number, tag: number): void {
    if (this.#before.length > 0) this.#tellBefore(address, count * 4, tag);
    const words = this.#memory.words();
    const first = wordIndex(address);
    copyWords(words, first, source, from, count);
    this.#memory.deviceWrote(address, count * 4);
    if (this.#after.length > 0) this.#tellAfter(address, count * 4, tag);
  }

  #tellBefore(address: number, length: number, tag: number): void {
    const observers = this.#before;
    for (let i = 0; i < observers.length; i++) (observers[i] as Before).before(address, length, tag);
  }

  #tellAfter(address: number, length: number, tag: number): void {
    const observers = this.#after;
    for (let i = 0; i < observers.length; i++) (observers[i] as After).after(address, length, tag);
  }

  // What #locate gave a negative number for: a fault, or pieces.

  #readScatteredWords(located: number, iova: number, target: Uint32Array, count: number): DmaStatus {
    if (located !== SCATTERED) return -located as DmaStatus;
    for (let i = 0; i < count; i++) {
      target[i] = this.#memory.words()[this.#domain.translate(iova + i * 4, read) / 4] as number;
    }
    return ok;
  }

  #writeScatteredWords(located: number, iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    if (located !== SCATTERED) return -located as DmaStatus;
    for (let done = 0; done < count;) {
      const piece = Math.min(count - done, this.#bytesToPageEnd(iova + done * 4) / 4);
      this.#putWords(this.#domain.translate(iova + done * 4, write), source, done, piece, tag);
      done += piece;
    }
    return ok;
  }

  #readScatteredBytes(located: number, iova: number, target: Uint8Array, offset: number, length: number): DmaStatus {
    if (located !== SCATTERED) return -located as DmaStatus;
    for (let done = 0; done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      this.#getBytes(this.#domain.translate(iova + done, read), target, offset + done, piece);
      done += piece;
    }
    return ok;
  }

  #writeScatteredBytes(
    located: number,
    iova: number,
    source: Uint8Array,
    offset: number,
    length: number,
    tag: number,
  ): DmaStatus {
    if (located !== SCATTERED) return -located as DmaStatus;
    for (let done = 0; done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      this.#putBytes(this.#domain.translate(iova + done, write), source, offset + done, piece, tag);
      done += piece;
    }
    return ok;
  }
}
