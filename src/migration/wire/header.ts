// Writing and reading the frame header of frame.ts.
import { readU16, readU32, writeU16, writeU32 } from "./bytes.ts";
import { checksum } from "./checksum.ts";
import { wireError } from "./errors.ts";
import { checkedHeaderBytes, frameMagic, headerBytes, headerOffsets, kindOfNumber, messageNumbers } from "./frame.ts";
import type { MessageKind } from "./protocol.ts";

export interface FrameHeader {
  readonly kind: MessageKind;
  readonly sequence: number;
  readonly payloadBytes: number;
  readonly payloadChecksum: number;
}

/**
 * Turns the first bytes of `frame` into the header of the payload that already lies behind it.
 * `frame` is exactly header and payload.
 */
export function sealFrame(kind: MessageKind, sequence: number, frame: Uint8Array): void {
  writeU32(frame, headerOffsets.magic, frameMagic);
  frame[headerOffsets.type] = messageNumbers[kind];
  frame[headerOffsets.flags] = 0;
  writeU16(frame, headerOffsets.stream, 0);
  writeU32(frame, headerOffsets.sequence, sequence);
  writeU32(frame, headerOffsets.length, frame.length - headerBytes);
  writeU32(frame, headerOffsets.payloadChecksum, checksum(frame.subarray(headerBytes)));
  writeU32(frame, headerOffsets.headerChecksum, checksum(frame.subarray(0, checkedHeaderBytes)));
}

/** Reads a whole header. Throws `wire-magic`, `wire-checksum`, `wire-reserved` or `wire-type`, looked for in that order. */
export function readHeader(header: Uint8Array): FrameHeader {
  const magic = readU32(header, headerOffsets.magic);
  if (magic !== frameMagic) throw wireError("wire-magic", "The stream does not speak the migration protocol.");
  const sequence = readU32(header, headerOffsets.sequence);
  if (readU32(header, headerOffsets.headerChecksum) !== checksum(header.subarray(0, checkedHeaderBytes))) {
    throw wireError("wire-checksum", "A frame header is damaged.");
  }
  if (header[headerOffsets.flags] !== 0 || readU16(header, headerOffsets.stream) !== 0) {
    throw wireError("wire-reserved", "A reserved field of a frame header is set.", { sequence });
  }
  const number = header[headerOffsets.type] as number;
  const kind = kindOfNumber(number);
  if (kind === undefined) throw wireError("wire-type", `There is no message number ${number}.`, { number, sequence });
  return {
    kind,
    sequence,
    payloadBytes: readU32(header, headerOffsets.length),
    payloadChecksum: readU32(header, headerOffsets.payloadChecksum),
  };
}
