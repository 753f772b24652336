// Checksum insertion: what the device adds up and stores where for a frame that leaves in one piece.
import { foldSum, sctpChecksum, sumBytes, type FrameBytes } from "./checksum.ts";
import { TXC_L4T_SCTP, TXC_L4T_TCP, TXC_L4T_UDP, TXD_POPTS_IXSM, TXD_POPTS_TXSM } from "./descriptors.ts";
import type { TransmitContext } from "./transmit-context.ts";

export const IPV4_HEADER_BYTES_MIN = 20;
const IPV4_CHECKSUM_OFFSET = 10;
export const TCP_CHECKSUM_OFFSET = 16;
const UDP_CHECKSUM_OFFSET = 6;
const UDP_HEADER_BYTES = 8;
const SCTP_CHECKSUM_OFFSET = 8;
const SCTP_HEADER_BYTES = 12;
export const TCP_HEADER_BYTES_MIN = 20;

/** Stores a checksum in the byte order in which `sumBytes` reads. */
export function storeSum(bytes: Uint8Array, at: number, sum: number): void {
  bytes[at] = sum;
  bytes[at + 1] = sum >>> 8;
}

/**
 * IPv4 header checksum over [ip, ip + ipBytes). The field counts as it is: zero in a plain frame; with a tunnel the
 * driver puts a value there that cancels what lies between the outer IP header and layer 4 (ixgbevf_tso).
 */
export function insertIpv4Checksum(frame: FrameBytes, ip: number, ipBytes: number): void {
  storeSum(frame.bytes, ip + IPV4_CHECKSUM_OFFSET, ~foldSum(sumBytes(frame, ip, ip + ipBytes)));
}

function insertLayer4Checksum(frame: FrameBytes, l4: number, end: number, type: number): boolean {
  const { bytes } = frame;
  switch (type) {
    case TXC_L4T_TCP: {
      if (l4 + TCP_HEADER_BYTES_MIN > end) return false;
      storeSum(bytes, l4 + TCP_CHECKSUM_OFFSET, ~foldSum(sumBytes(frame, l4, end)));
      return true;
    }
    case TXC_L4T_UDP: {
      if (l4 + UDP_HEADER_BYTES > end) return false;
      const sum = ~foldSum(sumBytes(frame, l4, end)) & 0xffff;
      // Zero would mean that there is no checksum (RFC 768).
      storeSum(bytes, l4 + UDP_CHECKSUM_OFFSET, sum === 0 ? 0xffff : sum);
      return true;
    }
    case TXC_L4T_SCTP: {
      if (l4 + SCTP_HEADER_BYTES > end) return false;
      const crc = sctpChecksum(bytes, l4, end);
      storeSum(bytes, l4 + SCTP_CHECKSUM_OFFSET, crc);
      storeSum(bytes, l4 + SCTP_CHECKSUM_OFFSET + 2, crc >>> 16);
      return true;
    }
    default:
      return false;
  }
}

/**
 * Inserts what POPTS asks for into the frame of `length` bytes at `start`. Sums run to the end of the frame, and the
 * checksum field of TCP and UDP holds the sum of the pseudo header, which the driver put there (CHECKSUM_PARTIAL).
 * False if the headers that the context describes do not fit the frame.
 */
export function insertChecksums(
  frame: FrameBytes,
  start: number,
  length: number,
  context: TransmitContext,
  options: number,
): boolean {
  if ((options & (TXD_POPTS_IXSM | TXD_POPTS_TXSM)) === 0) return true;
  const ip = start + context.macBytes;
  const l4 = ip + context.ipBytes;
  const end = start + length;
  if (l4 > end) return false;
  if ((options & TXD_POPTS_IXSM) !== 0 && context.isIpv4) {
    if (context.ipBytes < IPV4_HEADER_BYTES_MIN) return false;
    insertIpv4Checksum(frame, ip, context.ipBytes);
  }
  return (options & TXD_POPTS_TXSM) === 0 || insertLayer4Checksum(frame, l4, end, context.l4Type);
}
