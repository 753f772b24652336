// Guest RAM as the engine and the device see it: one flat range of bytes from guest physical address 0.
import { assert } from "../base/assert.ts";
import { pageGeometry, type PageGeometry } from "./geometry.ts";

/**
 * RAM of one guest. The typed arrays are good until the next await: a machine whose RAM lives in a WebAssembly
 * memory gets a new buffer when that memory grows, so callers ask again instead of keeping one.
 */
export interface GuestMemory {
  readonly sizeBytes: number;
  readonly pages: PageGeometry;
  bytes(): Uint8Array;
  /** The same bytes as little-endian words; RAM starts on a 4-byte boundary. */
  words(): Uint32Array;
  /**
   * The word at four times the index, read in order: not before what the reader read before it, and never a word that is
   * half old. `words()` promises neither where another thread writes the memory.
   */
  wordInOrder(index: number): number;
  /** The device wrote [address, address + length): the machine drops what it derived from those bytes (translated code). */
  deviceWrote(address: number, length: number): void;
}

/** Guest RAM in a buffer of its own, for the model machine, destinations and tests. */
export class BufferMemory implements GuestMemory {
  readonly sizeBytes: number;
  readonly pages: PageGeometry;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(sizeBytes: number, options: { pageBytes?: number; buffer?: ArrayBufferLike } = {}) {
    const buffer = options.buffer ?? new ArrayBuffer(sizeBytes);
    assert(buffer.byteLength >= sizeBytes, "the buffer is smaller than the memory");
    this.sizeBytes = sizeBytes;
    this.pages = pageGeometry(sizeBytes, options.pageBytes);
    this.#bytes = new Uint8Array(buffer, 0, sizeBytes);
    this.#words = new Uint32Array(buffer, 0, sizeBytes >>> 2);
  }

  bytes(): Uint8Array {
    return this.#bytes;
  }

  words(): Uint32Array {
    return this.#words;
  }

  wordInOrder(index: number): number {
    return Atomics.load(this.#words, index);
  }

  deviceWrote(): void {}
}
