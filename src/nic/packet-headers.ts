// Finds the headers of a frame: Ethernet with at most one VLAN tag, IPv4 or IPv6, TCP, UDP or SCTP.
import { swap16, type FrameBytes } from "./checksum.ts";
import {
  PKTTYPE_IPV4,
  PKTTYPE_IPV4_OPTIONS,
  PKTTYPE_IPV6,
  PKTTYPE_IPV6_EXTENSIONS,
  PKTTYPE_SCTP,
  PKTTYPE_TCP,
  PKTTYPE_UDP,
} from "./descriptors.ts";
import { ETHERNET_ADDRESSES_BYTES, ETHERNET_HEADER_BYTES, VLAN_TAG_BYTES } from "./frame-limits.ts";

export const IpProtocol = {
  hopByHop: 0,
  tcp: 6,
  udp: 17,
  routing: 43,
  fragment: 44,
  destination: 60,
  sctp: 132,
} as const;

/** Ethertypes as a little-endian half of memory shows them. */
const ETHERIPV4_HALF = swap16(0x0800);
const ETHERIPV6_HALF = swap16(0x86dd);
export const ETHERTYPE_VLAN_HALF = swap16(0x8100);

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const protocols = IpProtocol;
const VLAN_HALF = ETHERTYPE_VLAN_HALF;
const ADDRESSES = ETHERNET_ADDRESSES_BYTES;
const HEADER = ETHERNET_HEADER_BYTES;
const TAG = VLAN_TAG_BYTES;
const IPV4 = PKTTYPE_IPV4;
const IPV4_OPTIONS = PKTTYPE_IPV4_OPTIONS;
const IPV6 = PKTTYPE_IPV6;
const IPV6_EXTENSIONS = PKTTYPE_IPV6_EXTENSIONS;
const TCP = PKTTYPE_TCP;
const UDP = PKTTYPE_UDP;
const SCTP = PKTTYPE_SCTP;

const IPV4_HEADER_BYTES_MIN = 20;
const IPV6_HEADER_BYTES = 40;
const TCP_HEADER_BYTES_MIN = 20;
const UDP_HEADER_BYTES = 8;
const SCTP_HEADER_BYTES = 12;
/** A chain of extension headers longer than this is not followed; hardware gives up too. */
const IPV6_EXTENSIONS_MAX = 8;

/**
 * The result of the last `parse`. One object, filled again for each frame. Offsets are into the buffer given; a header
 * that does not fit its frame or its datagram counts as not there, so whoever sums up to `l4End` stays inside the frame.
 */
export class PacketHeaders {
  /** 4, 6, or 0 without an IP header that fits. */
  ipVersion = 0;
  ipOffset = 0;
  /** IPv4 header length with options; for IPv6 the header and its extensions. */
  ipBytes = 0;
  /** IpProtocol tcp, udp or sctp of a whole datagram, or 0: fragments have no layer 4 that could be checked. */
  l4Protocol = 0;
  l4Offset = 0;
  /** End of the datagram by its own length field, which a padded frame exceeds. */
  l4End = 0;
  /** pkt_info bits 15:4. */
  packetType = 0;

  parse(frame: FrameBytes, offset: number, length: number): void {
    this.ipVersion = 0;
    this.l4Protocol = 0;
    this.packetType = 0;
    const { halves } = frame;
    const end = offset + length;
    let type = offset + ADDRESSES;
    if (halves[type >>> 1] === VLAN_HALF) type += TAG;
    const ip = type + (HEADER - ADDRESSES);
    const ethertype = halves[type >>> 1];
    if (ethertype === ETHERIPV4_HALF) this.#parseIpv4(frame, ip, end);
    else if (ethertype === ETHERIPV6_HALF) this.#parseIpv6(frame, ip, end);
  }

  #parseIpv4(frame: FrameBytes, ip: number, end: number): void {
    const { bytes, halves } = frame;
    if (ip + IPV4_HEADER_BYTES_MIN > end) return;
    const versionAndLength = bytes[ip] as number;
    const headerBytes = (versionAndLength & 0xf) * 4;
    if (versionAndLength >>> 4 !== 4 || headerBytes < IPV4_HEADER_BYTES_MIN || ip + headerBytes > end) return;
    this.ipVersion = 4;
    this.ipOffset = ip;
    this.ipBytes = headerBytes;
    this.packetType = headerBytes > IPV4_HEADER_BYTES_MIN ? IPV4 | IPV4_OPTIONS : IPV4;
    const datagramEnd = ip + swap16(halves[(ip + 2) >>> 1] as number);
    // Everything but the don't-fragment bit: an offset, or more fragments to come.
    const isFragment = (swap16(halves[(ip + 6) >>> 1] as number) & 0xbfff) !== 0;
    if (datagramEnd <= end && !isFragment) this.#layer4(bytes[ip + 9] as number, ip + headerBytes, datagramEnd);
  }

  #parseIpv6(frame: FrameBytes, ip: number, end: number): void {
    const { bytes, halves } = frame;
    if (ip + IPV6_HEADER_BYTES > end || (bytes[ip] as number) >>> 4 !== 6) return;
    this.ipVersion = 6;
    this.ipOffset = ip;
    this.packetType = IPV6;
    const datagramEnd = ip + IPV6_HEADER_BYTES + swap16(halves[(ip + 4) >>> 1] as number);
    const limit = Math.min(datagramEnd, end);
    let protocol = bytes[ip + 6] as number;
    let at = ip + IPV6_HEADER_BYTES;
    for (let i = 0; i < IPV6_EXTENSIONS_MAX && isSkippable(protocol) && at + 8 <= limit; i++) {
      protocol = bytes[at] as number;
      at += ((bytes[at + 1] as number) + 1) * 8;
      this.packetType = IPV6 | IPV6_EXTENSIONS;
    }
    this.ipBytes = at - ip;
    if (datagramEnd <= end) this.#layer4(protocol, at, datagramEnd);
  }

  #layer4(protocol: number, offset: number, end: number): void {
    const isWhole =
      protocol === protocols.tcp
        ? offset + TCP_HEADER_BYTES_MIN <= end
        : protocol === protocols.udp
          ? offset + UDP_HEADER_BYTES <= end
          : protocol === protocols.sctp && offset + SCTP_HEADER_BYTES <= end;
    if (!isWhole) return;
    this.l4Protocol = protocol;
    this.l4Offset = offset;
    this.l4End = end;
    this.packetType |= protocol === protocols.tcp ? TCP : protocol === protocols.udp ? UDP : SCTP;
  }
}

function isSkippable(protocol: number): boolean {
  return protocol === protocols.hopByHop || protocol === protocols.routing || protocol === protocols.destination;
}
