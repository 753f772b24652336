// ARP (RFC 826) and RARP (RFC 903) for IPv4 over Ethernet, which share one packet layout.
import {
  ETHERNET_HEADER_BYTES,
  EtherType,
  etherTypeOf,
  readU16,
  readU32,
  writeEthernetHeader,
  writeU16,
  writeU32,
} from "./ethernet.ts";
import { ipv4At, type Ipv4Address } from "./ipv4.ts";
import { macAt, writeMac, type MacAddress } from "./mac.ts";

export const ArpOperation = { request: 1, reply: 2, reverseRequest: 3 } as const;

export interface ArpPacket {
  readonly operation: number;
  readonly senderMac: MacAddress;
  readonly senderIp: Ipv4Address;
  readonly targetMac: MacAddress;
  readonly targetIp: Ipv4Address;
}

const ARP_BYTES = 28;
/** Ethernet's minimum without FCS: we send padded frames as a real NIC does. */
const PADDED_FRAME_BYTES = 60;
/** Hardware type 1 (Ethernet) and protocol type IPv4; then address lengths 6 and 4. */
const ETHERNET_AND_IPV4 = 0x0001_0800;
const LENGTHS_6_AND_4 = 0x0604;

/** A whole frame; its Ethernet source is the packet's sender. */
export function buildArpFrame(destination: MacAddress, packet: ArpPacket): Uint8Array {
  const frame = new Uint8Array(PADDED_FRAME_BYTES);
  const etherType = packet.operation === ArpOperation.reverseRequest ? EtherType.rarp : EtherType.arp;
  writeEthernetHeader(frame, { destination, source: packet.senderMac, etherType });
  const at = ETHERNET_HEADER_BYTES;
  writeU32(frame, at, ETHERNET_AND_IPV4);
  writeU16(frame, at + 4, LENGTHS_6_AND_4);
  writeU16(frame, at + 6, packet.operation);
  writeMac(frame, at + 8, packet.senderMac);
  writeU32(frame, at + 14, packet.senderIp);
  writeMac(frame, at + 18, packet.targetMac);
  writeU32(frame, at + 24, packet.targetIp);
  return frame;
}

/** The ARP packet in a frame, or undefined when it is something else or malformed. RARP is not ARP. */
export function parseArpFrame(frame: Uint8Array): ArpPacket | undefined {
  const at = ETHERNET_HEADER_BYTES;
  if (etherTypeOf(frame) !== EtherType.arp || frame.length < at + ARP_BYTES) return undefined;
  if (readU32(frame, at) !== ETHERNET_AND_IPV4 || readU16(frame, at + 4) !== LENGTHS_6_AND_4) return undefined;
  return {
    operation: readU16(frame, at + 6),
    senderMac: macAt(frame, at + 8),
    senderIp: ipv4At(frame, at + 14),
    targetMac: macAt(frame, at + 18),
    targetIp: ipv4At(frame, at + 24),
  };
}
