// Finds where frames end in a stream that comes in chunks, as far as its headers tell the truth.
import { readU32 } from "../../src/migration/wire/bytes.ts";
import { headerBytes, headerOffsets } from "../../src/migration/wire/frame.ts";

export interface Piece {
  readonly bytes: Uint8Array;
  /** Number of the message that ends with these bytes. */
  readonly endsMessage: number | undefined;
}

export class FrameBoundaries {
  readonly #header = new Uint8Array(headerBytes);
  #headerCount = 0;
  #payloadLeft = 0;

  /** The chunk in pieces, of which each ends with a frame or with the chunk. */
  split(chunk: Uint8Array): Piece[] {
    const pieces: Piece[] = [];
    for (let at = 0; at < chunk.length;) {
      const start = at;
      const headerPart = Math.min(headerBytes - this.#headerCount, chunk.length - at);
      if (headerPart > 0) {
        this.#header.set(chunk.subarray(at, at + headerPart), this.#headerCount);
        this.#headerCount += headerPart;
        at += headerPart;
        if (this.#headerCount === headerBytes) this.#payloadLeft = readU32(this.#header, headerOffsets.length);
      }
      const payloadPart = Math.min(this.#payloadLeft, chunk.length - at);
      this.#payloadLeft -= payloadPart;
      at += payloadPart;
      const isWhole = this.#headerCount === headerBytes && this.#payloadLeft === 0;
      pieces.push({
        bytes: chunk.subarray(start, at),
        endsMessage: isWhole ? this.#header[headerOffsets.type] : undefined,
      });
      if (isWhole) this.#headerCount = 0;
    }
    return pieces;
  }
}
