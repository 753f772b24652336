// The DMA port of a real machine: a domain, the guest's memory, and those who watch the writes.
import { assert } from "../base/assert.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { DmaDomain } from "./domain.ts";
import { TRANSLATION_UNMAPPED } from "./domain.ts";
import { DmaStatus, type DmaObserver, type DmaPort } from "./dma-port.ts";
import { DmaAccess } from "./fault-log.ts";
import { WordView } from "./word-view.ts";

/**
 * Up to this many bytes a loop over words is faster than `set` with a `subarray`, whose view costs more than the copy
 * (measured by bench/vf.ts on Node 26: the two meet at about 1 KiB).
 */
const WORD_LOOP_BYTES_MAX = 1024;
/** What #locate gives for a range that is whole in the domain but lies in pieces in memory. */
const SCATTERED = -16;

/**
 * Translates, checks, copies and tells, in this order: nothing is copied until every page of the range is known to be
 * there, so a fault transfers nothing. Observers see each piece of memory before and after it changes; between the two
 * the machine hears of it (GuestMemory.deviceWrote).
 */
export class GuestDma implements DmaPort {
  readonly #memory: GuestMemory;
  readonly #domain: DmaDomain;
  readonly #observers: DmaObserver[];
  readonly #pageBytes: number;
  readonly #sourceView = new WordView();
  readonly #targetView = new WordView();

  constructor(parts: { memory: GuestMemory; domain: DmaDomain; observers?: readonly DmaObserver[] }) {
    this.#memory = parts.memory;
    this.#domain = parts.domain;
    this.#observers = [...(parts.observers ?? [])];
    this.#pageBytes = parts.memory.pages.sizeBytes;
  }

  /** Observers are called in the order they were added. */
  addObserver(observer: DmaObserver): void {
    this.#observers.push(observer);
  }

  removeObserver(observer: DmaObserver): void {
    const index = this.#observers.indexOf(observer);
    if (index >= 0) this.#observers.splice(index, 1);
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    assert((iova & 3) === 0, "a word access is aligned to 4 bytes");
    const address = this.#locate(iova, count * 4, DmaAccess.read);
    if (address >= 0) {
      const words = this.#memory.words();
      const first = address / 4;
      for (let i = 0; i < count; i++) target[i] = words[first + i] as number;
      return DmaStatus.ok;
    }
    if (address !== SCATTERED) return -address as DmaStatus;
    for (let i = 0; i < count; i++) {
      target[i] = this.#memory.words()[this.#domain.translate(iova + i * 4, DmaAccess.read) / 4] as number;
    }
    return DmaStatus.ok;
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    assert((iova & 3) === 0, "a word access is aligned to 4 bytes");
    const address = this.#locate(iova, count * 4, DmaAccess.write);
    if (address >= 0) {
      this.#writeWords(address, source, 0, count, tag);
      return DmaStatus.ok;
    }
    if (address !== SCATTERED) return -address as DmaStatus;
    for (let done = 0; done < count;) {
      const piece = Math.min(count - done, this.#bytesToPageEnd(iova + done * 4) / 4);
      this.#writeWords(this.#domain.translate(iova + done * 4, DmaAccess.write), source, done, piece, tag);
      done += piece;
    }
    return DmaStatus.ok;
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    const address = this.#locate(iova, length, DmaAccess.read);
    if (address >= 0) {
      this.#readBytes(address, target, targetOffset, length);
      return DmaStatus.ok;
    }
    if (address !== SCATTERED) return -address as DmaStatus;
    for (let done = 0; done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      this.#readBytes(this.#domain.translate(iova + done, DmaAccess.read), target, targetOffset + done, piece);
      done += piece;
    }
    return DmaStatus.ok;
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    const address = this.#locate(iova, length, DmaAccess.write);
    if (address >= 0) {
      this.#writeBytes(address, source, sourceOffset, length, tag);
      return DmaStatus.ok;
    }
    if (address !== SCATTERED) return -address as DmaStatus;
    for (let done = 0; done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      this.#writeBytes(this.#domain.translate(iova + done, DmaAccess.write), source, sourceOffset + done, piece, tag);
      done += piece;
    }
    return DmaStatus.ok;
  }

  #bytesToPageEnd(iova: number): number {
    return this.#pageBytes - (iova % this.#pageBytes);
  }

