// TCP segments in Ethernet frames, as far as the fabric looks into them: the header, and one that carries nothing.
import { ETHERNET_HEADER_BYTES, EtherType, etherTypeOf, readU16, readU32, writeU16, writeU32 } from "./ethernet.ts";
import { internetChecksum, IPV4_HEADER_BYTES, IpProtocol, parseIpv4, writeIpv4Header } from "./ipv4.ts";
import type { Ipv4Address } from "./ipv4.ts";

export const TcpFlag = { fin: 0x01, syn: 0x02, rst: 0x04, ack: 0x10 } as const;

export const TCP_HEADER_BYTES = 20;
const PSEUDO_HEADER_BYTES = 12;

export interface TcpHeader {
  readonly source: Ipv4Address;
  readonly destination: Ipv4Address;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  /** All eight; see TcpFlag. */
  readonly flags: number;
  /** As in the header, without the scale that the SYN agreed on. */
  readonly window: number;
}

export interface TcpSegment extends TcpHeader {
  readonly dataBytes: number;
}

/** The segment in a frame, or undefined when it is none or cut short. Its checksum is not looked at. */
export function parseTcpFrame(frame: Uint8Array): TcpSegment | undefined {
  if (etherTypeOf(frame) !== EtherType.ipv4) return undefined;
  const packet = parseIpv4(frame, ETHERNET_HEADER_BYTES);
  if (packet === undefined || packet.protocol !== IpProtocol.tcp) return undefined;
  const { payloadStart: at, payloadEnd: end } = packet;
  if (end - at < TCP_HEADER_BYTES) return undefined;
  const headerBytes = ((frame[at + 12] ?? 0) >>> 4) * 4;
  if (headerBytes < TCP_HEADER_BYTES || headerBytes > end - at) return undefined;
  return {
    source: packet.source,
    destination: packet.destination,
    sourcePort: readU16(frame, at),
    destinationPort: readU16(frame, at + 2),
    sequence: readU32(frame, at + 4),
    acknowledgment: readU32(frame, at + 8),
    flags: frame[at + 13] ?? 0,
    window: readU16(frame, at + 14),
    dataBytes: end - at - headerBytes,
  };
}

/** Writes IP and TCP headers of a segment without options and data behind the Ethernet header of a frame. */
export function writeEmptySegment(frame: Uint8Array, header: TcpHeader): void {
  const { source, destination } = header;
  writeIpv4Header(frame, ETHERNET_HEADER_BYTES, { source, destination, protocol: IpProtocol.tcp }, TCP_HEADER_BYTES);
  const at = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
  writeU16(frame, at, header.sourcePort);
  writeU16(frame, at + 2, header.destinationPort);
  writeU32(frame, at + 4, header.sequence);
  writeU32(frame, at + 8, header.acknowledgment);
  frame[at + 12] = (TCP_HEADER_BYTES >>> 2) << 4;
  frame[at + 13] = header.flags;
  writeU16(frame, at + 14, header.window);
  writeU32(frame, at + 16, 0);
  const summed = new Uint8Array(PSEUDO_HEADER_BYTES + TCP_HEADER_BYTES);
  writeU32(summed, 0, source);
  writeU32(summed, 4, destination);
  writeU16(summed, 8, IpProtocol.tcp);
  writeU16(summed, 10, TCP_HEADER_BYTES);
  summed.set(frame.subarray(at, at + TCP_HEADER_BYTES), PSEUDO_HEADER_BYTES);
  writeU16(frame, at + 16, internetChecksum(summed, 0, summed.length));
}

/** Bytes of sequence space that a segment takes up: its data, and one each for SYN and FIN. */
export function sequenceBytes({ flags, dataBytes }: TcpSegment): number {
  return dataBytes + ((flags & TcpFlag.syn) === 0 ? 0 : 1) + ((flags & TcpFlag.fin) === 0 ? 0 : 1);
}

/** Whether sequence number `a` comes after `b`, half the space ahead at most (RFC 9293, 3.4). */
export const isAfter = (a: number, b: number): boolean => ((a - b) | 0) > 0;
