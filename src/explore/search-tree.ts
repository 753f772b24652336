// The states a search keeps, and for each the step it was first come to by: a tree, in which the way to a state is found.
import { grown } from "./growing.ts";
import { unpackStep } from "./search-system.ts";

export class SearchTree {
  size = 0;
  #sources = new Uint32Array(1024);
  #engines = new Uint32Array(1024);
  #parents = new Uint32Array(1024);
  #steps = new Uint16Array(1024);

  get bytes(): number {
    return this.#sources.byteLength + this.#engines.byteLength + this.#parents.byteLength + this.#steps.byteLength;
  }

  sourceOf(state: number): number {
    return this.#sources[state] as number;
  }

  engineOf(state: number): number {
    return this.#engines[state] as number;
  }

  parentOf(state: number): number {
    return this.#parents[state] as number;
  }

  packedStepOf(state: number): number {
    return this.#steps[state] as number;
  }

  /** A state and how it is come to; its number. The first is its own parent. */
  add(source: number, engine: number, parent: number, packedStep: number): number {
    const state = this.size++;
    if (state === this.#sources.length) this.#grow();
    this.#sources[state] = source;
    this.#engines[state] = engine;
    this.#parents[state] = parent;
    this.#steps[state] = packedStep;
    return state;
  }

  /** Forgets the states from this one on. */
  cut(state: number): void {
    this.size = state;
  }

  /** By state: the state before it, and the packed step between them. */
  steps(): { readonly parents: Uint32Array; readonly packedSteps: Uint16Array } {
    return { parents: this.#parents.subarray(0, this.size), packedSteps: this.#steps.subarray(0, this.size) };
  }

  #grow(): void {
    const { length } = this.#sources;
    // Doubling would leave half of a large tree empty.
    const longer = length < 1 << 22 ? length * 2 : length + (length >>> 1);
    this.#sources = grown(this.#sources, new Uint32Array(longer));
    this.#engines = grown(this.#engines, new Uint32Array(longer));
    this.#parents = grown(this.#parents, new Uint32Array(longer));
    this.#steps = grown(this.#steps, new Uint16Array(longer));
  }

  /** The states on the way to a state, the start first. */
  statesTo(state: number): number[] {
    const states = [state];
    for (let at = state; at !== 0; at = this.parentOf(at)) states.push(this.parentOf(at));
    return states.toReversed();
  }

  /** The steps from the start, or from a state on the way, to a state: actors of the source, and the engine. */
  path(state: number, from = 0): number[] {
    const path: number[] = [];
    for (let at = state; at !== from; at = this.parentOf(at)) unpackStep(this.packedStepOf(at), path);
    return path.toReversed();
  }
}
