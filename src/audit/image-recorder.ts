// The destination's memory as it was received, kept page by page beside the live one for the audit.
import { OperationError } from "../base/errors.ts";
import type { PageGeometry } from "../memory/geometry.ts";

/**
 * A second buffer of the guest's size. Each page that the engine applies is copied here as well, so that the image is
 * there when the vCPUs begin, and nothing has to be copied then. A page that never came is zero, as it is in the
 * destination's fresh memory.
 */
export class ImageRecorder {
  readonly pages: PageGeometry;
  readonly bytes: Uint8Array;

  constructor(pages: PageGeometry) {
    this.pages = pages;
    this.bytes = new Uint8Array(pages.count * pages.sizeBytes);
  }

  /** `content` is one page, good until the call returns. */
  page(page: number, content: Uint8Array): void {
    this.bytes.set(content, page * this.pages.sizeBytes);
  }

  zeroPage(page: number): void {
    const start = page * this.pages.sizeBytes;
    this.bytes.fill(0, start, start + this.pages.sizeBytes);
  }
}

/*
 * Layout, little-endian, version 1: u32 magic "UWIM" | u32 version | u32 page bytes | u32 pages | u32 pages that follow,
 * then their numbers (u32, ascending), then their contents. Pages of zeros do not follow.
 */
const MAGIC = 0x4d49_5755;
const VERSION = 1;
const HEADER_BYTES = 20;

/** Sparse: pages of zeros are left out. `bytes` begin on a 4-byte boundary. */
export function serializeImage(bytes: Uint8Array, pageBytes: number): Uint8Array {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  const pageWords = pageBytes >>> 2;
  const present: number[] = [];
  for (let page = 0; page * pageBytes < bytes.length; page++) {
    const end = (page + 1) * pageWords;
    let at = page * pageWords;
    while (at < end && words[at] === 0) at++;
    if (at < end) present.push(page);
  }
  const header = new Uint32Array([MAGIC, VERSION, pageBytes, bytes.length / pageBytes, present.length]);
  const numbers = Uint32Array.from(present);
  const image = new Uint8Array(HEADER_BYTES + numbers.byteLength + present.length * pageBytes);
  image.set(new Uint8Array(header.buffer), 0);
  image.set(new Uint8Array(numbers.buffer), HEADER_BYTES);
  let to = HEADER_BYTES + numbers.byteLength;
  for (const page of present) {
    image.set(bytes.subarray(page * pageBytes, (page + 1) * pageBytes), to);
    to += pageBytes;
  }
  return image;
}

/** The whole image again. `memoryBytes` is what the caller knows the guest to have. Throws OperationError `image-invalid`. */
export function deserializeImage(image: Uint8Array, memoryBytes: number): Uint8Array {
  check(image.length >= HEADER_BYTES, "is too short for a header");
  const [magic, version, pageBytes = 0, count = 0, present = 0] = new Uint32Array(image.slice(0, HEADER_BYTES).buffer);
  check(magic === MAGIC, "does not begin with its magic number");
  check(version === VERSION, `has version ${version}, this program reads version ${VERSION}`);
  check(pageBytes >= 16 && (pageBytes & (pageBytes - 1)) === 0, "has a page size that is not a power of two");
  check(pageBytes * count === memoryBytes, "is not of the guest's size");
  check(image.length === HEADER_BYTES + present * (4 + pageBytes), "has not the length that its header says");
  const numbers = new Uint32Array(image.slice(HEADER_BYTES, HEADER_BYTES + present * 4).buffer);
  const bytes = new Uint8Array(memoryBytes);
  let from = HEADER_BYTES + present * 4;
  let previous = -1;
  for (const page of numbers) {
    check(page > previous && page < count, "has page numbers out of order");
    bytes.set(image.subarray(from, from + pageBytes), page * pageBytes);
    from += pageBytes;
    previous = page;
  }
  return bytes;
}

function check(condition: boolean, what: string): asserts condition {
  if (condition) return;
  throw new OperationError({
    code: "image-invalid",
    message: `The recorded image ${what}.`,
    advice: "Audit with the same version of the program on both sides, and check how the image was carried.",
  });
}
