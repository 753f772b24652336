// Snapshots of a booted guest in the cache: RAM without its zero pages, the machine's and the VF's state, in one file.
import { zstdCompressSync, zstdDecompress, constants } from "node:zlib";
import { promisify } from "node:util";
import { readFileIfPresent, writeFileAtomically } from "./assets/cache.ts";

/*
 * The file: 8 bytes of magic, then one zstd frame with checksum, which holds four u32 (page size, page count, bytes of
 * machine state, bytes of VF state, little-endian), both states, a bitmap of the pages that are not zero, and these
 * pages in order. What the snapshot was made from is in the file's name, as a hash, so a file that can be read is the
 * right one. A file that cannot be read is no snapshot: the guest boots, and it is written anew.
 */

const magic = "UwSnap01";
const headerBytes = 16;
/** Level 1 reads back at the same speed as any other, and writes 40 MB in a tenth of a second. */
const compressionLevel = 1;
const contentsBytesMax = 2 ** 31;

export interface LinuxSnapshot {
  readonly machineState: Uint8Array;
  readonly vfState: Uint8Array;
  readonly pageBytes: number;
  readonly pageCount: number;
  /** One bit for each page that is not zero, the lowest first. */
  readonly bitmap: Uint8Array;
  /** The pages whose bit is set. */
  readonly pages: Uint8Array;
}

export function takeSnapshot(
  ram: Uint8Array,
  states: { machineState: Uint8Array; vfState: Uint8Array; pageBytes: number },
): LinuxSnapshot {
  const { pageBytes } = states;
  const pageCount = ram.length / pageBytes;
  const bitmap = new Uint8Array((pageCount + 7) >>> 3);
  const zeroPage = new Uint8Array(pageBytes);
  const kept: Uint8Array[] = [];
  for (let page = 0; page < pageCount; page++) {
    const contents = ram.subarray(page * pageBytes, (page + 1) * pageBytes);
    if (Buffer.compare(contents, zeroPage) === 0) continue;
    bitmap[page >>> 3] = (bitmap[page >>> 3] ?? 0) | (1 << (page & 7));
    kept.push(contents);
  }
  return { ...states, pageCount, bitmap, pages: Buffer.concat(kept) };
}

/** Puts the snapshot's pages into RAM that is all zero. */
export function fillFromSnapshot(ram: Uint8Array, { bitmap, pages, pageBytes, pageCount }: LinuxSnapshot): void {
  let from = 0;
  for (let page = 0; page < pageCount; page++) {
    if (((bitmap[page >>> 3] ?? 0) & (1 << (page & 7))) === 0) continue;
    ram.set(pages.subarray(from, from + pageBytes), page * pageBytes);
    from += pageBytes;
  }
}

export async function writeSnapshot(file: string, snapshot: LinuxSnapshot): Promise<void> {
  const { machineState, vfState, pageBytes, pageCount, bitmap, pages } = snapshot;
  const header = Buffer.alloc(headerBytes);
  for (const [index, value] of [pageBytes, pageCount, machineState.length, vfState.length].entries()) {
    header.writeUInt32LE(value, index * 4);
  }
  const contents = Buffer.concat([header, machineState, vfState, bitmap, pages]);
  const compressed = zstdCompressSync(contents, {
    params: { [constants.ZSTD_c_compressionLevel]: compressionLevel, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  await writeFileAtomically(file, Buffer.concat([Buffer.from(magic), compressed]));
}

/** The snapshot, or undefined when there is none that can be read. */
export async function readSnapshot(file: string): Promise<LinuxSnapshot | undefined> {
  const bytes = await readFileIfPresent(file);
  if (bytes === undefined || Buffer.from(bytes.subarray(0, magic.length)).toString("latin1") !== magic)
    return undefined;
  try {
    const options = { maxOutputLength: contentsBytesMax };
    return parsed(await promisify(zstdDecompress)(bytes.subarray(magic.length), options));
  } catch {
    return undefined;
  }
}

function parsed(contents: Buffer): LinuxSnapshot | undefined {
  const [pageBytes, pageCount, machineBytes, vfBytes] = [0, 4, 8, 12].map((offset) => contents.readUInt32LE(offset));
  if (pageBytes === undefined || pageCount === undefined || machineBytes === undefined || vfBytes === undefined) {
    return undefined;
  }
  let at = headerBytes;
  const next = (length: number): Uint8Array => contents.subarray(at, (at += length));
  const machineState = next(machineBytes);
  const vfState = next(vfBytes);
  const bitmap = next((pageCount + 7) >>> 3);
  return { machineState, vfState, pageBytes, pageCount, bitmap, pages: contents.subarray(at) };
}
