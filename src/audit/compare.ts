// Holds the destination's memory against the expected image: a word at a time, and byte by byte only where pages differ.
import { ByteSet } from "./byte-set.ts";
import type { PageOverlay } from "./page-overlay.ts";

/** Words of bytes that begin on a 4-byte boundary, as pages do. */
function wordsOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
}

/** The bytes that differ and are not excused. */
export function differences(expected: PageOverlay, actual: Uint8Array, excused: ByteSet): ByteSet {
  const { pageShift } = expected;
  const pageWords = (2 ** pageShift) >>> 2;
  const baseWords = wordsOf(expected.base);
  const actualWords = wordsOf(actual);
  const different = new ByteSet(pageShift);
  const pageCount = Math.floor(expected.base.length / 2 ** pageShift);
  for (let page = 0; page < pageCount; page++) {
    const start = page * pageWords;
    const changed = expected.changedPage(page);
    const words = changed === undefined ? baseWords : wordsOf(changed);
    const shift = changed === undefined ? 0 : start;
    let at = start;
    const end = start + pageWords;
    while (at < end && words[at - shift] === actualWords[at]) at++;
    if (at === end) continue;
    const bits = different.bitsOf(page);
    for (; at < end; at++) {
      const changedBits = (words[at - shift] as number) ^ (actualWords[at] as number);
      if (changedBits !== 0) markBytes(bits, at - start, changedBits);
    }
    if (excused.hasPage(page)) {
      const mask = excused.bitsOf(page);
      for (let i = 0; i < bits.length; i++) bits[i] = (bits[i] as number) & ~(mask[i] as number);
    }
    if (different.isEmptyPage(page)) different.forgetPage(page);
  }
  return different;
}

/** Sets the bits of the bytes of word `index` whose bits differ. */
function markBytes(bits: Uint32Array, index: number, changed: number): void {
  const nibble =
    ((changed & 0xff) === 0 ? 0 : 1) |
    ((changed & 0xff00) === 0 ? 0 : 2) |
    ((changed & 0xff_0000) === 0 ? 0 : 4) |
    (changed >>> 24 === 0 ? 0 : 8);
  const word = index >>> 3;
  bits[word] = (bits[word] as number) | (nibble << ((index & 7) * 4));
}
