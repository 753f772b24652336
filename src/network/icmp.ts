// ICMP echo (RFC 792): requests and replies with their payload, as whole Ethernet frames.
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  etherTypeOf,
  readU16,
  writeEthernetHeader,
  writeU16,
  writeU32,
} from "./ethernet.ts";
import { internetChecksum, IPV4_HEADER_BYTES, IpProtocol, parseIpv4, writeIpv4Header } from "./ipv4.ts";
import type { Ipv4Address } from "./ipv4.ts";
import type { MacAddress } from "./mac.ts";

export const IcmpType = { echoReply: 0, echoRequest: 8 } as const;
const ICMP_HEADER_BYTES = 8;
/** Where an echo's payload starts in the frames built here (no IP options). */
export const ECHO_PAYLOAD_OFFSET = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + ICMP_HEADER_BYTES;

export interface Station {
  readonly mac: MacAddress;
  readonly ip: Ipv4Address;
}

export interface Echo {
  readonly type: number;
  readonly identifier: number;
  readonly sequence: number;
}

export interface ParsedEcho extends Echo {
  readonly source: Ipv4Address;
  readonly destination: Ipv4Address;
  /** The payload is frame[payloadStart, payloadEnd). */
  readonly payloadStart: number;
  readonly payloadEnd: number;
  readonly checksumValid: boolean;
}

/** Frame bytes for an echo with this much payload. */
export const echoFrameBytes = (payloadBytes: number): number => ECHO_PAYLOAD_OFFSET + payloadBytes;

/** Fills in all headers and checksums around a payload that already stands at ECHO_PAYLOAD_OFFSET. */
export function sealEchoFrame(frame: Uint8Array, from: Station, to: Station, echo: Echo): void {
  writeEthernetHeader(frame, { destination: to.mac, source: from.mac, etherType: EtherType.ipv4 });
  const icmpStart = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
  const header = { source: from.ip, destination: to.ip, protocol: IpProtocol.icmp };
  writeIpv4Header(frame, ETHERNET_HEADER_BYTES, header, frame.length - icmpStart);
  writeU32(frame, icmpStart, echo.type << 24);
  writeU16(frame, icmpStart + 4, echo.identifier);
  writeU16(frame, icmpStart + 6, echo.sequence);
  writeU16(frame, icmpStart + 2, internetChecksum(frame, icmpStart, frame.length));
}

/** The echo request or reply in a frame, or undefined when it is something else, cut short, or its IP header is damaged. */
export function parseEchoFrame(frame: Uint8Array): ParsedEcho | undefined {
  if (etherTypeOf(frame) !== EtherType.ipv4) return undefined;
  const packet = parseIpv4(frame, ETHERNET_HEADER_BYTES);
  if (packet === undefined || packet.protocol !== IpProtocol.icmp) return undefined;
  const { payloadStart: at, payloadEnd } = packet;
  if (payloadEnd - at < ICMP_HEADER_BYTES) return undefined;
  const type = frame[at] ?? 0;
  if ((type !== IcmpType.echoRequest && type !== IcmpType.echoReply) || frame[at + 1] !== 0) return undefined;
  return {
    type,
    identifier: readU16(frame, at + 4),
    sequence: readU16(frame, at + 6),
    source: packet.source,
    destination: packet.destination,
    payloadStart: at + ICMP_HEADER_BYTES,
    payloadEnd,
    checksumValid: internetChecksum(frame, at, payloadEnd) === 0,
  };
}