  /** Guest physical address of a range that lies in one piece, SCATTERED, or the negative of a fault that it recorded. */
  #locate(iova: number, length: number, access: DmaAccess): number {
    if (this.#domain.isIdentity) {
      if (iova + length <= this.#memory.sizeBytes && iova >= 0) return iova;
      return this.#fault(iova, length, access, TRANSLATION_UNMAPPED);
    }
    let isWhole = true;
    let first = 0;
    for (let done = 0; done === 0 || done < length;) {
      const piece = Math.min(length - done, this.#bytesToPageEnd(iova + done));
      const address = this.#domain.translate(iova + done, access);
      if (address < 0) return this.#fault(iova, length, access, address);
      if (address + piece > this.#memory.sizeBytes) return this.#fault(iova, length, access, TRANSLATION_UNMAPPED);
      if (done === 0) first = address;
      else if (address !== first + done) isWhole = false;
      if (length === 0) break;
      done += piece;
    }
    return isWhole ? first : SCATTERED;
  }

  #fault(iova: number, length: number, access: DmaAccess, translation: number): number {
    this.#domain.faults.record(iova, length, access, -translation as DmaStatus);
    return translation;
  }

  #readBytes(address: number, target: Uint8Array, offset: number, length: number): void {
    const targetWords = ((address | offset) & 3) === 0 ? this.#targetView.of(target) : undefined;
    if (targetWords === undefined || length > WORD_LOOP_BYTES_MAX) {
      target.set(this.#memory.bytes().subarray(address, address + length), offset);
      return;
    }
    const words = this.#memory.words();
    const from = address / 4;
    const to = offset >>> 2;
    const count = length >>> 2;
    for (let i = 0; i < count; i++) targetWords[to + i] = words[from + i] as number;
    if ((length & 3) !== 0) {
      const bytes = this.#memory.bytes();
      for (let i = count * 4; i < length; i++) target[offset + i] = bytes[address + i] as number;
    }
  }

  #writeBytes(address: number, source: Uint8Array, offset: number, length: number, tag: number): void {
    this.#before(address, length, tag);
    const sourceWords = ((address | offset) & 3) === 0 ? this.#sourceView.of(source) : undefined;
    if (sourceWords === undefined || length > WORD_LOOP_BYTES_MAX) {
      this.#memory.bytes().set(source.subarray(offset, offset + length), address);
    } else {
      const words = this.#memory.words();
      const from = offset >>> 2;
      const to = address / 4;
      const count = length >>> 2;
      for (let i = 0; i < count; i++) words[to + i] = sourceWords[from + i] as number;
      if ((length & 3) !== 0) {
        const bytes = this.#memory.bytes();
        for (let i = count * 4; i < length; i++) bytes[address + i] = source[offset + i] as number;
      }
    }
    this.#after(address, length, tag);
  }

  #writeWords(address: number, source: Uint32Array, from: number, count: number, tag: number): void {
    this.#before(address, count * 4, tag);
    const words = this.#memory.words();
    const first = address / 4;
    for (let i = 0; i < count; i++) words[first + i] = source[from + i] as number;
    this.#after(address, count * 4, tag);
  }

  #before(address: number, length: number, tag: number): void {
    const observers = this.#observers;
    for (let i = 0; i < observers.length; i++) observers[i]?.before?.(address, length, tag);
  }

  #after(address: number, length: number, tag: number): void {
    this.#memory.deviceWrote(address, length);
    const observers = this.#observers;
    for (let i = 0; i < observers.length; i++) observers[i]?.after?.(address, length, tag);
  }
}
