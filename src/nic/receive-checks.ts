// The checksums of a received frame, really computed, as the status and error bits of its descriptor.
import { foldSum, sctpChecksum, sumBytes, swap16, type FrameBytes } from "./checksum.ts";
import { RXD_ERR_IPE, RXD_ERR_TCPE, RXD_STAT_IPCS, RXD_STAT_L4CS, RXD_STAT_UDPCS } from "./descriptors.ts";
import { IpProtocol, type PacketHeaders } from "./packet-headers.ts";

const ALL_ONES = 0xffff;
const UDP_CHECKSUM_OFFSET = 6;
const SCTP_CHECKSUM_OFFSET = 8;

/** Sum of the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1), as memory shows it, unfolded. */
function pseudoHeaderSum(frame: FrameBytes, headers: PacketHeaders): number {
  const addresses =
    headers.ipVersion === 4
      ? sumBytes(frame, headers.ipOffset + 12, headers.ipOffset + 20)
      : sumBytes(frame, headers.ipOffset + 8, headers.ipOffset + 40);
  return addresses + swap16(headers.l4End - headers.l4Offset) + swap16(headers.l4Protocol);
}

function layer4Status(frame: FrameBytes, headers: PacketHeaders): number {
  const { l4Protocol, l4Offset, l4End } = headers;
  if (l4Protocol === IpProtocol.sctp) {
    const at = l4Offset + SCTP_CHECKSUM_OFFSET;
    const field = (frame.halves[at >>> 1] as number) + (frame.halves[(at >>> 1) + 1] as number) * 0x1_0000;
    return sctpChecksum(frame.bytes, l4Offset, l4End) === field ? RXD_STAT_L4CS : RXD_STAT_L4CS | RXD_ERR_TCPE;
  }
  const isUdp = l4Protocol === IpProtocol.udp;
  // A UDP sender may leave the checksum out (RFC 768); then there is nothing to report.
  if (isUdp && frame.halves[(l4Offset + UDP_CHECKSUM_OFFSET) >>> 1] === 0) return 0;
  const status = isUdp ? RXD_STAT_L4CS | RXD_STAT_UDPCS : RXD_STAT_L4CS;
  const sum = foldSum(sumBytes(frame, l4Offset, l4End) + pseudoHeaderSum(frame, headers));
  return sum === ALL_ONES ? status : status | RXD_ERR_TCPE;
}

/**
 * IPCS says that the IPv4 header checksum was looked at, L4CS the same of TCP, UDP or SCTP; IPE and TCPE that it was
 * wrong. Fragments and datagrams longer than their frame get neither L4CS nor TCPE (82599 datasheet, section 7.1.11).
 * Signed: bit 31 may be set.
 */
export function checksumStatus(frame: FrameBytes, headers: PacketHeaders): number {
  let status = 0;
  if (headers.ipVersion === 4) {
    const sum = foldSum(sumBytes(frame, headers.ipOffset, headers.ipOffset + headers.ipBytes));
    status = sum === ALL_ONES ? RXD_STAT_IPCS : RXD_STAT_IPCS | RXD_ERR_IPE;
  }
  return headers.l4Protocol === 0 ? status : status | layer4Status(frame, headers);
}
