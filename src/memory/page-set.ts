// A set of page numbers as a bitmap. One writer per set; iteration allocates nothing.
import { assert, AssertionError } from "../base/assert.ts";

function populationCount(word: number): number {
  let w = word - ((word >>> 1) & 0x5555_5555);
  w = (w & 0x3333_3333) + ((w >>> 2) & 0x3333_3333);
  return Math.imul((w + (w >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** The page an address lies in. A shift where one will do: this is asked for every DMA write. */
export function pageOf(address: number, pageShift: number): number {
  return address < 0x1_0000_0000 ? address >>> pageShift : farPageOf(address, pageShift);
}

function farPageOf(address: number, pageShift: number): number {
  return Math.floor(address / 2 ** pageShift);
}

/** Apart from its callers, which are hot: an assertion there would compose its message every time. */
function outside(page: number): never {
  throw new AssertionError(`page ${page} is outside the set`);
}

export class PageSet {
  /** Number of pages the set can hold: page numbers are in [0, capacity). */
  readonly capacity: number;
  readonly #words: Uint32Array;

  constructor(capacity: number) {
    assert(Number.isSafeInteger(capacity) && capacity >= 0, `capacity ${capacity}`);
    this.capacity = capacity;
    this.#words = new Uint32Array((capacity + 31) >>> 5);
  }

  static of(capacity: number, pages: Iterable<number>): PageSet {
    const set = new PageSet(capacity);
    for (const page of pages) set.add(page);
    return set;
  }

  add(page: number): void {
    if (page < 0 || page >= this.capacity) outside(page);
    this.#words[page >>> 5] = (this.#words[page >>> 5] ?? 0) | (1 << (page & 31));
  }

  delete(page: number): void {
    if (page < 0 || page >= this.capacity) outside(page);
    this.#words[page >>> 5] = (this.#words[page >>> 5] ?? 0) & ~(1 << (page & 31));
  }

  has(page: number): boolean {
    return page >= 0 && page < this.capacity && ((this.#words[page >>> 5] ?? 0) & (1 << (page & 31))) !== 0;
  }

  /** Adds every page that [address, address + lengthBytes) touches; the part outside the set is left out. */
  addBytes(address: number, lengthBytes: number, pageShift: number): void {
    if (lengthBytes <= 0) return;
    const first = pageOf(address, pageShift);
    const last = pageOf(address + lengthBytes - 1, pageShift);
    // Nearly every DMA write lies in one page.
    if (first === last) {
      if (first < this.capacity) this.add(first);
      return;
    }
    const end = Math.min(last, this.capacity - 1);
    for (let page = first; page <= end; page++) this.add(page);
  }

  addAll(): void {
    this.#words.fill(0xffff_ffff);
    const tail = this.capacity & 31;
    if (tail !== 0) this.#words[this.#words.length - 1] = (2 ** tail - 1) >>> 0;
  }

  clear(): void {
    this.#words.fill(0);
  }

  addSet(other: PageSet): void {
    assert(other.capacity === this.capacity, "sets of different capacity");
    for (let i = 0; i < this.#words.length; i++) this.#words[i] = (this.#words[i] ?? 0) | (other.#words[i] ?? 0);
  }

  deleteSet(other: PageSet): void {
    assert(other.capacity === this.capacity, "sets of different capacity");
    for (let i = 0; i < this.#words.length; i++) this.#words[i] = (this.#words[i] ?? 0) & ~(other.#words[i] ?? 0);
  }

  /** Keeps only pages that are in both. */
  intersect(other: PageSet): void {
    assert(other.capacity === this.capacity, "sets of different capacity");
    for (let i = 0; i < this.#words.length; i++) this.#words[i] = (this.#words[i] ?? 0) & (other.#words[i] ?? 0);
  }

  /** Moves every page of this set into `target` and leaves this set empty. */
  drainInto(target: PageSet): void {
    target.addSet(this);
    this.clear();
  }

  clone(): PageSet {
    const copy = new PageSet(this.capacity);
    copy.#words.set(this.#words);
    return copy;
  }

  get size(): number {
    let count = 0;
    for (let i = 0; i < this.#words.length; i++) count += populationCount(this.#words[i] ?? 0);
    return count;
  }

  get isEmpty(): boolean {
    for (let i = 0; i < this.#words.length; i++) if (this.#words[i] !== 0) return false;
    return true;
  }

  /** The smallest member at or above `from`, or -1. The loop `for (p = set.next(0); p >= 0; p = set.next(p + 1))` visits all. */
  next(from: number): number {
    if (from >= this.capacity) return -1;
    let index = from >>> 5;
    let word = (this.#words[index] ?? 0) & (0xffff_ffff << (from & 31));
    for (;;) {
      if (word !== 0) return (index << 5) + (31 - Math.clz32(word & -word));
      index++;
      if (index >= this.#words.length) return -1;
      word = this.#words[index] ?? 0;
    }
  }

  toArray(): number[] {
    const pages: number[] = [];
    for (let page = this.next(0); page >= 0; page = this.next(page + 1)) pages.push(page);
    return pages;
  }
}
