// What a search searches: states that are pairs of numbers, and the steps between them.

/** A source and an engine with all that lies between them, each known by one number below 2^32. */
export interface System {
  readonly startSource: number;
  readonly startEngine: number;
  /** Adds every step from a state to `steps`; true if the state is an end. An end may have steps, too. */
  expand(source: number, engine: number, steps: Steps): boolean;
  /** The engine's side behind a number; another number where a bound counts along in it. */
  engineOf(engine: number): number;
  /** What of a source makes a difference at an end; as for the engine's side, all of it does. */
  endingOf(source: number): number;
  /** Memory that the system takes for what it remembers. */
  readonly bytes: number;
}

/** Most steps that may lead on from one state. */
const STEPS_MAX = 64;
/** A step is packed with how often it is done in a row. */
const REPEATS_SHIFT = 5;
export const REPEATS_MAX = 0xffff >>> REPEATS_SHIFT;

/** The steps from one state, in arrays that are used again for the next. */
export class Steps {
  count = 0;
  readonly sources = new Uint32Array(STEPS_MAX);
  readonly engines = new Uint32Array(STEPS_MAX);
  /** As `packStep` packs them. */
  readonly packed = new Uint16Array(STEPS_MAX);

  clear(): void {
    this.count = 0;
  }

  /** A step below 32, done so many times in a row without a look at the states in between. */
  add(source: number, engine: number, step: number, repeats = 1): void {
    this.addPacked(source, engine, step | (repeats << REPEATS_SHIFT));
  }

  addPacked(source: number, engine: number, packed: number): void {
    const at = this.count++;
    this.sources[at] = source;
    this.engines[at] = engine;
    this.packed[at] = packed;
  }
}

export function stepOf(packed: number): number {
  return packed & ((1 << REPEATS_SHIFT) - 1);
}

/** Adds a packed step to a path as often as it is done. */
export function unpackStep(packed: number, path: number[]): void {
  for (let repeats = packed >>> REPEATS_SHIFT; repeats > 0; repeats--) path.push(stepOf(packed));
}
