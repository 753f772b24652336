// Lines of JSON out of a byte stream that comes in pieces: bounded in length, strict UTF-8.

/** Why the stream cannot be made sense of; nothing after it is read. */
export type LineProblem = "too-long" | "not-json";

/**
 * Takes the stream in chunks of any size and gives one parsed value for each line that is not blank. A line longer than
 * `lineBytesMax`, and one that is not JSON in UTF-8, end the stream: `problem` is set and all that follows is ignored.
 */
export class JsonLines {
  readonly #lineBytesMax: number;
  readonly #onValue: (value: unknown) => void;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  /** Beginning of a line that the chunks so far did not end. */
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #problem: LineProblem | undefined;

  constructor(options: { readonly lineBytesMax: number; readonly onValue: (value: unknown) => void }) {
    this.#lineBytesMax = options.lineBytesMax;
    this.#onValue = options.onValue;
  }

  get problem(): LineProblem | undefined {
    return this.#problem;
  }

  /** Calls `onValue` for each line that this chunk ends. False when the stream is broken. Keeps no chunk. */
  push(chunk: Uint8Array): boolean {
    let start = 0;
    while (this.#problem === undefined) {
      const end = chunk.indexOf(0x0a, start);
      if (this.#heldBytes + (end < 0 ? chunk.length : end) - start > this.#lineBytesMax) this.#problem = "too-long";
      else if (end < 0) {
        this.#hold(chunk.slice(start));
        break;
      } else this.#line(chunk.subarray(start, end));
      start = end + 1;
    }
    return this.#problem === undefined;
  }

  #hold(piece: Uint8Array): void {
    if (piece.length === 0) return;
    this.#held.push(piece);
    this.#heldBytes += piece.length;
  }

  #line(tail: Uint8Array): void {
    const bytes = this.#joined(tail);
    let value: unknown;
    try {
      const text = this.#decoder.decode(bytes);
      if (text.trim() === "") return;
      value = JSON.parse(text);
    } catch {
      this.#problem = "not-json";
      return;
    }
    this.#onValue(value);
  }

  #joined(tail: Uint8Array): Uint8Array {
    if (this.#heldBytes === 0) return tail;
    const whole = new Uint8Array(this.#heldBytes + tail.length);
    let at = 0;
    for (const piece of [...this.#held, tail]) {
      whole.set(piece, at);
      at += piece.length;
    }
    this.#held = [];
    this.#heldBytes = 0;
    return whole;
  }
}
