// Steps that a search has still to take: where they lead, and where they come from.
import { doubled } from "./growing.ts";

/** A list that grows at its end and shrinks there, or all at once. */
export class StepList {
  size = 0;
  #words = new Uint32Array(4096);

  get bytes(): number {
    return this.#words.byteLength;
  }

  push(source: number, engine: number, parent: number, packedStep: number): void {
    const at = this.size * 4;
    if (at === this.#words.length) this.#words = doubled(this.#words);
    this.#words[at] = source;
    this.#words[at + 1] = engine;
    this.#words[at + 2] = parent;
    this.#words[at + 3] = packedStep;
    this.size++;
  }

  /** Forgets the steps from this one on. */
  cut(size: number): void {
    this.size = size;
  }

  sourceAt(i: number): number {
    return this.#words[i * 4] as number;
  }

  engineAt(i: number): number {
    return this.#words[i * 4 + 1] as number;
  }

  parentAt(i: number): number {
    return this.#words[i * 4 + 2] as number;
  }

  packedStepAt(i: number): number {
    return this.#words[i * 4 + 3] as number;
  }
}
