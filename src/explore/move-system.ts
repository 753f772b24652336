// A move as a search wants it: the steps from each state, all of them or those that a reduction leaves.
import type { Move } from "./move.ts";
import type { Reduction } from "./reduction.ts";
import { REPEATS_MAX, type Steps, type System } from "./search-system.ts";
import { ACTORS_MAX, ENGINE } from "./steps.ts";

export class MoveSystem implements System {
  readonly startSource: number;
  readonly startEngine: number;
  readonly #move: Move;
  readonly #reduction: Reduction | undefined;

  /** Without a reduction every order of everything is followed. */
  constructor(move: Move, reduction?: Reduction) {
    this.#move = move;
    this.#reduction = reduction;
    this.startSource = move.startSource;
    this.startEngine = move.startEngine;
  }

  get bytes(): number {
    return this.#move.bytes;
  }

  engineOf(engine: number): number {
    return engine;
  }

  /** The interrupts that wait for the guest. */
  endingOf(source: number): number {
    return this.#move.source.pendingIn(source);
  }

  expand(source: number, engine: number, steps: Steps): boolean {
    const move = this.#move;
    const reduction = this.#reduction;
    if (!move.step(source, engine)) return true;
    const { nextSource, nextEngine } = move;
    if (reduction?.engineAlone(source) === true) {
      this.#followEngine(reduction, steps);
      return false;
    }
    const alone = reduction?.actorAlone(source, engine) ?? -1;
    if (alone >= 0) {
      steps.add(move.source.next(source, alone), engine, alone);
      return false;
    }
    for (let actor = 0; actor < ACTORS_MAX; actor++) {
      const next = move.source.next(source, actor);
      if (next >= 0) steps.add(next, move.drift(engine, source, next, actor), actor);
    }
    steps.add(nextSource, nextEngine, ENGINE);
    return false;
  }

  /** As far as the engine goes alone; the states in between need not be kept, since nothing else begins there. */
  #followEngine(reduction: Reduction, steps: Steps): void {
    const move = this.#move;
    for (let repeats = 1; ; repeats++) {
      const { nextSource, nextEngine } = move;
      const goesOn = repeats < REPEATS_MAX && move.step(nextSource, nextEngine) && reduction.engineAlone(nextSource);
      if (goesOn) continue;
      steps.add(nextSource, nextEngine, ENGINE, repeats);
      return;
    }
  }
}
