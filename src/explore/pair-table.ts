// Numbers for pairs of numbers: what sets of states, and states made of parts, are kept in. Eight bytes a pair and a hash.
import { OperationError } from "../base/errors.ts";

const EMPTY = 0xffff_ffff;

/**
 * A pair of unsigned 32-bit numbers gets the next number from 0 when it is first seen. Exact: nothing is known by its hash
 * alone. A state of many parts is a tree of pairs (as in LTSmin's tree compression), and so is known by one number.
 */
export class PairTable {
  size = 0;
  readonly #entriesMax: number;
  #left: Uint32Array<ArrayBuffer>;
  #right: Uint32Array<ArrayBuffer>;
  #slots: Uint32Array<ArrayBuffer>;
  #mask: number;

  /** Fails with OperationError `explore-memory` beyond `entriesMax` pairs. */
  constructor(options: { entriesMax?: number } = {}) {
    this.#entriesMax = options.entriesMax ?? 0x3fff_ffff;
    this.#left = new Uint32Array(1024);
    this.#right = new Uint32Array(1024);
    this.#slots = new Uint32Array(4096).fill(EMPTY);
    this.#mask = 4095;
  }

  get bytes(): number {
    return this.#left.byteLength + this.#right.byteLength + this.#slots.byteLength;
  }

  left(number: number): number {
    return this.#left[number] as number;
  }

  right(number: number): number {
    return this.#right[number] as number;
  }

  /** The pair's number; a new one is `size` from before the call. */
  add(left: number, right: number): number {
    let slot = hash(left, right) & this.#mask;
    for (;;) {
      const number = this.#slots[slot] as number;
      if (number === EMPTY) break;
      if (this.#left[number] === left >>> 0 && this.#right[number] === right >>> 0) return number;
      slot = (slot + 1) & this.#mask;
    }
    return this.#append(slot, left, right);
  }

  /** The pair's number, or -1. */
  find(left: number, right: number): number {
    let slot = hash(left, right) & this.#mask;
    for (;;) {
      const number = this.#slots[slot] as number;
      if (number === EMPTY) return -1;
      if (this.#left[number] === left >>> 0 && this.#right[number] === right >>> 0) return number;
      slot = (slot + 1) & this.#mask;
    }
  }

  #append(slot: number, left: number, right: number): number {
    const number = this.size;
    if (number >= this.#entriesMax) throw tooMany(this.#entriesMax);
    if (number === this.#left.length) {
      this.#left = grown(this.#left);
      this.#right = grown(this.#right);
    }
    this.#left[number] = left;
    this.#right[number] = right;
    this.#slots[slot] = number;
    this.size++;
    if (this.size * 2 > this.#mask) this.#rehash();
    return number;
  }

  #rehash(): void {
    const mask = this.#mask * 2 + 1;
    const slots = new Uint32Array(mask + 1).fill(EMPTY);
    for (let number = 0; number < this.size; number++) {
      let slot = hash(this.#left[number] as number, this.#right[number] as number) & mask;
      while (slots[slot] !== EMPTY) slot = (slot + 1) & mask;
      slots[slot] = number;
    }
    this.#slots = slots;
    this.#mask = mask;
  }
}

function grown(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}

function hash(left: number, right: number): number {
  let h = Math.imul(left, 0x9e37_79b1) ^ Math.imul(right, 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b_3c6d);
  return h ^ (h >>> 13);
}

function tooMany(entries: number): OperationError {
  return new OperationError({
    code: "explore-memory",
    message: `The search has come to ${entries} states, which is its bound.`,
    advice: "Raise --bound states=N, or make the search smaller: fewer frames, a preemption bound, or --random.",
    facts: { entries },
  });
}
