// Frames on a byte stream as passt and QEMU's `-netdev stream` speak it: a 4-byte big-endian length, then the frame.
import { assert } from "../base/assert.ts";
import { readU32, writeU32 } from "./ethernet.ts";

export const FRAME_PREFIX_BYTES = 4;
/** The largest frame passt may send: a UDP datagram is not cut up, whatever the guest's MTU is. */
const STREAM_FRAME_BYTES_MAX = 65_550;

/** Writes prefix and frame at `offset` and returns the offset behind them. The caller has made sure of the room. */
export function writeStreamFrame(target: Uint8Array, offset: number, frame: Uint8Array): number {
  writeU32(target, offset, frame.length);
  target.set(frame, offset + FRAME_PREFIX_BYTES);
  return offset + FRAME_PREFIX_BYTES + frame.length;
}

/** The stream announced a frame longer than allowed: what follows cannot be made sense of. */
export interface FramingFailure {
  readonly announcedBytes: number;
  /** Offset of the bad prefix in the stream. */
  readonly streamOffset: number;
}

export interface StreamDecoderOptions {
  readonly frameBytesMax?: number;
  /** A whole frame. The bytes are good until it returns: they lie in the chunk or in the decoder's own buffer. */
  readonly onFrame: (frame: Uint8Array) => void;
}

/**
 * Takes the stream in chunks of any size. Memory is bounded by one largest frame; frames that lie whole in a chunk are
 * not copied. A length beyond the limit ends the stream: `failure` is set and everything after it is ignored.
 */
export class StreamDecoder {
  readonly #frameBytesMax: number;
  readonly #onFrame: (frame: Uint8Array) => void;
  /** The beginning of a frame, prefix included, that the chunks so far did not complete. */
  readonly #held: Uint8Array;
  #heldBytes = 0;
  #consumedBytes = 0;
  #failure: FramingFailure | undefined;

  constructor(options: StreamDecoderOptions) {
    this.#frameBytesMax = options.frameBytesMax ?? STREAM_FRAME_BYTES_MAX;
    assert(this.#frameBytesMax > 0, "frames need room");
    this.#onFrame = options.onFrame;
    this.#held = new Uint8Array(FRAME_PREFIX_BYTES + this.#frameBytesMax);
  }

  get failure(): FramingFailure | undefined {
    return this.#failure;
  }

  /** Calls `onFrame` for each frame that this chunk completes. False when the stream is broken. */
  push(chunk: Uint8Array): boolean {
    let at = this.#heldBytes > 0 ? this.#completeHeld(chunk) : 0;
    while (this.#failure === undefined && chunk.length - at >= FRAME_PREFIX_BYTES) {
      const length = this.#lengthAt(chunk, at);
      const end = at + FRAME_PREFIX_BYTES + length;
      if (length < 0 || end > chunk.length) break;
      this.#deliver(chunk, at + FRAME_PREFIX_BYTES, end);
      at = end;
    }
    if (this.#failure !== undefined) return false;
    if (at < chunk.length) this.#hold(chunk, at, chunk.length);
    return true;
  }

  /** Adds to the held beginning until its frame is whole. Returns how much of the chunk that took. */
  #completeHeld(chunk: Uint8Array): number {
    let at = Math.min(Math.max(0, FRAME_PREFIX_BYTES - this.#heldBytes), chunk.length);
    this.#hold(chunk, 0, at);
    if (this.#heldBytes < FRAME_PREFIX_BYTES) return at;
    const length = this.#lengthAt(this.#held, 0);
    if (length < 0) return at;
    const missing = FRAME_PREFIX_BYTES + length - this.#heldBytes;
    const taken = Math.min(missing, chunk.length - at);
    this.#hold(chunk, at, at + taken);
    at += taken;
    if (taken < missing) return at;
    this.#heldBytes = 0;
    this.#deliver(this.#held, FRAME_PREFIX_BYTES, FRAME_PREFIX_BYTES + length);
    return at;
  }

  /** The length that the prefix announces, or -1 when it is not allowed, which fails the stream. */
  #lengthAt(bytes: Uint8Array, offset: number): number {
    const length = readU32(bytes, offset);
    if (length <= this.#frameBytesMax) return length;
    this.#failure = { announcedBytes: length, streamOffset: this.#consumedBytes };
    return -1;
  }

  #hold(chunk: Uint8Array, start: number, end: number): void {
    this.#held.set(chunk.subarray(start, end), this.#heldBytes);
    this.#heldBytes += end - start;
  }

  #deliver(bytes: Uint8Array, start: number, end: number): void {
    this.#consumedBytes += FRAME_PREFIX_BYTES + (end - start);
    this.#onFrame(bytes.subarray(start, end));
  }
}
