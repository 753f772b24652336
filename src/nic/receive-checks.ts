// The checksums of a received frame, really computed, as the status and error bits of its descriptor.
import { foldSum, sctpChecksum, sumBytes, sumHalves, swap16, type FrameBytes } from "./checksum.ts";
import { RXD_ERR_IPE, RXD_ERR_TCPE, RXD_STAT_IPCS, RXD_STAT_L4CS, RXD_STAT_UDPCS } from "./descriptors.ts";
import { IpProtocol, type PacketHeaders } from "./packet-headers.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const protocols = IpProtocol;
const IPCS = RXD_STAT_IPCS;
const L4CS = RXD_STAT_L4CS;
const UDPCS = RXD_STAT_UDPCS;
const IPE = RXD_ERR_IPE;
const TCPE = RXD_ERR_TCPE;

const ALL_ONES = 0xffff;
/** In halves from the start of the IP header: the two addresses. */
const IPV4_ADDRESSES = 6;
const IPV4_ADDRESSES_END = 10;
const IPV6_ADDRESSES = 4;
const IPV6_ADDRESSES_END = 20;
const UDP_CHECKSUM_OFFSET = 6;
const SCTP_CHECKSUM_OFFSET = 8;

function sctpStatus(frame: FrameBytes, from: number, to: number): number {
  const at = (from + SCTP_CHECKSUM_OFFSET) >>> 1;
  const field = (frame.halves[at] as number) + (frame.halves[at + 1] as number) * 0x1_0000;
  return sctpChecksum(frame.bytes, from, to) === field ? L4CS : L4CS | TCPE;
}

/** `addressSum` is what the IP header gives to the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1). */
function layer4Status(frame: FrameBytes, headers: PacketHeaders, addressSum: number): number {
  const { l4Protocol, l4Offset, l4End } = headers;
  if (l4Protocol === protocols.sctp) return sctpStatus(frame, l4Offset, l4End);
  let status = L4CS;
  if (l4Protocol === protocols.udp) {
    // A UDP sender may leave the checksum out (RFC 768); then there is nothing to report.
    if (frame.halves[(l4Offset + UDP_CHECKSUM_OFFSET) >>> 1] === 0) return 0;
    status |= UDPCS;
  }
  const sum = addressSum + swap16(l4End - l4Offset) + swap16(l4Protocol) + sumBytes(frame, l4Offset, l4End);
  return foldSum(sum) === ALL_ONES ? status : status | TCPE;
}

/**
 * IPCS says that the IPv4 header checksum was looked at, L4CS the same of TCP, UDP or SCTP; IPE and TCPE that it was
 * wrong. Fragments and datagrams longer than their frame get neither L4CS nor TCPE (82599 datasheet, section 7.1.11).
 * Signed: bit 31 may be set.
 */
export function checksumStatus(frame: FrameBytes, headers: PacketHeaders): number {
  const { ipVersion, ipBytes, l4Protocol } = headers;
  const { halves } = frame;
  const ip = headers.ipOffset >>> 1;
  if (ipVersion === 4) {
    const addressSum = sumHalves(halves, ip + IPV4_ADDRESSES, ip + IPV4_ADDRESSES_END);
    const options =
      ipBytes > IPV4_ADDRESSES_END * 2 ? sumHalves(halves, ip + IPV4_ADDRESSES_END, ip + (ipBytes >>> 1)) : 0;
    const sum = sumHalves(halves, ip, ip + IPV4_ADDRESSES) + addressSum + options;
    const status = foldSum(sum) === ALL_ONES ? IPCS : IPCS | IPE;
    return l4Protocol === 0 ? status : status | layer4Status(frame, headers, addressSum);
  }
  if (l4Protocol === 0) return 0;
  return layer4Status(frame, headers, sumHalves(halves, ip + IPV6_ADDRESSES, ip + IPV6_ADDRESSES_END));
}
