// A sparse set of byte addresses: a bitmap for each page that has any.

export interface RemovedBytes {
  readonly count: number;
  /** Lowest and highest address removed. */
  readonly first: number;
  readonly last: number;
}

export class ByteSet {
  readonly pageShift: number;
  readonly #pages = new Map<number, Uint32Array>();

  constructor(pageShift: number) {
    this.pageShift = pageShift;
  }

  /** The page's bitmap, bit b of word w for byte 32 w + b; made if there is none. */
  bitsOf(page: number): Uint32Array {
    let bits = this.#pages.get(page);
    if (bits === undefined) this.#pages.set(page, (bits = new Uint32Array(Math.ceil(2 ** this.pageShift / 32))));
    return bits;
  }

  hasPage(page: number): boolean {
    return this.#pages.has(page);
  }

  get pageCount(): number {
    return this.#pages.size;
  }

  /** Pages that have any byte, ascending. */
  pages(): number[] {
    return [...this.#pages.keys()].toSorted((a, b) => a - b);
  }

  get size(): number {
    let count = 0;
    for (const bits of this.#pages.values()) {
      for (let i = 0; i < bits.length; i++) {
        for (let word = bits[i] as number; word !== 0; word &= word - 1) count++;
      }
    }
    return count;
  }

  add(address: number, length: number): void {
    const end = address + length;
    const pageBytes = 2 ** this.pageShift;
    for (let page = this.#pageOf(address); page * pageBytes < end; page++) {
      const bits = this.bitsOf(page);
      const to = Math.min(end - page * pageBytes, pageBytes);
      for (let from = Math.max(address - page * pageBytes, 0); from < to;) {
        const count = Math.min(32 - (from & 31), to - from);
        const mask = count === 32 ? -1 : ((1 << count) - 1) << (from & 31);
        bits[from >>> 5] = (bits[from >>> 5] as number) | mask;
        from += count;
      }
    }
  }

  isEmptyPage(page: number): boolean {
    return this.#pages.get(page)?.every((word) => word === 0) ?? true;
  }

  forgetPage(page: number): void {
    this.#pages.delete(page);
  }

  /** Takes out what of [address, address + length) is in the set; undefined if nothing is. */
  remove(address: number, length: number): RemovedBytes | undefined {
    let count = 0;
    let first = -1;
    let last = -1;
    const end = address + length;
    const pageBytes = 2 ** this.pageShift;
    for (let page = this.#pageOf(address); page * pageBytes < end; page++) {
      const bits = this.#pages.get(page);
      if (bits === undefined) continue;
      const start = page * pageBytes;
      for (let byte = Math.max(address, start); byte < Math.min(end, start + pageBytes); byte++) {
        const inPage = byte - start;
        const word = bits[inPage >>> 5] as number;
        const bit = 1 << (inPage & 31);
        if ((word & bit) === 0) continue;
        bits[inPage >>> 5] = word & ~bit;
        count++;
        if (first < 0) first = byte;
        last = byte;
      }
    }
    return count === 0 ? undefined : { count, first, last };
  }

  #pageOf(address: number): number {
    return Math.floor(address / 2 ** this.pageShift);
  }
}
