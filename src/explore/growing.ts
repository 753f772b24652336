// What the tables of a search are made of: arrays of words that make room as they fill, and the hash of a pair of words.

/** The words in a larger array, which is returned. */
export function grown<Words extends Uint32Array | Uint16Array | Int32Array>(words: Words, larger: Words): Words {
  larger.set(words);
  return larger;
}

/** Twice as long. */
export const doubled = (words: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> =>
  grown(words, new Uint32Array(words.length * 2));

/** 32 bits, any of which may be taken; the low ones are mixed best. */
export function pairHash(left: number, right: number): number {
  let h = Math.imul(left, 0x9e37_79b1) ^ Math.imul(right, 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d);
  return h ^ (h >>> 13);
}
