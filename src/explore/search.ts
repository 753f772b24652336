// Searches a system: every state within reach, the nearest or the deepest first, or some of them at random.
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import { PairTable } from "./pair-table.ts";
import { checkpointInvalid, childrenOf, decodeCheckpoint, encodeCheckpoint } from "./search-checkpoint.ts";
import { StepList } from "./search-step-list.ts";
import { stepOf, Steps, type System } from "./search-system.ts";
import { SearchTree } from "./search-tree.ts";
import { VisitedPairs } from "./search-visited.ts";

export type SearchOrder =
  /** The first way to a state is a shortest one. */
  | "breadth-first"
  /** Comes to its first ends soon, by ways that are long. */
  | "depth-first"
  /** So many schedules, each step of which is drawn; keeps no more than the ways to the ends that are new. */
  | { readonly random: { readonly seed: number; readonly walks: number } };

export interface SearchOptions {
  readonly system: System;
  readonly order?: SearchOrder;
  /**
   * A step that counts for nothing: ways with the fewest other steps come first. Without it ways with the fewest steps do.
   * Of two orders of the same steps a reduction may leave only one; how many steps of each sort they have is the same.
   */
  readonly freeStep?: number;
  /** Most states to be kept. */
  readonly statesMax?: number;
  /** Most memory that search and system may take for their tables. */
  readonly bytesMax?: number;
  /** What is searched, and how, for checkpoints. */
  readonly identity?: string;
  /** A checkpoint of the same breadth-first search. */
  readonly resumeFrom?: Uint8Array;
  /** Called for every end that is new; true ends the search. */
  readonly onEnd: (state: number, search: Search) => boolean;
  /** Called now and then; true ends the search. */
  readonly onProgress?: (search: Search) => boolean;
}

/** States between two calls of `onProgress`. */
const PROGRESS_STATES = 1 << 12;

