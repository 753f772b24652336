// Byte buffers seen as 32-bit words, so that short copies run over words without a new view each time.

/**
 * Remembers the word view of the buffer it was last asked for. A device copies to and from a few long-lived buffers
 * (packet buffer, frame buffer), so it is nearly always the same one.
 */
export class WordView {
  #bytes: Uint8Array | undefined;
  #words: Uint32Array | undefined;

  /** The words of `bytes`, or undefined if they do not start on a word of their buffer. */
  of(bytes: Uint8Array): Uint32Array | undefined {
    return bytes === this.#bytes ? this.#words : this.#remember(bytes);
  }

  #remember(bytes: Uint8Array): Uint32Array | undefined {
    const { buffer, byteOffset, byteLength } = bytes;
    this.#bytes = bytes;
    this.#words = (byteOffset & 3) === 0 ? new Uint32Array(buffer, byteOffset, byteLength >>> 2) : undefined;
    return this.#words;
  }
}
