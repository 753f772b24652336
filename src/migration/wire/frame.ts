// The frame: a fixed header of 24 bytes, the number of each message, and how long each payload may be.
//
//   offset bytes field
//        0     4 magic, the letters UWAY
//        4     1 message number; 0 is invalid
//        5     1 flags, all reserved: 0
//        6     2 stream, reserved for several connections: 0
//        8     4 sequence: frames sent before this one in this direction, modulo 2^32
//       12     4 length of the payload in bytes
//       16     4 checksum of the payload (checksum.ts)
//       20     4 checksum of the 20 bytes before
//
// Everything is little-endian. The header has a checksum of its own so that a wrong length is noticed before anybody
// waits for that many bytes.
import type { MessageKind } from "./protocol.ts";

export const headerBytes = 24;
export const checkedHeaderBytes = 20;
/** "UWAY" read as a little-endian word. */
export const frameMagic = 0x5941_5755;
export const magicBytes: readonly number[] = [0x55, 0x57, 0x41, 0x59];

export const headerOffsets = {
  magic: 0,
  type: 4,
  flags: 5,
  stream: 6,
  sequence: 8,
  length: 12,
  payloadChecksum: 16,
  headerChecksum: 20,
} as const;

export const messageNumbers = {
  hello: 1,
  "hello-ack": 2,
  offer: 3,
  accept: 4,
  pages: 5,
  "zero-pages": 6,
  "round-end": 7,
  "machine-state": 8,
  "vf-state": 9,
  "end-of-state": 10,
  ready: 11,
  go: 12,
  running: 13,
  goodbye: 14,
  abort: 15,
  error: 16,
  "query-outcome": 17,
  outcome: 18,
  keepalive: 19,
} as const satisfies Record<MessageKind, number>;

const kindsByNumber: (MessageKind | undefined)[] = [];
for (const [kind, number] of Object.entries(messageNumbers)) kindsByNumber[number] = kind as MessageKind;

export function kindOfNumber(number: number): MessageKind | undefined {
  return kindsByNumber[number];
}

const kibibyte = 1024;
const mebibyte = 1024 * 1024;

export const pageBytesMin = 64;
export const pageBytesMax = 64 * kibibyte;
export const pagesPerFrameMax = 256;
export const rangesPerFrameMax = 1024;
export const statePartBytesMax = mebibyte;
export const stateBytesMax = { "machine-state": 64 * mebibyte, "vf-state": mebibyte } as const;
export const memoryBytesMax = 2 ** 40;

export function isPageSize(pageBytes: number): boolean {
  return pageBytes >= pageBytesMin && pageBytes <= pageBytesMax && Number.isInteger(Math.log2(pageBytes));
}

/** Fixed parts at the front of the payloads that have a variable part. */
export const pagesPrefixBytes = 8;
export const zeroPagesPrefixBytes = 8;
export const statePrefixBytes = 8;

/** Bytes of a `pages` payload. */
export function pagesPayloadBytes(count: number, pageBytes: number): number {
  return pagesPrefixBytes + count * (4 + pageBytes);
}

export interface LengthRange {
  readonly minBytes: number;
  readonly maxBytes: number;
}

function exactly(bytes: number): LengthRange {
  return { minBytes: bytes, maxBytes: bytes };
}

const statePartLength: LengthRange = { minBytes: statePrefixBytes + 1, maxBytes: statePrefixBytes + statePartBytesMax };

/** How long a payload may be, by message. Once the offer is known, `pages` is held to its page size as well. */
export const payloadLengths: Readonly<Record<MessageKind, LengthRange>> = {
  hello: { minBytes: 2, maxBytes: 4 * kibibyte },
  "hello-ack": { minBytes: 2, maxBytes: 4 * kibibyte },
  offer: { minBytes: 2, maxBytes: 16 * kibibyte },
  accept: exactly(0),
  pages: { minBytes: pagesPayloadBytes(1, pageBytesMin), maxBytes: pagesPayloadBytes(pagesPerFrameMax, pageBytesMax) },
  "zero-pages": { minBytes: zeroPagesPrefixBytes + 8, maxBytes: zeroPagesPrefixBytes + 8 * rangesPerFrameMax },
  "round-end": exactly(16),
  "machine-state": statePartLength,
  "vf-state": statePartLength,
  "end-of-state": exactly(8),
  ready: { minBytes: 2, maxBytes: 4 * kibibyte },
  go: exactly(0),
  running: exactly(0),
  goodbye: exactly(0),
  abort: { minBytes: 2, maxBytes: 4 * kibibyte },
  error: { minBytes: 2, maxBytes: 16 * kibibyte },
  "query-outcome": exactly(16),
  outcome: exactly(24),
  keepalive: exactly(0),
};
