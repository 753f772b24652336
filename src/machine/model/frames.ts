// Frames that prove themselves: flow, sequence number and a payload that follows from both and a seed.
import { assert } from "../../base/assert.ts";
import { WordView } from "../../iommu/word-view.ts";
import { readU16, readU32, writeU16, writeU32 } from "../../network/ethernet.ts";
import { internetChecksum, IPV4_HEADER_BYTES } from "../../network/ipv4.ts";

/** Ethernet, IPv4 and UDP headers: what the driver copies of a long frame (eth_get_headlen). */
export const HEADERS_BYTES = 42;
export const IP_OFFSET = 14;
export const UDP_OFFSET = IP_OFFSET + IPV4_HEADER_BYTES;
export const UDP_CHECKSUM_OFFSET = UDP_OFFSET + 6;
const SEQUENCE_OFFSET = HEADERS_BYTES;
const PAYLOAD_OFFSET = SEQUENCE_OFFSET + 4;
/** The shortest frame on a wire, without FCS: nothing is padded, so that every byte can be checked. */
export const PROVEN_FRAME_BYTES_MIN = 60;

const ETHERTYPE_IPV4 = 0x0800;
const PROTOCOL_UDP = 17;
const PORT = 9;

export interface ProvenFrame {
  /** Tells streams apart; each is in order in itself, and its number picks the receive queue. 0 to 255. */
  readonly flow: number;
  /** 32 bits. */
  readonly sequence: number;
}

/** Who sends to whom: six bytes each. */
export interface Stations {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
}

/** Fills all of `target` with the frame; its length is the frame's. */
export function composeFrame(target: Uint8Array, stations: Stations, frame: ProvenFrame, seed: number): void {
  target.set(stations.destination, 0);
  target.set(stations.source, 6);
  writeU16(target, 12, ETHERTYPE_IPV4);
  target.fill(0, IP_OFFSET, HEADERS_BYTES);
  target[IP_OFFSET] = 0x45;
  writeU16(target, IP_OFFSET + 2, target.length - IP_OFFSET);
  target[IP_OFFSET + 8] = 64;
  target[IP_OFFSET + 9] = PROTOCOL_UDP;
  writeU32(target, IP_OFFSET + 12, (0x0a01_0000 | frame.flow) >>> 0);
  writeU32(target, IP_OFFSET + 16, 0x0a00_0001);
  writeU16(target, IP_OFFSET + 10, internetChecksum(target, IP_OFFSET, UDP_OFFSET));
  writeU16(target, UDP_OFFSET, PORT);
  writeU16(target, UDP_OFFSET + 2, PORT);
  writeU16(target, UDP_OFFSET + 4, target.length - UDP_OFFSET);
  writeU32(target, SEQUENCE_OFFSET, frame.sequence);
  fillPayload(target, frame, seed);
}

/**
 * Reads a frame and checks every byte of it but the addresses and the checksums. Undefined if a single one is not what
 * the frame's own numbers make it.
 */
export function readFrame(bytes: Uint8Array, seed: number): ProvenFrame | undefined {
  if (bytes.length < PROVEN_FRAME_BYTES_MIN || readU16(bytes, 12) !== ETHERTYPE_IPV4) return undefined;
  if (bytes[IP_OFFSET] !== 0x45 || bytes[IP_OFFSET + 9] !== PROTOCOL_UDP) return undefined;
  if (readU16(bytes, IP_OFFSET + 2) !== bytes.length - IP_OFFSET) return undefined;
  if (readU32(bytes, IP_OFFSET + 16) !== 0x0a00_0001 || readU32(bytes, UDP_OFFSET) !== (PORT << 16) + PORT) {
    return undefined;
  }
  const source = readU32(bytes, IP_OFFSET + 12);
  const frame = { flow: source & 0xff, sequence: readU32(bytes, SEQUENCE_OFFSET) };
  if (source >>> 8 !== 0x0a_0100) return undefined;
  return isPayload(bytes, frame, seed) ? frame : undefined;
}

/** Whether both checksums are right, which is for the device to see to in frames that the guest sends. */
export function hasRightChecksums(bytes: Uint8Array): boolean {
  if (internetChecksum(bytes, IP_OFFSET, UDP_OFFSET) !== 0) return false;
  const sum = (~internetChecksum(bytes, UDP_OFFSET, bytes.length) & 0xffff) + pseudoHeaderSum(bytes);
  return ((sum & 0xffff) + (sum >>> 16)) % 0xffff === 0;
}

/** The sum of the pseudo header, which a driver leaves in the checksum field for the device (CHECKSUM_PARTIAL). */
export function pseudoHeaderSum(bytes: Uint8Array): number {
  const addresses = ~internetChecksum(bytes, IP_OFFSET + 12, UDP_OFFSET) & 0xffff;
  const sum = addresses + PROTOCOL_UDP + (bytes.length - UDP_OFFSET);
  return (sum & 0xffff) + (sum >>> 16);
}

/*
 * The payload is a stretch of a table of random words, which stretch follows from flow and sequence number. Bytes of a
 * table and of a frame that belong together lie alike in their words, so that a long frame is made and checked by the
 * word: at line rate most of the time would go into this otherwise.
 */
const PLACES = 1 << 14;
const FRAME_WORDS_MAX = 1 << 12;
const SHORT_BYTES = 128;

class PayloadTable {
  readonly seed: number;
  readonly words = new Uint32Array(PLACES + FRAME_WORDS_MAX);
  readonly bytes = new Uint8Array(this.words.buffer);

  constructor(seed: number) {
    this.seed = seed;
    let state = Math.imul(seed ^ 0x9e37_79b9, 0x85eb_ca6b) | 1;
    for (let i = 0; i < this.words.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.words[i] = Math.imul(state, 0x9e37_79b1);
    }
  }
}

let lastTable: PayloadTable | undefined;

function tableOf(seed: number): PayloadTable {
  if (lastTable?.seed !== seed) lastTable = new PayloadTable(seed);
  return lastTable;
}

/** Index of the word of the table that belongs to the frame's first one. */
function placeOf({ flow, sequence }: ProvenFrame): number {
  return (Math.imul(sequence + 1, 0xc2b2_ae35) ^ Math.imul(flow + 1, 0x27d4_eb2f)) >>> 18;
}

function fillPayload(target: Uint8Array, frame: ProvenFrame, seed: number): void {
  const { length } = target;
  assert(length <= FRAME_WORDS_MAX * 4, `a frame of ${length} bytes`);
  const { bytes } = tableOf(seed);
  const start = placeOf(frame) * 4;
  if (length > SHORT_BYTES) target.set(bytes.subarray(start + PAYLOAD_OFFSET, start + length), PAYLOAD_OFFSET);
  else for (let at = PAYLOAD_OFFSET; at < length; at++) target[at] = bytes[start + at] as number;
}

const readView = new WordView();

function isPayload(bytes: Uint8Array, frame: ProvenFrame, seed: number): boolean {
  const { length } = bytes;
  if (length > FRAME_WORDS_MAX * 4) return false;
  const table = tableOf(seed);
  const place = placeOf(frame);
  const words = length > SHORT_BYTES ? readView.of(bytes) : undefined;
  let at = PAYLOAD_OFFSET;
  if (words !== undefined) {
    for (; (at & 3) !== 0; at++) if (bytes[at] !== table.bytes[place * 4 + at]) return false;
    const end = length >>> 2;
    for (let word = at >>> 2; word < end; word++) if (words[word] !== table.words[place + word]) return false;
    at = end * 4;
  }
  for (; at < length; at++) if (bytes[at] !== table.bytes[place * 4 + at]) return false;
  return true;
}
