// Tells pages that hold only zeros, which travel as a number instead of as bytes.
import { assert } from "../base/assert.ts";
import type { GuestMemory } from "./guest-memory.ts";

/**
 * Whether a page holds only zeros now. Reads eight words to a comparison, which is as fast as memory on long runs of
 * zeros, and leaves at the first eight that are not zero. Integers on purpose: as floating-point numbers twice as many
 * bytes go into a comparison, but the bytes of -0.0 compare equal to zero.
 */
export function isZeroPage(memory: GuestMemory, page: number): boolean {
  const { shift, count } = memory.pages;
  if (page < 0 || page >= count) assert(false, `page ${page} is outside guest memory`);
  const words = memory.words();
  const wordsPerPage = 1 << (shift - 2);
  const start = page * wordsPerPage;
  let i = start;
  for (const end = start + (wordsPerPage & ~7); i < end; i += 8) {
    const low = (words[i] ?? 0) | (words[i + 1] ?? 0) | (words[i + 2] ?? 0) | (words[i + 3] ?? 0);
    const high = (words[i + 4] ?? 0) | (words[i + 5] ?? 0) | (words[i + 6] ?? 0) | (words[i + 7] ?? 0);
    if ((low | high) !== 0) return false;
  }
  for (const end = start + wordsPerPage; i < end; i++) if (words[i] !== 0) return false;
  return true;
}
