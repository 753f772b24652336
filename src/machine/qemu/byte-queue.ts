// Bytes of a stream that came in pieces: taken in whole units, or skipped without being put together.
import { assert } from "../../base/assert.ts";

export class ByteQueue {
  #pieces: Uint8Array[] = [];
  /** Bytes of the first piece that were taken. */
  #taken = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Keeps the piece itself: it must not change afterwards. */
  push(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#pieces.push(bytes);
    this.#length += bytes.length;
  }

  /** The next `length` bytes, good until the next call, or undefined until as many are there. */
  take(length: number): Uint8Array | undefined {
    if (length > this.#length) return undefined;
    const first = this.#pieces[0];
    if (first === undefined) return new Uint8Array(0);
    if (first.length - this.#taken >= length) {
      const bytes = first.subarray(this.#taken, this.#taken + length);
      this.skip(length);
      return bytes;
    }
    const joined = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const piece = this.#pieces[0];
      assert(piece !== undefined, "the queue is as long as its pieces");
      const part = piece.subarray(this.#taken, this.#taken + length - done);
      joined.set(part, done);
      done += part.length;
      this.skip(part.length);
    }
    return joined;
  }

  /** All there is, good until the next call. */
  takeAll(): Uint8Array {
    return this.take(this.#length) as Uint8Array;
  }

  /** Drops up to `length` bytes and says how many they were. */
  skip(length: number): number {
    let left = Math.min(length, this.#length);
    const skipped = left;
    this.#length -= skipped;
    while (left > 0) {
      const piece = this.#pieces[0];
      assert(piece !== undefined, "the queue is as long as its pieces");
      const step = Math.min(left, piece.length - this.#taken);
      this.#taken += step;
      left -= step;
      if (this.#taken < piece.length) break;
      this.#pieces.shift();
      this.#taken = 0;
    }
    return skipped;
  }
}
