// Page geometry: the page size is a parameter, 4 KiB on real machines and 64 bytes at the explorer's toy scale.
import { assert } from "../base/assert.ts";

export interface PageGeometry {
  /** Bytes per page, a power of two. */
  readonly sizeBytes: number;
  /** log2(sizeBytes). */
  readonly shift: number;
  /** Pages in the guest's RAM. */
  readonly count: number;
}

export function pageGeometry(memoryBytes: number, pageBytes = 4096): PageGeometry {
  assert(pageBytes >= 16 && (pageBytes & (pageBytes - 1)) === 0, `page size ${pageBytes} is not a power of two`);
  assert(Number.isSafeInteger(memoryBytes) && memoryBytes > 0, `memory size ${memoryBytes}`);
  assert(memoryBytes % pageBytes === 0, `memory size ${memoryBytes} is not a multiple of the page size`);
  return { sizeBytes: pageBytes, shift: Math.log2(pageBytes), count: memoryBytes / pageBytes };
}
