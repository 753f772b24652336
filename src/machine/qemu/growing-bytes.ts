// Bytes collected from pieces of any size in one buffer, so that many small pieces take no more than their bytes.
const FIRST_BYTES = 1024;

export class GrowingBytes {
  #buffer = new Uint8Array(FIRST_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#buffer.length));
      larger.set(this.bytes());
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  /** All there is, good until the next call of `append`. */
  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
}
