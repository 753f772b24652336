// Searches a system: every state within reach, and the way to each; the shortest first, or the deepest.
import { OperationError } from "../base/errors.ts";
import { PairTable } from "./pair-table.ts";
import { stepOf, Steps, type System } from "./search-system.ts";
import { SearchTree } from "./search-tree.ts";
import { VisitedPairs } from "./search-visited.ts";

export interface SearchOptions {
  readonly system: System;
  /**
   * A step that counts for nothing: ways with the fewest other steps come first. Without it ways with the fewest steps do.
   * Of two orders of the same steps a reduction may leave only one; how many steps of each sort they have is the same.
   */
  readonly freeStep?: number;
  /** Most states to be kept. */
  readonly statesMax?: number;
  /** Most memory that search and system may take for their tables. */
  readonly bytesMax?: number;
  /** Called for every end that is new; true ends the search. */
  readonly onEnd: (state: number, search: Search) => boolean;
  /** Called now and then; true ends the search. */
  readonly onProgress?: (search: Search) => boolean;
}

/** States between two calls of `onProgress`. */
const PROGRESS_STATES = 1 << 14;

export class Search {
  readonly tree = new SearchTree();
  transitions = 0;
  /** Whether there is nothing left to be seen. */
  isExhausted = false;
  readonly #options: SearchOptions;
  readonly #statesMax: number;
  readonly #freeStep: number;
  /** Steps that count, taken up when everything within reach of fewer of them has been seen: four numbers each. */
  #later: number[] = [];
  readonly #steps = new Steps();
  readonly #visited = new VisitedPairs();
  /** Ends: engine sides that came to their end, and what of the source makes a difference then. */
  readonly #ends = new PairTable();
  readonly #engineEnds = new Set<number>();
  #expanded = 0;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#statesMax = options.statesMax ?? Infinity;
    this.#freeStep = options.freeStep ?? -1;
  }

  /** Ends that differ in what was sent and saved; of one of them there may be several, by the source. */
  get ends(): number {
    return this.#engineEnds.size;
  }

  get states(): number {
    return this.tree.size;
  }

  /** States seen whose steps have not been followed. */
  get waiting(): number {
    return this.tree.size - this.#expanded;
  }

  get bytes(): number {
    return this.tree.bytes + this.#visited.bytes;
  }

  sourceOf(state: number): number {
    return this.tree.sourceOf(state);
  }

  engineOf(state: number): number {
    return this.tree.engineOf(state);
  }

  /** The states on the way to a state, the start first. */
  statesTo(state: number): number[] {
    return this.tree.statesTo(state);
  }

  /** The steps from the start, or from a state on the way, to a state. */
  path(state: number, from = 0): number[] {
    return this.tree.path(state, from);
  }

  /** Throws OperationError `explore-memory` when a bound is too small to go on. */
  run(): void {
    const { system } = this.#options;
    this.#visit(system.startSource, system.startEngine, 0, 0);
    for (let state = 0; state < this.tree.size || this.#takeUp(); state++) {
      this.#expanded = state;
      if (this.#expand(state)) return;
      if (state % PROGRESS_STATES === 0 && this.#pause()) return;
    }
    this.#expanded = this.tree.size;
    this.isExhausted = true;
  }

  /** Follows every step of a state. True to end the search. */
  #expand(state: number): boolean {
    const { system } = this.#options;
    const steps = this.#steps;
    const source = this.tree.sourceOf(state);
    const engine = this.tree.engineOf(state);
    steps.clear();
    if (system.expand(source, engine, steps) && this.#end(state, source, engine)) return true;
    for (let i = 0; i < steps.count; i++) {
      const packed = steps.packed[i] as number;
      if (this.#freeStep < 0 || stepOf(packed) === this.#freeStep) {
        this.#visit(steps.sources[i] as number, steps.engines[i] as number, state, packed);
      } else this.#later.push(steps.sources[i] as number, steps.engines[i] as number, state, packed);
    }
    return false;
  }

  /** Goes one counted step further. False when there is nothing new. */
  #takeUp(): boolean {
    const size = this.tree.size;
    while (this.#later.length > 0 && this.tree.size === size) {
      const later = this.#later;
      this.#later = [];
      for (let i = 0; i < later.length; i += 4) {
        this.#visit(later[i] as number, later[i + 1] as number, later[i + 2] as number, later[i + 3] as number);
      }
    }
    return this.tree.size > size;
  }

  #visit(source: number, engine: number, parent: number, packedStep: number): void {
    this.transitions++;
    if (!this.#visited.add(source, engine)) return;
    if (this.tree.size >= this.#statesMax) throw tooMuch("states", this.#statesMax);
    this.tree.add(source, engine, parent, packedStep);
  }

  #end(state: number, source: number, engine: number): boolean {
    const { size } = this.#ends;
    const end = this.#ends.add(engine, this.#options.system.endingOf(source));
    this.#engineEnds.add(engine);
    return end === size && this.#options.onEnd(state, this);
  }

  /** Between two states: whether there is room for more, and whether to go on. */
  #pause(): boolean {
    const { bytesMax = Infinity, system, onProgress } = this.#options;
    if (this.bytes + system.bytes > bytesMax) throw tooMuch("bytes", bytesMax);
    return onProgress?.(this) === true;
  }
}

function tooMuch(what: "states" | "bytes", bound: number): OperationError {
  return new OperationError({
    code: "explore-memory",
    message: `The search has come to ${bound} ${what === "states" ? "states" : "bytes of memory"}, which is its bound.`,
    advice: "Raise the bound, or make the search smaller: fewer frames, a bound on preemptions, or random schedules.",
    facts: { what, bound },
  });
}
