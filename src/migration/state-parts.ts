// Joins the parts of an opaque state that came in several messages; the wire's decoder has checked that they fit.
import { assert } from "../base/assert.ts";

/** Holds only what came: a peer that announces much and sends little costs little. */
export class StateParts {
  readonly #name: string;
  readonly #parts: Uint8Array[] = [];
  #received = 0;

  constructor(name: string) {
    this.#name = name;
  }

  /** Adds the next part; its bytes are copied, since the message's are a view. */
  add(part: { offset: number; bytes: Uint8Array }): void {
    assert(part.offset === this.#received, `${this.#name}: a part is missing`);
    this.#parts.push(part.bytes.slice());
    this.#received += part.bytes.length;
  }

  /** All bytes; `sizeBytes` is what the peer says it sent, held against what came by the wire's decoder. */
  whole(sizeBytes: number): Uint8Array {
    assert(this.#received === sizeBytes, `${this.#name}: ${this.#received} of ${sizeBytes} bytes came`);
    const bytes = new Uint8Array(sizeBytes);
    let offset = 0;
    for (const part of this.#parts) {
      bytes.set(part, offset);
      offset += part.length;
    }
    return bytes;
  }
}
