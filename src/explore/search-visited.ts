// The set of states a search has seen: pairs of numbers, 64 of which share an entry where their sources are neighbours.
import { pairHash } from "./growing.ts";

const BLOCK_SHIFT = 6;
const ENTRY_SHIFT = 2;
const ENTRIES_MIN = 1 << 10;

/**
 * An entry is the engine's side, the number of a block of 64 sources, and a bit for each of those: four words, in one
 * line of the cache. No entry has no bit set. Sources get their numbers as they are come upon, so those that meet the
 * same engine side are often neighbours.
 */
export class VisitedPairs {
  size = 0;
  #entries = 0;
  #words = new Uint32Array(ENTRIES_MIN << ENTRY_SHIFT);
  #mask = ENTRIES_MIN - 1;

  get bytes(): number {
    return this.#words.byteLength;
  }

  /** Whether the pair was not in the set yet. */
  add(source: number, engine: number): boolean {
    const block = source >>> BLOCK_SHIFT;
    const bit = 1 << (source & 31);
    const half = 2 + ((source >>> 5) & 1);
    const words = this.#words;
    let slot = pairHash(engine, block) & this.#mask;
    for (;;) {
      const at = slot << ENTRY_SHIFT;
      if (words[at] === engine && words[at + 1] === block) {
        const bits = words[at + half] as number;
        if ((bits & bit) !== 0) return false;
        if (bits !== 0 || (words[at + 5 - half] as number) !== 0) {
          words[at + half] = bits | bit;
          this.size++;
          return true;
        }
      }
      if (words[at + 2] === 0 && words[at + 3] === 0) break;
      slot = (slot + 1) & this.#mask;
    }
    this.#append(slot << ENTRY_SHIFT, { source, engine });
    return true;
  }

  #append(at: number, { source, engine }: { readonly source: number; readonly engine: number }): void {
    this.#words[at] = engine;
    this.#words[at + 1] = source >>> BLOCK_SHIFT;
    this.#words[at + 2 + ((source >>> 5) & 1)] = 1 << (source & 31);
    this.size++;
    this.#entries++;
    if (this.#entries * 3 > this.#mask * 2) this.#grow();
  }

  #grow(): void {
    const old = this.#words;
    const words = new Uint32Array(old.length * 2);
    this.#mask = this.#mask * 2 + 1;
    for (let from = 0; from < old.length; from += 1 << ENTRY_SHIFT) {
      if (old[from + 2] === 0 && old[from + 3] === 0) continue;
      let slot = pairHash(old[from] as number, old[from + 1] as number) & this.#mask;
      while (words[(slot << ENTRY_SHIFT) + 2] !== 0 || words[(slot << ENTRY_SHIFT) + 3] !== 0) {
        slot = (slot + 1) & this.#mask;
      }
      words.set(old.subarray(from, from + (1 << ENTRY_SHIFT)), slot << ENTRY_SHIFT);
    }
    this.#words = words;
  }
}
