// The way into the packet buffer: size limits, padding, checksums, the choice of a queue, VLAN stripping.
import {
  ETHERNET_ADDRESSES_BYTES,
  ETHERNET_HEADER_BYTES,
  FCS_BYTES,
  FRAME_BYTES_DEFAULT_WITH_FCS,
  FRAME_BYTES_MAX_WITH_FCS,
  FRAME_BYTES_MIN,
  VLAN_TAG_BYTES,
} from "./frame-limits.ts";
import type { PacketBuffer } from "./packet-buffer.ts";
import { PacketHeaders } from "./packet-headers.ts";
import { checksumStatus } from "./receive-checks.ts";
import type { IntakeCounters } from "./receive-counters.ts";
import type { ReceiveQueue } from "./receive-queue.ts";
import { RXD_STAT_VP } from "./descriptors.ts";
import { Rss } from "./rss.ts";
import { stripVlanTag, vlanTag } from "./vlan.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const ADDRESSES = ETHERNET_ADDRESSES_BYTES;
const HEADER = ETHERNET_HEADER_BYTES;
const FCS = FCS_BYTES;
const BYTES_MIN = FRAME_BYTES_MIN;
const BYTES_MAX = FRAME_BYTES_MAX_WITH_FCS;
const TAG = VLAN_TAG_BYTES;
const VP = RXD_STAT_VP;

function isTagged(bytes: Uint8Array): boolean {
  return bytes[ADDRESSES] === 0x81 && bytes[ADDRESSES + 1] === 0x00;
}

export class ReceiveIntake {
  /** With FCS; a VLAN tag may come on top (82599 datasheet, MAXFRS). */
  frameBytesMax = FRAME_BYTES_DEFAULT_WITH_FCS;
  readonly #buffer: PacketBuffer;
  readonly #queues: readonly ReceiveQueue[];
  readonly #counters: IntakeCounters;
  readonly #headers = new PacketHeaders();
  readonly #rss: Rss;

  constructor(parts: {
    registers: Uint32Array;
    buffer: PacketBuffer;
    queues: readonly ReceiveQueue[];
    counters: IntakeCounters;
  }) {
    this.#buffer = parts.buffer;
    this.#queues = parts.queues;
    this.#counters = parts.counters;
    this.#rss = new Rss(parts.registers);
  }

  rssChanged(): void {
    this.#rss.configure();
  }

  /** Takes a frame without FCS and copies it. False if it was dropped, and counted. */
  frame(bytes: Uint8Array): boolean {
    const { length } = bytes;
    if (length < HEADER) {
      this.#counters.runts++;
      return false;
    }
    const tagged = isTagged(bytes);
    if (!this.#fits(length, tagged)) {
      this.#counters.oversized++;
      return false;
    }
    // An integer to the compiler, too, which takes a choice of two lengths for a double.
    const padded = (length < BYTES_MIN ? BYTES_MIN : length) | 0;
    const start = this.#buffer.reserve(padded);
    if (start < 0) {
      this.#counters.packetBufferFull++;
      return false;
    }
    const { frame } = this.#buffer;
    frame.bytes.set(bytes, start);
    for (let i = start + length; i < start + padded; i++) frame.bytes[i] = 0;
    return this.#classify(start, padded, tagged);
  }

  #fits(length: number, tagged: boolean): boolean {
    const bytesMax = tagged ? this.frameBytesMax + TAG : this.frameBytesMax;
    const withFcs = length + FCS;
    return withFcs <= bytesMax && withFcs <= BYTES_MAX;
  }

  #classify(start: number, length: number, tagged: boolean): boolean {
    const { frame } = this.#buffer;
    this.#headers.parse(frame, start, length);
    const index = this.#rss.classify(frame, this.#headers);
    const queue = this.#queues[index];
    if (queue === undefined || !queue.ring.isReady) {
      this.#counters.queueNotReady++;
      return false;
    }
    const status = checksumStatus(frame, this.#headers);
    const strips = tagged && queue.stripsVlan;
    const tag = strips ? vlanTag(frame, start) : 0;
    if (strips) stripVlanTag(frame, start);
    const skip = strips ? TAG : 0;
    const record = this.#buffer.push(start, skip, length - skip, index);
    const packetInfo = this.#headers.packetType | this.#rss.type;
    this.#buffer.describe(record, packetInfo, this.#rss.hash, strips ? status | VP : status, tag << 16);
    return true;
  }
}
