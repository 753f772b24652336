// IPv4 without options or fragments, which is all that the built-in peer speaks: addresses, header, checksum.
import { OperationError } from "../base/errors.ts";
import { readU16, readU32, writeU16, writeU32 } from "./ethernet.ts";

declare const brand: unique symbol;

/** An IPv4 address as an unsigned 32-bit number in network order: 10.0.2.15 is 0x0a00020f. */
export type Ipv4Address = number & { readonly [brand]: "Ipv4Address" };

export const IPV4_HEADER_BYTES = 20;
export const IpProtocol = { icmp: 1, tcp: 6 } as const;

export const ipv4At = (bytes: Uint8Array, offset: number): Ipv4Address => readU32(bytes, offset) as Ipv4Address;

export function formatIpv4(address: Ipv4Address): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Reads dotted decimal. Throws OperationError `ipv4-address-invalid`. */
export function parseIpv4Address(text: string): Ipv4Address {
  const octets = /^\d{1,3}(?:\.\d{1,3}){3}$/.test(text) ? text.split(".").map(Number) : [];
  if (octets.length !== 4 || octets.some((octet) => octet > 255)) {
    throw new OperationError({
      code: "ipv4-address-invalid",
      message: `"${text}" is not an IPv4 address`,
      advice: "Write four numbers from 0 to 255, as in 10.0.2.15.",
      facts: { text },
    });
  }
  let address = 0;
  for (const octet of octets) address = address * 256 + octet;
  return address as Ipv4Address;
}

/** The Internet checksum (RFC 1071) of bytes[start, end): over data that holds its own checksum it is zero. */
export function internetChecksum(bytes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  let at = start;
  for (; at + 1 < end; at += 2) sum += ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
  if (at < end) sum += (bytes[at] as number) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}

export interface Ipv4Header {
  readonly source: Ipv4Address;
  readonly destination: Ipv4Address;
  readonly protocol: number;
}

export interface Ipv4Packet extends Ipv4Header {
  /** Where the payload lies in the frame: bytes [payloadStart, payloadEnd). Padding after it is left out. */
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

const VERSION_4 = 4;
const DO_NOT_FRAGMENT = 0x4000;
const FRAGMENT_MASK = 0x3fff;
const TIME_TO_LIVE = 64;

/** Writes a header without options at `offset`; `payloadBytes` follow it. */
export function writeIpv4Header(bytes: Uint8Array, offset: number, header: Ipv4Header, payloadBytes: number): void {
  bytes[offset] = (VERSION_4 << 4) | (IPV4_HEADER_BYTES >>> 2);
  bytes[offset + 1] = 0;
  writeU16(bytes, offset + 2, IPV4_HEADER_BYTES + payloadBytes);
  writeU16(bytes, offset + 4, 0);
  writeU16(bytes, offset + 6, DO_NOT_FRAGMENT);
  bytes[offset + 8] = TIME_TO_LIVE;
  bytes[offset + 9] = header.protocol;
  writeU16(bytes, offset + 10, 0);
  writeU32(bytes, offset + 12, header.source);
  writeU32(bytes, offset + 16, header.destination);
  writeU16(bytes, offset + 10, internetChecksum(bytes, offset, offset + IPV4_HEADER_BYTES));
}

/** The packet at `offset`, or undefined when it is cut short, a fragment, of another version or its header is damaged. */
export function parseIpv4(bytes: Uint8Array, offset: number): Ipv4Packet | undefined {
  if (bytes.length - offset < IPV4_HEADER_BYTES) return undefined;
  const first = bytes[offset] ?? 0;
  const headerBytes = (first & 15) * 4;
  const totalBytes = readU16(bytes, offset + 2);
  if (first >>> 4 !== VERSION_4 || headerBytes < IPV4_HEADER_BYTES || totalBytes < headerBytes) return undefined;
  if (offset + totalBytes > bytes.length) return undefined;
  if ((readU16(bytes, offset + 6) & FRAGMENT_MASK) !== 0) return undefined;
  if (internetChecksum(bytes, offset, offset + headerBytes) !== 0) return undefined;
  return {
    source: ipv4At(bytes, offset + 12),
    destination: ipv4At(bytes, offset + 16),
    protocol: bytes[offset + 9] ?? 0,
    payloadStart: offset + headerBytes,
    payloadEnd: offset + totalBytes,
  };
}
