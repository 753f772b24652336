// Ethernet frames without FCS: header, limits, and what a frame costs on the wire.
import { macAt, writeMac, type MacAddress } from "./mac.ts";

export const ETHERNET_HEADER_BYTES = 14;
/** The largest frame the fabric carries: the 82599's jumbo limit of 15.5 KB (datasheet 8.2.3.22.13, MAXFRS). */
export const FRAME_BYTES_MAX = 15_872;

export const EtherType = { ipv4: 0x0800, arp: 0x0806, rarp: 0x8035 } as const;

export const readU16 = (bytes: Uint8Array, offset: number): number =>
  ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);

export const readU32 = (bytes: Uint8Array, offset: number): number =>
  ((readU16(bytes, offset) << 16) | readU16(bytes, offset + 2)) >>> 0;

export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

export function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  writeU16(bytes, offset, value >>> 16);
  writeU16(bytes, offset + 2, value & 0xffff);
}

export const destinationOf = (frame: Uint8Array): MacAddress => macAt(frame, 0);
export const sourceOf = (frame: Uint8Array): MacAddress => macAt(frame, MAC_SOURCE_OFFSET);
/** EtherType of an untagged frame, or -1 when the frame ends before it. */
export const etherTypeOf = (frame: Uint8Array): number =>
  frame.length < ETHERNET_HEADER_BYTES ? -1 : readU16(frame, ETHER_TYPE_OFFSET);

const MAC_SOURCE_OFFSET = 6;
const ETHER_TYPE_OFFSET = 12;

export interface EthernetHeader {
  readonly destination: MacAddress;
  readonly source: MacAddress;
  readonly etherType: number;
}

export function writeEthernetHeader(frame: Uint8Array, header: EthernetHeader): void {
  writeMac(frame, 0, header.destination);
  writeMac(frame, MAC_SOURCE_OFFSET, header.source);
  writeU16(frame, ETHER_TYPE_OFFSET, header.etherType);
}

const FCS_BYTES = 4;
const PADDED_BYTES_MIN = 64;
/** Preamble and start delimiter (8) and the inter-packet gap (12). */
const PREAMBLE_AND_GAP_BYTES = 20;

/** Byte times that a frame of this length (without FCS) takes up on a wire: a 60-byte frame takes 84. */
export function wireBytes(frameBytes: number): number {
  return Math.max(frameBytes + FCS_BYTES, PADDED_BYTES_MIN) + PREAMBLE_AND_GAP_BYTES;
}
