// Breadth-first search of a move: every state within reach, and the way to each, the shortest first.
import type { Move } from "./move.ts";
import { PairTable } from "./pair-table.ts";
import type { Reduction } from "./reduction.ts";
import { ACTORS_MAX, ENGINE } from "./steps.ts";

export interface SearchOptions {
  readonly move: Move;
  /** Without it every order of everything is followed. */
  readonly reduction?: Reduction;
  readonly statesMax?: number;
  /** Called for every end that is new; true ends the search. */
  readonly onEnd: (state: number, search: Search) => boolean;
  /** Called now and then; true ends the search. */
  readonly onProgress?: (search: Search) => boolean;
}

const PROGRESS_STATES = 1 << 14;
/** A step, and above it how often it was done in a row. */
const REPEATS_SHIFT = 4;
const REPEATS_MAX = 0xfff;

export class Search {
  transitions = 0;
  /** Ends: engine sides that came to their end, and the interrupts that wait for the guest then. */
  readonly #ends = new PairTable();
  readonly #engineEnds = new Set<number>();
  /** Whether there is nothing left to be seen. */
  isExhausted = false;
  readonly #options: SearchOptions;
  readonly #seen: PairTable;
  #parents = new Uint32Array(1024);
  #steps = new Uint16Array(1024);
  #expanded = 0;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#seen = new PairTable(options.statesMax === undefined ? {} : { entriesMax: options.statesMax });
  }

  /** Ends that differ in what was sent and saved; of one of them there may be several, by the interrupts that wait. */
  get ends(): number {
    return this.#engineEnds.size;
  }

  get states(): number {
    return this.#seen.size;
  }

  /** States seen whose steps have not been followed. */
  get waiting(): number {
    return this.#seen.size - this.#expanded;
  }

  get bytes(): number {
    return this.#seen.bytes + this.#parents.byteLength + this.#steps.byteLength;
  }

  sourceOf(state: number): number {
    return this.#seen.left(state);
  }

  engineOf(state: number): number {
    return this.#seen.right(state);
  }

  run(): void {
    const { move, onProgress } = this.#options;
    const start = this.#visit(move.startSource, move.startEngine, 0, 0);
    for (let state = start; state < this.#seen.size; state++) {
      this.#expanded = state;
      if (this.#expand(state)) return;
      if (state % PROGRESS_STATES === 0 && onProgress?.(this) === true) return;
    }
    this.isExhausted = true;
  }

  /** Follows every step of a state. True to end the search. */
  #expand(state: number): boolean {
    const { move, reduction } = this.#options;
    const source = this.#seen.left(state);
    const engine = this.#seen.right(state);
    if (!move.step(source, engine)) return this.#end(state, engine);
    const { nextSource, nextEngine } = move;
    if (reduction?.engineAlone(source) === true) {
      this.#followEngine(state, reduction);
      return false;
    }
    const alone = reduction?.actorAlone(source, engine) ?? -1;
    if (alone >= 0) {
      this.#visit(move.source.next(source, alone), engine, state, alone | (1 << REPEATS_SHIFT));
      return false;
    }
    for (let actor = 0; actor < ACTORS_MAX; actor++) {
      const next = move.source.next(source, actor);
      if (next >= 0) this.#visit(next, move.drift(engine, source, next, actor), state, actor | (1 << REPEATS_SHIFT));
    }
    this.#visit(nextSource, nextEngine, state, ENGINE | (1 << REPEATS_SHIFT));
    return false;
  }

  /** As far as the engine goes alone; the states in between need not be kept, since nothing else begins there. */
  #followEngine(state: number, reduction: Reduction): void {
    const { move } = this.#options;
    for (let repeats = 1; ; repeats++) {
      const { nextSource, nextEngine } = move;
      const goesOn = repeats < REPEATS_MAX && move.step(nextSource, nextEngine) && reduction.engineAlone(nextSource);
      if (goesOn) continue;
      this.#visit(nextSource, nextEngine, state, ENGINE | (repeats << REPEATS_SHIFT));
      return;
    }
  }

  #end(state: number, engine: number): boolean {
    const { size } = this.#ends;
    const end = this.#ends.add(engine, this.#options.move.source.pendingIn(this.#seen.left(state)));
    this.#engineEnds.add(engine);
    return end === size && this.#options.onEnd(state, this);
  }

  #visit(source: number, engine: number, parent: number, step: number): number {
    this.transitions++;
    const size = this.#seen.size;
    const state = this.#seen.add(source, engine);
    if (state !== size) return state;
    if (state >= this.#parents.length) this.#grow();
    this.#parents[state] = parent;
    this.#steps[state] = step;
    return state;
  }

  #grow(): void {
    const parents = new Uint32Array(this.#parents.length * 2);
    parents.set(this.#parents);
    this.#parents = parents;
    const steps = new Uint16Array(this.#steps.length * 2);
    steps.set(this.#steps);
    this.#steps = steps;
  }

  /** The states on the way to a state, the start first. */
  statesTo(state: number): number[] {
    const states = [state];
    for (let at = state; at !== 0; at = this.#parents[at] as number) states.push(this.#parents[at] as number);
    return states.toReversed();
  }

  /** The steps from the start, or from a state on the way, to a state: actors of the source, and ENGINE. */
  path(state: number, from = 0): number[] {
    const path: number[] = [];
    for (let at = state; at !== from; at = this.#parents[at] as number) {
      const packed = this.#steps[at] as number;
      for (let repeats = packed >>> REPEATS_SHIFT; repeats > 0; repeats--) path.push(packed & 0xf);
    }
    return path.toReversed();
  }
}
