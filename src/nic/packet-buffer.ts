// The receive packet buffer: whole frames in order of arrival, bounded in bytes, waiting for descriptors.
import { assert } from "../base/assert.ts";
import { FrameBytes } from "./checksum.ts";

/** Frames start on cache lines, which also bounds their number. */
const FRAME_ALIGNMENT = 64;

/** The words of a frame's record, by their place in it. Signed, as the arithmetic of bits is. */
const RECORD_WORDS = 8;
const START = 0;
/** Where the frame begins in `frame`. */
export const FRAME_OFFSET = 1;
export const FRAME_LENGTH = 2;
export const FRAME_QUEUE = 3;
/** Four words: what its last descriptor will say, without DD, EOP and the length. */
export const FRAME_DESCRIPTOR = 4;

/**
 * A ring of bytes and a ring of records. A frame lies in one piece; where it would wrap, the rest of the bytes stays
 * unused until it is read past. When the last frame leaves, the ring starts at its beginning again, so that a queue that
 * keeps up runs in the same few cache lines.
 */
export class PacketBuffer {
  readonly frame: FrameBytes;
  readonly #sizeBytes: number;
  readonly records: Int32Array;
  readonly #recordMask: number;
  /** Running numbers of the oldest record and of the next one; their difference is the count. */
  #first = 0;
  #next = 0;
  #readOffset = 0;
  #writeOffset = 0;

  constructor(sizeBytes: number) {
    assert(
      sizeBytes > 0 && (sizeBytes & (sizeBytes - 1)) === 0,
      `packet buffer of ${sizeBytes} bytes is no power of two`,
    );
    this.#sizeBytes = sizeBytes;
    this.frame = new FrameBytes(sizeBytes);
    const recordCount = Math.max(1, sizeBytes / FRAME_ALIGNMENT);
    this.records = new Int32Array(recordCount * RECORD_WORDS);
    this.#recordMask = recordCount - 1;
  }

  get count(): number {
    return this.#next - this.#first;
  }

  /** Where a frame of `length` bytes may be put, or -1 without room. It is not in the buffer until `push`. */
  reserve(length: number): number {
    const taken = (length + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT;
    if (this.count === 0) {
      this.#first = 0;
      this.#next = 0;
      this.#readOffset = 0;
      this.#writeOffset = 0;
    } else if (this.#writeOffset <= this.#readOffset) {
      return this.#writeOffset + taken <= this.#readOffset ? this.#writeOffset : -1;
    }
    if (this.#writeOffset + taken <= this.#sizeBytes) return this.#writeOffset;
    return taken <= this.#readOffset ? 0 : -1;
  }

  /**
   * Adds a frame that was written `skip` bytes into what `reserve(skip + length)` gave. Returns where its record begins
   * in `records`; the caller fills the words of its descriptor in.
   */
  push(start: number, skip: number, length: number, queue: number): number {
    const { records } = this;
    const record = (this.#next & this.#recordMask) * RECORD_WORDS;
    records[record + START] = start;
    records[record + FRAME_OFFSET] = start + skip;
    records[record + FRAME_LENGTH] = length;
    records[record + FRAME_QUEUE] = queue;
    this.#next++;
    this.#writeOffset = start + ((skip + length + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT);
    return record;
  }

  /** Removes the oldest frame. */
  pop(): void {
    assert(this.count > 0, "the packet buffer is empty");
    this.#first++;
    this.#readOffset = this.records[this.oldest + START] as number;
  }

  clear(): void {
    this.#first = this.#next;
  }

  /** Where the record of the oldest frame begins in `records`. */
  get oldest(): number {
    return (this.#first & this.#recordMask) * RECORD_WORDS;
  }
}
