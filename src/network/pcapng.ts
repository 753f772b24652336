// A writer for pcapng captures (IETF draft-ietf-opsawg-pcapng): several interfaces, nanoseconds, directions, comments.
import { assert } from "../base/assert.ts";

const BlockType = {
  sectionHeader: 0x0a0d_0d0a,
  interfaceDescription: 1,
  interfaceStatistics: 5,
  enhancedPacket: 6,
} as const;

const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
const LINK_TYPE_ETHERNET = 1;
/** Ten to the minus ninth of a second: option if_tsresol. */
const NANOSECONDS = 9;
const NANOSECONDS_PER_MS = 1_000_000;

/** Option codes; those of one block type do not collide with the common ones, opt_endofopt and opt_comment. */
const OptionCode = {
  end: 0,
  comment: 1,
  sectionApplication: 4,
  interfaceName: 2,
  interfaceDescription: 3,
  interfaceResolution: 9,
  packetFlags: 2,
  statisticsReceived: 4,
  statisticsDropped: 5,
} as const;

/** epb_flags, bits 1:0: the frame came into the interface, or went out of it. */
const directionFlags = { in: 1, out: 2 } as const;

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

export interface CapturedInterface {
  readonly name: string;
  readonly description?: string;
}

export interface CapturedPacket {
  /** Index of the interface in the order of `interfaces`. */
  readonly interfaceIndex: number;
  /** Milliseconds since the Unix epoch, fractional: a double holds a quarter of a microsecond today. */
  readonly timeMs: number;
  readonly bytes: Uint8Array;
  readonly direction?: "in" | "out";
  readonly comment?: string;
}

export interface InterfaceStatistics {
  readonly interfaceIndex: number;
  readonly timeMs: number;
  readonly received: number;
  readonly dropped: number;
}

/** The beginning of a capture: the section header and a description of each interface. */
export function captureHeader(application: string, interfaces: readonly CapturedInterface[]): Uint8Array {
  const blocks = [sectionHeaderBlock(application), ...interfaces.map(interfaceBlock)];
  const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    bytes.set(block, at);
    at += block.length;
  }
  return bytes;
}

/** An enhanced packet block with the whole frame. */
export function packetBlock(packet: CapturedPacket): Uint8Array {
  const options: Option[] = [];
  if (packet.direction !== undefined) {
    options.push({ code: OptionCode.packetFlags, value: u32Bytes(directionFlags[packet.direction]) });
  }
  if (packet.comment !== undefined) options.push({ code: OptionCode.comment, value: text(packet.comment) });
  const fixedBytes = 20;
  return layOutBlock(BlockType.enhancedPacket, fixedBytes + padded(packet.bytes.length), options, (view, at) => {
    view.setUint32(at, packet.interfaceIndex, true);
    writeTime(view, at + 4, packet.timeMs);
    view.setUint32(at + 12, packet.bytes.length, true);
    view.setUint32(at + 16, packet.bytes.length, true);
    new Uint8Array(view.buffer).set(packet.bytes, at + fixedBytes);
  });
}

/** An interface statistics block, written when the capture ends: what was seen, and what was not written for want of room. */
export function statisticsBlock(statistics: InterfaceStatistics): Uint8Array {
  const options = [
    { code: OptionCode.statisticsReceived, value: u64Bytes(statistics.received) },
    { code: OptionCode.statisticsDropped, value: u64Bytes(statistics.dropped) },
  ];
  return layOutBlock(BlockType.interfaceStatistics, 12, options, (view, at) => {
    view.setUint32(at, statistics.interfaceIndex, true);
    writeTime(view, at + 4, statistics.timeMs);
  });
}

function sectionHeaderBlock(application: string): Uint8Array {
  const options = [{ code: OptionCode.sectionApplication, value: text(application) }];
  return layOutBlock(BlockType.sectionHeader, 16, options, (view, at) => {
    view.setUint32(at, BYTE_ORDER_MAGIC, true);
    view.setUint16(at + 4, 1, true);
    view.setUint16(at + 6, 0, true);
    // Section length unknown: all ones.
    view.setUint32(at + 8, 0xffff_ffff, true);
    view.setUint32(at + 12, 0xffff_ffff, true);
  });
}

function interfaceBlock(description: CapturedInterface): Uint8Array {
  const options: Option[] = [
    { code: OptionCode.interfaceName, value: text(description.name) },
    { code: OptionCode.interfaceResolution, value: Uint8Array.of(NANOSECONDS) },
  ];
  if (description.description !== undefined) {
    options.push({ code: OptionCode.interfaceDescription, value: text(description.description) });
  }
  return layOutBlock(BlockType.interfaceDescription, 8, options, (view, at) => {
    view.setUint16(at, LINK_TYPE_ETHERNET, true);
    // Snapshot length 0: frames are not cut.
    view.setUint32(at + 4, 0, true);
  });
}

/** Lays out type, length, body, options and length again; everything is aligned to four bytes. */
function layOutBlock(
  type: number,
  bodyBytes: number,
  options: readonly Option[],
  writeBody: (view: DataView, offset: number) => void,
): Uint8Array {
  assert(bodyBytes % 4 === 0, "a pcapng body is a multiple of four bytes");
  const optionBytes = options.reduce(
    (sum, option) => sum + 4 + padded(option.value.length),
    options.length > 0 ? 4 : 0,
  );
  const totalBytes = 12 + bodyBytes + optionBytes;
  const bytes = new Uint8Array(totalBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, totalBytes, true);
  writeBody(view, 8);
  let at = 8 + bodyBytes;
  for (const option of options) {
    view.setUint16(at, option.code, true);
    view.setUint16(at + 2, option.value.length, true);
    bytes.set(option.value, at + 4);
    at += 4 + padded(option.value.length);
  }
  view.setUint32(totalBytes - 4, totalBytes, true);
  return bytes;
}

/** A timestamp in nanoseconds, the high half first. Their number does not fit a double, so it is summed by halves. */
function writeTime(view: DataView, offset: number, timeMs: number): void {
  const wholeMs = Math.floor(timeMs);
  const rest = Math.floor((timeMs - wholeMs) * NANOSECONDS_PER_MS);
  const upper = Math.floor(wholeMs / 0x1_0000) * NANOSECONDS_PER_MS;
  const lower = (upper % 0x1_0000) * 0x1_0000 + (wholeMs % 0x1_0000) * NANOSECONDS_PER_MS + rest;
  const high = Math.floor(upper / 0x1_0000) + Math.floor(lower / 0x1_0000_0000);
  view.setUint32(offset, high, true);
  view.setUint32(offset + 4, lower % 0x1_0000_0000, true);
}

const encoder = new TextEncoder();
const text = (value: string): Uint8Array => encoder.encode(value).subarray(0, 0xffff);

const padded = (lengthBytes: number): number => (lengthBytes + 3) & ~3;

function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function u64Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, value % 0x1_0000_0000, true);
  view.setUint32(4, Math.floor(value / 0x1_0000_0000), true);
  return bytes;
}
