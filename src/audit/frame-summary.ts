// One line about an Ethernet frame, for a person who wants to know what was lost.
import { readU16, readU32 } from "../network/ethernet.ts";
import { formatIpv4, ipv4At } from "../network/ipv4.ts";
import { formatMac, macAt } from "../network/mac.ts";

const VLAN = 0x8100;
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const ARP = 0x0806;
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;

/** Bytes of a frame that the summary looks at, at most. */
export const SUMMARY_BYTES = 128;

/**
 * Such as "TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 123 len 1448". `bytes` is the beginning of the frame without FCS,
 * SUMMARY_BYTES or all of it; `lengthBytes` is the whole frame's. Undefined if there are not even two MAC addresses.
 */
export function frameSummary(bytes: Uint8Array, lengthBytes: number): string | undefined {
  if (bytes.length < 14) return undefined;
  const isTagged = readU16(bytes, 12) === VLAN && bytes.length >= 18;
  const start = isTagged ? 18 : 14;
  const etherType = readU16(bytes, start - 2);
  const tag = isTagged ? `VLAN ${readU16(bytes, 14) & 0xfff} ` : "";
  return tag + (payloadSummary(bytes, start, etherType) ?? ethernetSummary(bytes, etherType, lengthBytes));
}

function payloadSummary(bytes: Uint8Array, start: number, etherType: number): string | undefined {
  if (etherType === IPV4) return ipv4Summary(bytes, start);
  if (etherType === IPV6) return ipv6Summary(bytes, start);
  if (etherType === ARP) return arpSummary(bytes, start);
  return undefined;
}

function ethernetSummary(bytes: Uint8Array, etherType: number, lengthBytes: number): string {
  const type = `0x${etherType.toString(16).padStart(4, "0")}`;
  return `Ethernet ${formatMac(macAt(bytes, 6))} > ${formatMac(macAt(bytes, 0))} type ${type} len ${lengthBytes}`;
}

function arpSummary(bytes: Uint8Array, start: number): string | undefined {
  if (bytes.length < start + 28 || readU16(bytes, start + 2) !== IPV4) return undefined;
  const operation = readU16(bytes, start + 6);
  const sender = formatIpv4(ipv4At(bytes, start + 14));
  const target = formatIpv4(ipv4At(bytes, start + 24));
  if (operation === 1) return `ARP who has ${target}, tell ${sender}`;
  if (operation === 2) return `ARP ${sender} is at ${formatMac(macAt(bytes, start + 8))}`;
  return undefined;
}

function ipv4Summary(bytes: Uint8Array, start: number): string | undefined {
  const first = bytes[start] ?? 0;
  const headerBytes = (first & 15) * 4;
  if (first >>> 4 !== 4 || headerBytes < 20 || bytes.length < start + headerBytes) return undefined;
  const payloadBytes = readU16(bytes, start + 2) - headerBytes;
  const isLaterFragment = (readU16(bytes, start + 6) & 0x1fff) !== 0;
  return transportSummary(bytes, {
    protocol: isLaterFragment ? -1 : (bytes[start + 9] ?? 0),
    start: start + headerBytes,
    payloadBytes,
    source: formatIpv4(ipv4At(bytes, start + 12)),
    destination: formatIpv4(ipv4At(bytes, start + 16)),
    name: `IPv4${isLaterFragment ? " fragment" : ` protocol ${bytes[start + 9] ?? 0}`}`,
  });
}

function ipv6Summary(bytes: Uint8Array, start: number): string | undefined {
  if (bytes.length < start + 40 || (bytes[start] ?? 0) >>> 4 !== 6) return undefined;
  const protocol = bytes[start + 6] ?? 0;
  return transportSummary(bytes, {
    protocol,
    start: start + 40,
    payloadBytes: readU16(bytes, start + 4),
    source: `[${formatIpv6(bytes, start + 8)}]`,
    destination: `[${formatIpv6(bytes, start + 24)}]`,
    name: `IPv6 next header ${protocol}`,
  });
}

interface Packet {
  readonly protocol: number;
  /** Where the transport header begins. */
  readonly start: number;
  readonly payloadBytes: number;
  readonly source: string;
  readonly destination: string;
  /** What to call it if the protocol has no line of its own. */
  readonly name: string;
}

function transportSummary(bytes: Uint8Array, packet: Packet): string {
  const { start, source, destination, payloadBytes } = packet;
  const has = (count: number): boolean => bytes.length >= start + count;
  const between = (): string => `${source}:${readU16(bytes, start)} > ${destination}:${readU16(bytes, start + 2)}`;
  if (packet.protocol === TCP && has(20)) {
    const dataBytes = payloadBytes - ((bytes[start + 12] ?? 0) >>> 4) * 4;
    return `TCP ${between()} ${tcpFlags(bytes[start + 13] ?? 0)}seq ${readU32(bytes, start + 4)} len ${dataBytes}`;
  }
  if (packet.protocol === UDP && has(8)) return `UDP ${between()} len ${readU16(bytes, start + 4) - 8}`;
  if (packet.protocol === ICMP && has(8)) {
    const kind = { 0: "echo reply ", 8: "echo request " }[bytes[start] ?? 0];
    const detail =
      kind === undefined ? `type ${bytes[start]} code ${bytes[start + 1]}` : `${kind}seq ${readU16(bytes, start + 6)}`;
    return `ICMP ${source} > ${destination} ${detail} len ${payloadBytes - 8}`;
  }
  if (packet.protocol === ICMPV6 && has(4)) {
    return `ICMPv6 ${source} > ${destination} type ${bytes[start]} code ${bytes[start + 1]} len ${payloadBytes - 4}`;
  }
  return `${packet.name} ${source} > ${destination} len ${payloadBytes}`;
}

/** The flags that begin and end a connection; a plain segment has none worth a word. */
function tcpFlags(flags: number): string {
  const names = [
    [0x02, "SYN"],
    [0x01, "FIN"],
    [0x04, "RST"],
  ] as const;
  const set = names.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  return set.length === 0 ? "" : `${set.join(" ")} `;
}

/** RFC 5952 without embedded IPv4: the longest run of zero groups is left out. */
function formatIpv6(bytes: Uint8Array, offset: number): string {
  const groups = Array.from({ length: 8 }, (_, index) => readU16(bytes, offset + index * 2).toString(16)).join(":");
  const runs = groups.match(/(?:^|:)0(?::0)+(?=:|$)/g) ?? [];
  const longest = runs.toSorted((a, b) => b.length - a.length)[0];
  if (longest === undefined) return groups;
  const shortened = groups.replace(longest, "::");
  return shortened.replace(/:{3,}/, "::");
}
