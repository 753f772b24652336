// TCP segmentation: one large frame in, frames of at most one segment each out.
//
// Source: Intel 82599 datasheet, section 7.2.4; the division of labour with the driver as in ixgbevf_tso.
import { foldSum, sumBytes, swap16, type FrameBytes } from "./checksum.ts";
import { TXC_L4T_TCP, TXD_POPTS_IXSM, TXD_POPTS_TXSM } from "./descriptors.ts";
import { FCS_BYTES, FRAME_BYTES_MAX_WITH_FCS } from "./frame-limits.ts";
import {
  insertIpv4Checksum,
  IPV4_HEADER_BYTES_MIN,
  storeSum,
  TCP_CHECKSUM_OFFSET,
  TCP_HEADER_BYTES_MIN,
} from "./transmit-checksums.ts";
import type { TransmitContext } from "./transmit-context.ts";

const IPV6_HEADER_BYTES = 40;
/** Below this a descriptor could ask for a quarter of a million frames; no stack segments so finely. */
const SEGMENT_BYTES_MIN = 16;

const TCP_SEQUENCE_OFFSET = 4;
const TCP_FLAGS_OFFSET = 13;
const TCP_FIN = 0x01;
const TCP_PSH = 0x08;
const TCP_CWR = 0x80;

function readBig(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = 0; i < count; i++) value = value * 256 + (bytes[at + i] as number);
  return value;
}

function writeBig(bytes: Uint8Array, at: number, count: number, value: number): void {
  for (let i = 0; i < count; i++) bytes[at + i] = value >>> (8 * (count - 1 - i));
}

/**
 * Cuts the frame that `begin` accepted, segment by segment: `next` builds one in `target` and gives its length, until it
 * gives 0. The header is copied to each, and changed:
 * - IPv4: total length, identification counted up, header checksum (if IXSM);
 * - IPv6: payload length;
 * - TCP: sequence number; CWR only in the first segment, FIN and PSH only in the last; checksum (if TXSM), to which the
 *   driver's field contributes the pseudo header without its length.
 */
export class Segmenter {
  readonly #source: FrameBytes;
  readonly #sourceStart: number;
  readonly #target: FrameBytes;
  readonly #targetStart: number;
  #headerBytes = 0;
  #ip = 0;
  #l4 = 0;
  #isIpv4 = false;
  #options = 0;
  #segmentBytes = 0;
  #payloadBytes = 0;
  #done = 0;
  #index = 0;
  #isFinished = true;

  /** `targetStart` is even, so that the sums run over halves. */
  constructor(parts: { source: FrameBytes; sourceStart: number; target: FrameBytes; targetStart: number }) {
    this.#source = parts.source;
    this.#sourceStart = parts.sourceStart;
    this.#target = parts.target;
    this.#targetStart = parts.targetStart;
  }

  /**
   * Takes on a frame of `length` bytes at the start of the source. False if it cannot be segmented: not TCP, headers that
   * do not fit, segments too short, or too long for a frame. The payload is what the descriptors brought; PAYLEN is
   * not needed and not looked at.
   */
  begin(length: number, context: TransmitContext, options: number): boolean {
    const headerBytes = context.macBytes + context.ipBytes + context.l4Bytes;
    const ipBytesMin = context.isIpv4 ? IPV4_HEADER_BYTES_MIN : IPV6_HEADER_BYTES;
    const segmentBytes = context.segmentBytes;
    if (context.l4Type !== TXC_L4T_TCP || context.ipBytes < ipBytesMin || context.l4Bytes < TCP_HEADER_BYTES_MIN) {
      return false;
    }
    if (headerBytes > length || segmentBytes < SEGMENT_BYTES_MIN) return false;
    if (headerBytes + segmentBytes + FCS_BYTES > FRAME_BYTES_MAX_WITH_FCS) return false;
    this.#headerBytes = headerBytes;
    this.#ip = context.macBytes;
    this.#l4 = context.macBytes + context.ipBytes;
    this.#isIpv4 = context.isIpv4;
    this.#options = options;
    this.#segmentBytes = segmentBytes;
    this.#payloadBytes = length - headerBytes;
    this.#done = 0;
    this.#index = 0;
    this.#isFinished = false;
    return true;
  }

  /** Builds the next segment and gives its length without a VLAN tag; 0 when there is none. */
  next(): number {
    if (this.#isFinished) return 0;
    const payload = Math.min(this.#segmentBytes, this.#payloadBytes - this.#done);
    const isLast = this.#done + payload === this.#payloadBytes;
    this.#copy(payload);
    this.#setIp(payload);
    this.#setTcp(payload, isLast);
    this.#done += payload;
    this.#index++;
    this.#isFinished = isLast;
    return this.#headerBytes + payload;
  }

  #copy(payload: number): void {
    const { bytes } = this.#source;
    const header = this.#sourceStart;
    const body = header + this.#headerBytes + this.#done;
    this.#target.bytes.set(bytes.subarray(header, header + this.#headerBytes), this.#targetStart);
    this.#target.bytes.set(bytes.subarray(body, body + payload), this.#targetStart + this.#headerBytes);
  }

  #setIp(payload: number): void {
    const { bytes } = this.#target;
    const ip = this.#targetStart + this.#ip;
    const datagramBytes = this.#headerBytes - this.#ip + payload;
    if (!this.#isIpv4) {
      writeBig(bytes, ip + 4, 2, datagramBytes - IPV6_HEADER_BYTES);
      return;
    }
    writeBig(bytes, ip + 2, 2, datagramBytes);
    writeBig(bytes, ip + 4, 2, readBig(bytes, ip + 4, 2) + this.#index);
    if ((this.#options & TXD_POPTS_IXSM) !== 0) insertIpv4Checksum(this.#target, ip, this.#l4 - this.#ip);
  }

  #setTcp(payload: number, isLast: boolean): void {
    const { bytes } = this.#target;
    const l4 = this.#targetStart + this.#l4;
    const sequence = l4 + TCP_SEQUENCE_OFFSET;
    writeBig(bytes, sequence, 4, readBig(bytes, sequence, 4) + this.#done);
    let cleared = this.#index === 0 ? 0 : TCP_CWR;
    if (!isLast) cleared |= TCP_FIN | TCP_PSH;
    bytes[l4 + TCP_FLAGS_OFFSET] = (bytes[l4 + TCP_FLAGS_OFFSET] as number) & ~cleared;
    if ((this.#options & TXD_POPTS_TXSM) === 0) return;
    const end = this.#targetStart + this.#headerBytes + payload;
    const sum = sumBytes(this.#target, l4, end) + swap16(end - l4);
    storeSum(bytes, l4 + TCP_CHECKSUM_OFFSET, ~foldSum(sum));
  }
}
