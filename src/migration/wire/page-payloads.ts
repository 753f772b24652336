// Payloads that carry guest memory: pages with their bytes, and ranges of pages that are all zero.
//
//   pages        0 u32 round | 4 u16 count, 1..256 | 6 u8 log2 of the page size | 7 u8 0
//                8 count × page bytes | count × u32 page number, strictly ascending
//   zero-pages   0 u32 round | 4 u16 count, 1..1024 | 6 u16 0
//                8 count × (u32 first page, u32 pages), ascending, not overlapping
//
// The page numbers come last so that a frame can grow page by page without moving a byte.
import { assert } from "../../base/assert.ts";
import { readU16, readU32, writeU16, writeU32 } from "./bytes.ts";
import { wireError } from "./errors.ts";
import {
  isPageSize,
  pagesPayloadBytes,
  pagesPerFrameMax,
  pagesPrefixBytes,
  rangesPerFrameMax,
  zeroPagesPrefixBytes,
} from "./frame.ts";
import type { Pages, ZeroPages } from "./protocol.ts";

/** Why these are no page numbers of one frame, or undefined. */
function pagesProblem(pages: Uint32Array): string | undefined {
  if (pages.length === 0 || pages.length > pagesPerFrameMax) return `${pages.length} pages in one frame`;
  for (let i = 1; i < pages.length; i++) {
    if ((pages[i] as number) <= (pages[i - 1] as number)) return "page numbers do not ascend";
  }
  return undefined;
}

/** Why these are no ranges of one frame, or undefined. */
function rangesProblem(ranges: Uint32Array): string | undefined {
  const count = ranges.length / 2;
  if (!Number.isInteger(count) || count === 0 || count > rangesPerFrameMax) return `${count} ranges in one frame`;
  let end = 0;
  for (let i = 0; i < ranges.length; i += 2) {
    if ((ranges[i + 1] as number) === 0) return "an empty range";
    if ((ranges[i] as number) < end) return "ranges overlap or do not ascend";
    end = (ranges[i] as number) + (ranges[i + 1] as number);
  }
  return undefined;
}

interface PagesTable {
  readonly round: number;
  readonly pageBytes: number;
  readonly pages: Uint32Array;
}

/** Writes everything of a `pages` payload but the pages' bytes, and returns the payload's length. */
export function writePagesTable(table: PagesTable, target: Uint8Array, at: number): number {
  const { pages, pageBytes } = table;
  const problem = pagesProblem(pages);
  assert(problem === undefined, problem ?? "");
  assert(isPageSize(pageBytes), `page size ${pageBytes}`);
  writeU32(target, at, table.round);
  writeU16(target, at + 4, pages.length);
  target[at + 6] = Math.log2(pageBytes);
  target[at + 7] = 0;
  writeWords(pages, target, at + pagesPrefixBytes + pages.length * pageBytes);
  return pagesPayloadBytes(pages.length, pageBytes);
}

/** Writes a `pages` payload from a message and returns its length. */
export function writePages(message: Pages, target: Uint8Array, at: number): number {
  assert(message.bytes.length === message.pages.length * message.pageBytes, "bytes and pages differ in number");
  target.set(message.bytes, at + pagesPrefixBytes);
  return writePagesTable(message, target, at);
}

/** Writes a `zero-pages` payload and returns its length. */
export function writeZeroPages(message: ZeroPages, target: Uint8Array, at: number): number {
  const problem = rangesProblem(message.ranges);
  assert(problem === undefined, problem ?? "");
  const count = message.ranges.length / 2;
  writeU32(target, at, message.round);
  writeU16(target, at + 4, count);
  writeU16(target, at + 6, 0);
  writeWords(message.ranges, target, at + zeroPagesPrefixBytes);
  return zeroPagesPrefixBytes + 8 * count;
}

/** Reads page numbers into arrays of its own, used again for each frame; so a message is good until the next one. */
export class PagePayloadReader {
  readonly #pages = new Uint32Array(pagesPerFrameMax);
  readonly #ranges = new Uint32Array(2 * rangesPerFrameMax);

  pages(payload: Uint8Array): Pages {
    const kind = "pages";
    const count = readU16(payload, 4);
    const shift = payload[6] as number;
    const pageBytes = 2 ** shift;
    if (payload[7] !== 0) throw wireError("wire-reserved", "a reserved byte of pages is set", { kind });
    if (!isPageSize(pageBytes)) throw wireError("wire-payload", `pages of 2^${shift} bytes`, { kind });
    if (count > pagesPerFrameMax || payload.length !== pagesPayloadBytes(count, pageBytes)) {
      throw wireError("wire-payload", `${count} pages in a payload of ${payload.length} bytes`, { kind });
    }
    const tableAt = pagesPrefixBytes + count * pageBytes;
    const pages = readWords(payload, tableAt, this.#pages, count);
    const problem = pagesProblem(pages);
    if (problem !== undefined) throw wireError("wire-payload", `pages: ${problem}`, { kind });
    return { kind, round: readU32(payload, 0), pageBytes, pages, bytes: payload.subarray(pagesPrefixBytes, tableAt) };
  }

  zeroPages(payload: Uint8Array): ZeroPages {
    const kind = "zero-pages";
    const count = readU16(payload, 4);
    if (readU16(payload, 6) !== 0) throw wireError("wire-reserved", "a reserved byte of zero-pages is set", { kind });
    if (count > rangesPerFrameMax || payload.length !== zeroPagesPrefixBytes + 8 * count) {
      throw wireError("wire-payload", `${count} ranges in a payload of ${payload.length} bytes`, { kind });
    }
    const ranges = readWords(payload, zeroPagesPrefixBytes, this.#ranges, 2 * count);
    const problem = rangesProblem(ranges);
    if (problem !== undefined) throw wireError("wire-payload", `zero-pages: ${problem}`, { kind });
    return { kind, round: readU32(payload, 0), ranges };
  }
}

function readWords(payload: Uint8Array, at: number, target: Uint32Array, count: number): Uint32Array {
  for (let i = 0; i < count; i++) target[i] = readU32(payload, at + 4 * i);
  return target.subarray(0, count);
}

function writeWords(words: Uint32Array, target: Uint8Array, at: number): void {
  for (let i = 0; i < words.length; i++) writeU32(target, at + 4 * i, words[i] as number);
}
