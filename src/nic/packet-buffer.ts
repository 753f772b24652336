// The receive packet buffer: whole frames in order of arrival, bounded in bytes, waiting for descriptors.
import { assert } from "../base/assert.ts";
import { FrameBytes } from "./checksum.ts";

/** Frames start on cache lines, which also bounds their number. */
const FRAME_ALIGNMENT = 64;

/** Words of a record; the place of each in it. */
const RECORD_WORDS = 8;
const START = 0;
const OFFSET = 1;
const LENGTH = 2;
const QUEUE = 3;
const PACKET_INFO = 4;
const RSS_HASH = 5;
const STATUS = 6;
const VLAN_TAG = 7;

/** What was found out about a frame when it came in; the last words of its descriptor. */
export interface FrameFacts {
  queue: number;
  /** pkt_info. */
  packetInfo: number;
  rssHash: number;
  /** Status and error bits without DD and EOP, signed or unsigned. */
  status: number;
  vlanTag: number;
}

/**
 * A ring of bytes and a ring of records. A frame lies in one piece; where it would wrap, the rest of the bytes stays
 * unused until it is read past. When the last frame leaves, the ring starts at its beginning again, so that a queue that
 * keeps up runs in the same few cache lines.
 */
export class PacketBuffer {
  readonly frame: FrameBytes;
  readonly #sizeBytes: number;
  readonly #records: Uint32Array;
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
    this.#records = new Uint32Array(recordCount * RECORD_WORDS);
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

  /** Adds a frame that was written `skip` bytes into what `reserve(skip + length)` gave. */
  push(start: number, skip: number, length: number, facts: FrameFacts): void {
    const record = (this.#next & this.#recordMask) * RECORD_WORDS;
    const records = this.#records;
    records[record + START] = start;
    records[record + OFFSET] = start + skip;
    records[record + LENGTH] = length;
    records[record + QUEUE] = facts.queue;
    records[record + PACKET_INFO] = facts.packetInfo;
    records[record + RSS_HASH] = facts.rssHash;
    records[record + STATUS] = facts.status;
    records[record + VLAN_TAG] = facts.vlanTag;
    this.#next++;
    this.#writeOffset = start + ((skip + length + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT);
  }

  /** Removes the oldest frame. */
  pop(): void {
    assert(this.count > 0, "the packet buffer is empty");
    this.#first++;
    this.#readOffset = this.#oldest(START);
  }

  clear(): void {
    this.#first = this.#next;
  }

  /** Of the oldest frame: where it begins in `frame`. */
  get offset(): number {
    return this.#oldest(OFFSET);
  }

  get length(): number {
    return this.#oldest(LENGTH);
  }

  get queue(): number {
    return this.#oldest(QUEUE);
  }

  get packetInfo(): number {
    return this.#oldest(PACKET_INFO);
  }

  get rssHash(): number {
    return this.#oldest(RSS_HASH);
  }

  get status(): number {
    return this.#oldest(STATUS);
  }

  get vlanTag(): number {
    return this.#oldest(VLAN_TAG);
  }

  #oldest(word: number): number {
    return this.#records[(this.#first & this.#recordMask) * RECORD_WORDS + word] as number;
  }
}
