// Reads from an ELF file which shared libraries it needs, so that of a tree of packages only those are kept.

/** Layouts and numbers: the ELF-64 object file format, version 1.5 draft 2, and elf(5). */
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1;
const DT_STRTAB = 5;

interface Segment {
  readonly kind: number;
  readonly offset: number;
  readonly address: number;
  readonly sizeBytes: number;
}

/**
 * The `DT_NEEDED` names of a 64-bit little-endian program or library, such as `libc.so.6`; none of anything else, and
 * of a damaged file those that can be read.
 */
export function neededLibraries(contents: Uint8Array): string[] {
  const file = new DataView(contents.buffer, contents.byteOffset, contents.byteLength);
  const isElf64 = contents.length >= 64 && file.getUint32(0) === 0x7f45_4c46 && file.getUint16(4) === 0x0201;
  if (!isElf64) return [];
  const segments = readSegments(file);
  const names: number[] = [];
  let strings: number | undefined;
  for (const { offset, sizeBytes } of segments.filter((segment) => segment.kind === PT_DYNAMIC)) {
    for (let at = offset; at + 16 <= Math.min(offset + sizeBytes, file.byteLength); at += 16) {
      const tag = word(file, at);
      const value = word(file, at + 8);
      if (tag === DT_NEEDED) names.push(value);
      if (tag === DT_STRTAB) strings = offsetOf(segments, value);
    }
  }
  const table = strings;
  return table === undefined ? [] : names.map((name) => textAt(contents, table + name)).filter((name) => name !== "");
}

function readSegments(file: DataView): Segment[] {
  const start = word(file, 32);
  const entryBytes = file.getUint16(54, true);
  const count = file.getUint16(56, true);
  return Array.from({ length: count }, (_, index) => start + index * entryBytes)
    .filter((at) => at + 56 <= file.byteLength)
    .map((at) => ({
      kind: file.getUint32(at, true),
      offset: word(file, at + 8),
      address: word(file, at + 16),
      sizeBytes: word(file, at + 32),
    }));
}

/** Where in the file the byte is that is loaded at `address`. */
function offsetOf(segments: readonly Segment[], address: number): number | undefined {
  const segment = segments.find(
    (one) => one.kind === PT_LOAD && address >= one.address && address < one.address + one.sizeBytes,
  );
  return segment === undefined ? undefined : segment.offset + address - segment.address;
}

/** Offsets and addresses of real files are far below 2^53. */
function word(file: DataView, at: number): number {
  return file.getUint32(at, true) + file.getUint32(at + 4, true) * 2 ** 32;
}

function textAt(contents: Uint8Array, at: number): string {
  const end = contents.indexOf(0, at);
  return end < 0 ? "" : Buffer.from(contents.buffer, contents.byteOffset + at, end - at).toString("latin1");
}
