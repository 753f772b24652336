// What a socket did not take at once: copied, in order, and bounded.

/** Bytes waiting for room in a socket. */
export class SendQueue {
  readonly #chunks: Uint8Array[] = [];
  #waitingBytes = 0;

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Copies the bytes. */
  add(bytes: Uint8Array): void {
    this.#chunks.push(bytes.slice());
    this.#waitingBytes += bytes.length;
  }

  /**
   * Sends what there is as long as `send` takes all of it. `send` gives the bytes it took, or a negated errno, which ends
   * the attempt and is what this gives; else 0.
   */
  flush(send: (bytes: Uint8Array) => number): number {
    for (;;) {
      const first = this.#chunks[0];
      if (first === undefined) return 0;
      const taken = send(first);
      if (taken < 0) return taken;
      this.#waitingBytes -= taken;
      if (taken === first.length) this.#chunks.shift();
      else this.#chunks[0] = first.subarray(taken);
    }
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#waitingBytes = 0;
  }
}
