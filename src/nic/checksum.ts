// Checksums as the device computes them: the Internet checksum (RFC 1071) and SCTP's CRC32c (RFC 9260, appendix A).
//
// Sums are over little-endian halves of memory as they lie there. A one's complement sum does not care: it comes out
// with its bytes swapped, which is right when it is stored the same way (RFC 1071, section 2, "Byte Order Independence").

/** Bytes seen as bytes, halves and words of the same memory, for code that parses and sums frames. */
export class FrameBytes {
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Uint32Array;

  constructor(sizeBytes: number) {
    const buffer = new ArrayBuffer(sizeBytes);
    this.bytes = new Uint8Array(buffer);
    this.halves = new Uint16Array(buffer);
    this.words = new Uint32Array(buffer);
  }
}

/** A 16-bit number with its bytes the other way round: network order to a half of memory and back. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}

/** Adds the carries of a sum to it until it fits 16 bits. */
export function foldSum(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** Sum of the halves [from, to), unfolded: for the short and aligned parts of headers. */
export function sumHalves(halves: Uint16Array, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum = (sum + (halves[i] as number)) | 0;
  return sum;
}

/**
 * Sum of the bytes [from, to), unfolded; an odd last byte counts as if a zero followed. At most 64 KiB, so that it
 * stays within 32 bits.
 */
export function sumBytes(frame: FrameBytes, from: number, to: number): number {
  if ((from & 1) !== 0) return sumOddBytes(frame.bytes, from, to);
  const { halves } = frame;
  const end = to >>> 1;
  let sum = 0;
  let half = from >>> 1;
  if (end - half >= LONG_HALVES) {
    sum = (half & 1) === 0 ? 0 : (halves[half] as number);
    sum += sumWords(frame.words, (half + 1) >>> 1, end >>> 1);
    half = end & ~1;
  }
  for (; half < end; half++) sum = (sum + (halves[half] as number)) | 0;
  return (to & 1) === 0 ? sum : sum + (frame.bytes[to - 1] as number);
}

/** From here on, summing words and not halves pays. */
const LONG_HALVES = 32;

function sumWords(words: Uint32Array, from: number, to: number): number {
  let low = 0;
  let high = 0;
  for (let i = from; i < to; i++) {
    const word = words[i] as number;
    low += word & 0xffff;
    high += word >>> 16;
  }
  return low + high;
}

/** Only a guest that gives an odd header length comes here. */
function sumOddBytes(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += (bytes[i] as number) << (((i - from) & 1) * 8);
  return sum;
}

const CRC32C_POLYNOMIAL = 0x82f6_3b78;
const crc32cTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ CRC32C_POLYNOMIAL : crc >>> 1;
  return crc;
});

const SCTP_CHECKSUM_OFFSET = 8;
const SCTP_HEADER_BYTES = 12;

/** CRC32c of the SCTP packet [from, to) with its checksum field taken as zero; stored little-endian on the wire. */
export function sctpChecksum(bytes: Uint8Array, from: number, to: number): number {
  const field = from + SCTP_CHECKSUM_OFFSET;
  let crc = 0xffff_ffff;
  for (let i = from; i < to; i++) {
    const byte = i >= field && i < from + SCTP_HEADER_BYTES ? 0 : (bytes[i] as number);
    crc = (crc >>> 8) ^ (crc32cTable[(crc ^ byte) & 0xff] as number);
  }
  return ~crc >>> 0;
}