export class Search {
  readonly tree = new SearchTree();
  transitions = 0;
  /** Whether there is nothing left to be seen. */
  isExhausted = false;
  readonly #options: SearchOptions;
  readonly #statesMax: number;
  readonly #freeStep: number;
  readonly #steps = new Steps();
  readonly #visited = new VisitedPairs();
  /** Ends: engine sides that came to their end, and what of the source makes a difference then. */
  readonly #ends = new PairTable();
  readonly #engineEnds = new Set<number>();
  /** Breadth-first: steps that count, taken up when all within reach of fewer of them was seen. Depth-first: the stack. */
  #later = new StepList();
  #taking = new StepList();
  #expanded = 0;
  #levelBegin = 0;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#statesMax = options.statesMax ?? Infinity;
    this.#freeStep = options.freeStep ?? -1;
  }

  /** Ends that differ in what was sent and saved; of one of them there may be several, by the source. */
  get ends(): number {
    return this.#engineEnds.size;
  }

  /** States kept. */
  get states(): number {
    return this.tree.size;
  }

  /** States seen whose steps have not been followed. */
  get waiting(): number {
    return this.tree.size - this.#expanded;
  }

  get bytes(): number {
    return this.tree.bytes + this.#visited.bytes + this.#later.bytes + this.#taking.bytes;
  }

  sourceOf(state: number): number {
    return this.tree.sourceOf(state);
  }

  engineOf(state: number): number {
    return this.#options.system.engineOf(this.tree.engineOf(state));
  }

  /** The states on the way to a state, the start first. */
  statesTo(state: number): number[] {
    return this.tree.statesTo(state);
  }

  /** The steps from the start, or from a state on the way, to a state. */
  path(state: number, from = 0): number[] {
    return this.tree.path(state, from);
  }

  /** Throws OperationError `explore-memory` when a bound is too small to go on, `checkpoint-invalid` for a bad checkpoint. */
  run(): void {
    const { system, order = "breadth-first", resumeFrom } = this.#options;
    if (resumeFrom !== undefined) this.#resume(resumeFrom);
    else this.#visit(system.startSource, system.startEngine, 0, 0);
    if (order === "breadth-first") this.#runBreadthFirst();
    else if (order === "depth-first") this.#runDepthFirst();
    else this.#walk(new SeededRandom(order.random.seed), order.random.walks);
  }

  #runBreadthFirst(): void {
    while (this.#expanded < this.tree.size || this.#takeUp()) {
      const state = this.#expanded++;
      if (this.#follow(state)) return;
      if (state % PROGRESS_STATES === 0 && this.#pause()) return;
    }
    this.isExhausted = true;
  }

  /** Follows every step of a state, or puts it off. True to end the search. */
  #follow(state: number): boolean {
    if (this.#expand(state)) return true;
    const { count, sources, engines, packed } = this.#steps;
    for (let i = 0; i < count; i++) {
      const step = packed[i] as number;
      if (this.#freeStep < 0 || stepOf(step) === this.#freeStep) {
        this.#visit(sources[i] as number, engines[i] as number, state, step);
      } else this.#later.push(sources[i] as number, engines[i] as number, state, step);
    }
    return false;
  }

  /** Goes one counted step further. False when there is nothing new. */
  #takeUp(): boolean {
    this.#levelBegin = this.tree.size;
    while (this.#later.size > 0 && this.tree.size === this.#levelBegin) {
      const taking = this.#later;
      this.#later = this.#taking;
      this.#taking = taking;
      for (let i = 0; i < taking.size; i++) this.#take(taking, i);
      taking.cut(0);
    }
    return this.tree.size > this.#levelBegin;
  }

  #take(steps: StepList, i: number): boolean {
    return this.#visit(steps.sourceAt(i), steps.engineAt(i), steps.parentAt(i), steps.packedStepAt(i));
  }

  #runDepthFirst(): void {
    let isNew = true;
    for (;;) {
      if (isNew) {
        const state = this.#expanded++;
        if (this.#expand(state)) return;
        // The last one pushed is the first one taken.
        for (let i = this.#steps.count - 1; i >= 0; i--) this.#pushStep(state, i);
        if (state % PROGRESS_STATES === 0 && this.#pause()) return;
      }
      const last = this.#later.size - 1;
      if (last < 0) break;
      isNew = this.#take(this.#later, last);
      this.#later.cut(last);
    }
    this.isExhausted = true;
  }

  #pushStep(state: number, i: number): void {
    const { sources, engines, packed } = this.#steps;
    this.#later.push(sources[i] as number, engines[i] as number, state, packed[i] as number);
  }

  /** Every walk begins at the start and goes on to where no step leads on. */
  #walk(random: SeededRandom, walks: number): void {
    for (let walk = 0; walk < walks; walk++) {
      const begin = this.tree.size;
      const { size } = this.#ends;
      let state = 0;
      for (;;) {
        if (this.#expand(state)) return;
        const { count, sources, engines, packed } = this.#steps;
        if (count === 0) break;
        const i = random.below(count);
        this.transitions++;
        state = this.#keep(sources[i] as number, engines[i] as number, state, packed[i] as number);
      }
      if (this.#ends.size === size) this.tree.cut(begin);
      this.#expanded = this.tree.size;
      if (walk % (PROGRESS_STATES >>> 4) === 0 && this.#pause()) return;
    }
  }

  /** Finds the steps of a state; judges it if it is an end. True to end the search. */
  #expand(state: number): boolean {
    const { system } = this.#options;
    const source = this.tree.sourceOf(state);
    const engine = this.tree.engineOf(state);
    this.#steps.clear();
    return system.expand(source, engine, this.#steps) && this.#end(state, source, system.engineOf(engine));
  }

  /** Whether the state is new. */
  #visit(source: number, engine: number, parent: number, packedStep: number): boolean {
    this.transitions++;
    if (!this.#visited.add(source, engine)) return false;
    this.#keep(source, engine, parent, packedStep);
    return true;
  }

  #keep(source: number, engine: number, parent: number, packedStep: number): number {
    if (this.tree.size >= this.#statesMax) throw tooMuch("states", this.#statesMax);
    return this.tree.add(source, engine, parent, packedStep);
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

  /** A breadth-first search as it is when `onProgress` is called; another one goes on from there (`resumeFrom`). */
  checkpoint(): Uint8Array<ArrayBuffer> {
    return encodeCheckpoint({
      identity: this.#options.identity ?? "",
      expanded: this.#expanded,
      levelBegin: this.#levelBegin,
      transitions: this.transitions,
      ...this.tree.steps(),
    });
  }

  /** Takes the steps of a checkpoint's tree again, level by level; ends are judged again. */
  #resume(bytes: Uint8Array): void {
    const { system, identity = "" } = this.#options;
    const { expanded, levelBegin, transitions, parents, packedSteps } = decodeCheckpoint(bytes, identity);
    const children = childrenOf(parents);
    const sources = new Uint32Array(parents.length);
    const engines = new Uint32Array(parents.length);
    sources[0] = system.startSource;
    engines[0] = system.startEngine;
    for (let state = 0; state < parents.length; state++) {
      this.#visit(
        sources[state] as number,
        engines[state] as number,
        parents[state] as number,
        packedSteps[state] as number,
      );
      if (this.tree.size !== state + 1) throw checkpointInvalid("it has a state twice");
      if (state >= expanded) continue;
      this.#expand(state);
      for (let child = children.first[state] as number; child !== 0; child = children.next[child] as number) {
        const i = this.#steps.packed.subarray(0, this.#steps.count).indexOf(packedSteps[child] as number);
        if (i < 0) throw checkpointInvalid("it has a step that is not possible");
        sources[child] = this.#steps.sources[i] as number;
        engines[child] = this.#steps.engines[i] as number;
      }
      if (state >= levelBegin && this.#freeStep >= 0) this.#putOff(state);
    }
    this.#expanded = expanded;
    this.#levelBegin = levelBegin;
    this.transitions = transitions;
  }

  /** The steps that `#follow` would put off. */
  #putOff(state: number): void {
    for (let i = 0; i < this.#steps.count; i++) {
      if (stepOf(this.#steps.packed[i] as number) !== this.#freeStep) this.#pushStep(state, i);
    }
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
