// Numbers for pairs of numbers: what sets of states, and states made of parts, are kept in. Eight bytes a pair and a hash.
import { doubled, pairHash } from "./growing.ts";

const EMPTY = 0xffff_ffff;

/**
 * A pair of unsigned 32-bit numbers gets the next number from 0 when it is first seen. Exact: nothing is known by its hash
 * alone. A state of many parts is a tree of pairs (as in LTSmin's tree compression), and so is known by one number.
 */
export class PairTable {
  size = 0;
  /** Left and right of each pair, side by side: whoever looks at one looks at the other. */
  #pairs = new Uint32Array(2048);
  #slots = new Uint32Array(4096).fill(EMPTY);
  #mask = 4095;

  get bytes(): number {
    return this.#pairs.byteLength + this.#slots.byteLength;
  }

  left(number: number): number {
    return this.#pairs[number * 2] as number;
  }

  right(number: number): number {
    return this.#pairs[number * 2 + 1] as number;
  }

  /** The pair's number; a new one is `size` from before the call. */
  add(left: number, right: number): number {
    const pairs = this.#pairs;
    let slot = pairHash(left, right) & this.#mask;
    for (;;) {
      const number = this.#slots[slot] as number;
      if (number === EMPTY) break;
      if (pairs[number * 2] === left >>> 0 && pairs[number * 2 + 1] === right >>> 0) return number;
      slot = (slot + 1) & this.#mask;
    }
    return this.#append(slot, left, right);
  }

  #append(slot: number, left: number, right: number): number {
    const number = this.size;
    if (number * 2 === this.#pairs.length) this.#pairs = doubled(this.#pairs);
    this.#pairs[number * 2] = left;
    this.#pairs[number * 2 + 1] = right;
    this.#slots[slot] = number;
    this.size++;
    if (this.size * 2 > this.#mask) this.#rehash();
    return number;
  }

  #rehash(): void {
    const mask = this.#mask * 2 + 1;
    const slots = new Uint32Array(mask + 1).fill(EMPTY);
    for (let number = 0; number < this.size; number++) {
      let slot = pairHash(this.left(number), this.right(number)) & mask;
      while (slots[slot] !== EMPTY) slot = (slot + 1) & mask;
      slots[slot] = number;
    }
    this.#slots = slots;
    this.#mask = mask;
  }
}
