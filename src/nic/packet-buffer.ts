// The receive packet buffer: whole frames in order of arrival, bounded in bytes, waiting for descriptors.
import { assert, AssertionError } from "../base/assert.ts";
import { FrameBytes } from "./checksum.ts";

/** Frames start on cache lines, which also bounds their number. */
const FRAME_ALIGNMENT = 64;

/** The words of a frame's record, by their place in it. Signed, as the arithmetic of bits is. */
const RECORD_WORDS = 8;
const START = 0;
const OFFSET = 1;
const LENGTH = 2;
const QUEUE = 3;
/** Four words: what its last descriptor will say, without DD, EOP and the length. */
const DESCRIPTOR = 4;

/**
 * A ring of bytes and a ring of records. A frame lies in one piece; where it would wrap, the rest of the bytes stays
 * unused until it is read past. When the last frame leaves, the ring starts at its beginning again, so that a queue that
 * keeps up runs in the same few cache lines.
 */
export class PacketBuffer {
  readonly frame: FrameBytes;
  readonly #sizeBytes: number;
  readonly #records: Int32Array;
  readonly #recordMask: number;
  /** Running numbers of the oldest record and of the next one; their difference is the count. */
  #first = 0;
  #next = 0;
  /** Where the oldest record begins. */
  #oldest = 0;
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
    this.#records = new Int32Array(recordCount * RECORD_WORDS);
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
      this.#oldest = 0;
      this.#readOffset = 0;
      this.#writeOffset = 0;
    } else if (this.#writeOffset <= this.#readOffset) {
      return this.#writeOffset + taken <= this.#readOffset ? this.#writeOffset : -1;
    }
    if (this.#writeOffset + taken <= this.#sizeBytes) return this.#writeOffset;
    return taken <= this.#readOffset ? 0 : -1;
  }

  /**
   * Adds a frame that was written `skip` bytes into what `reserve(skip + length)` gave. Returns its record, which the
   * caller hands to `describe`.
   */
  push(start: number, skip: number, length: number, queue: number): number {
    const records = this.#records;
    const record = (this.#next & this.#recordMask) * RECORD_WORDS;
    records[record + START] = start;
    records[record + OFFSET] = start + skip;
    records[record + LENGTH] = length;
    records[record + QUEUE] = queue;
    this.#next++;
    this.#writeOffset = start + ((skip + length + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT);
    return record;
  }

  /** The words of a frame's last descriptor, as it is written back, without DD, EOP and the length. */
  describe(record: number, packetInfo: number, rssHash: number, status: number, vlan: number): void {
    const records = this.#records;
    records[record + DESCRIPTOR] = packetInfo;
    records[record + DESCRIPTOR + 1] = rssHash;
    records[record + DESCRIPTOR + 2] = status;
    records[record + DESCRIPTOR + 3] = vlan;
  }

  // The oldest frame; there must be one.

  /** Where it begins in `frame`. */
  get offset(): number {
    return this.#records[this.#oldest + OFFSET] as number;
  }

  get length(): number {
    return this.#records[this.#oldest + LENGTH] as number;
  }

  get queue(): number {
    return this.#records[this.#oldest + QUEUE] as number;
  }

  /** Copies what `describe` was given into target[0..4). */
  described(target: Uint32Array): void {
    const records = this.#records;
    const from = this.#oldest + DESCRIPTOR;
    target[0] = records[from] as number;
    target[1] = records[from + 1] as number;
    target[2] = records[from + 2] as number;
    target[3] = records[from + 3] as number;
  }

  /** Removes it. */
  pop(): void {
    if (this.#next === this.#first) throw new AssertionError("the packet buffer is empty");
    this.#first++;
    this.#oldest = (this.#first & this.#recordMask) * RECORD_WORDS;
    this.#readOffset = this.#records[this.#oldest + START] as number;
  }

  clear(): void {
    this.#first = this.#next;
    this.#oldest = (this.#first & this.#recordMask) * RECORD_WORDS;
  }
}
