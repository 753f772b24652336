// Guest memory with a few pages changed: the rest is read from an image that is never copied and never written.

/** Pages are copied when first written. Page numbers and addresses must lie in the image. */
export class PageOverlay {
  readonly base: Uint8Array;
  readonly pageShift: number;
  readonly #changed: Map<number, Uint8Array>;

  constructor(base: Uint8Array, pageShift: number, changed = new Map<number, Uint8Array>()) {
    this.base = base;
    this.pageShift = pageShift;
    this.#changed = changed;
  }

  /** A second overlay over the same image that starts with the same contents. */
  fork(): PageOverlay {
    const copies = new Map<number, Uint8Array>();
    for (const [page, bytes] of this.#changed) copies.set(page, bytes.slice());
    return new PageOverlay(this.base, this.pageShift, copies);
  }

  /** The page's own bytes if it was changed, else undefined. Not to be written. */
  changedPage(page: number): Uint8Array | undefined {
    return this.#changed.get(page);
  }

  /** The page's bytes, not to be written. */
  page(page: number): Uint8Array {
    const start = page * 2 ** this.pageShift;
    return this.#changed.get(page) ?? this.base.subarray(start, start + 2 ** this.pageShift);
  }

  read(address: number, target: Uint8Array, targetOffset: number, length: number): void {
    this.#forEachPiece(address, length, (page, inPage, done, count) => {
      target.set(this.page(page).subarray(inPage, inPage + count), targetOffset + done);
    });
  }

  /** A copy of [address, address + length), cut off at the end of memory. */
  slice(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.base.length - address)));
    this.read(address, bytes, 0, bytes.length);
    return bytes;
  }

  write(address: number, source: Uint8Array, sourceOffset: number, length: number): void {
    this.#forEachPiece(address, length, (page, inPage, done, count) => {
      this.#ownPage(page).set(source.subarray(sourceOffset + done, sourceOffset + done + count), inPage);
    });
  }

  #ownPage(page: number): Uint8Array {
    let bytes = this.#changed.get(page);
    if (bytes === undefined) this.#changed.set(page, (bytes = this.page(page).slice()));
    return bytes;
  }

  #forEachPiece(
    address: number,
    length: number,
    visit: (page: number, inPage: number, done: number, count: number) => void,
  ): void {
    const pageBytes = 2 ** this.pageShift;
    for (let done = 0; done < length;) {
      const inPage = (address + done) % pageBytes;
      const count = Math.min(length - done, pageBytes - inPage);
      visit(Math.floor((address + done) / pageBytes), inPage, done, count);
      done += count;
    }
  }
}
