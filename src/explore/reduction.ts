// Partial order: where the order of two steps makes no difference, one of the two orders is enough.
import type { Strategy } from "../strategy/strategy.ts";
import { Interner, numbersKey } from "./interner.ts";
import type { Move } from "./move.ts";
import type { SourceGraph } from "./source-graph.ts";
import { ACTORS_MAX, Actor } from "./steps.ts";

/**
 * Two rules, both for a source whose CPUs are paused, where nothing but the device moves beside the engine, and nothing
 * goes round in circles: every step brings the end nearer, so no step is put off for ever.
 *
 * 1. The engine's next step reads pages that the device will not write any more, and touches nothing else of it. Then it
 *    commutes with everything the device can still do, and is done at once.
 *    An end that is so reached early has no interrupt waiting that the device raises later. More interrupts harm no guest.
 * 2. The device's next step changes no memory and no log and raises no interrupt, and the engine has no look at the device itself left to take.
 *    Then it commutes with everything the engine can still do.
 */
export class Reduction {
  readonly #move: Move;
  readonly #source: SourceGraph;
  readonly #pageSets = new Interner<ReadonlySet<number>>();
  /** By source state: the number of the set of pages that are still going to be written. */
  readonly #future: number[] = [];
  /** Commands of the switchover after which the engine looks at memory only. */
  readonly #lastLook: number;

  constructor(move: Move, strategy: Strategy) {
    this.#move = move;
    this.#source = move.source;
    this.#lastLook = strategy.switchover.findLastIndex(({ kind }) => kind !== "copy") + 1;
  }

  /** Whether the engine's step, which was just tried with `move.step`, is the only one that has to be followed. */
  engineAlone(source: number): boolean {
    const { stepReads, stepTouches } = this.#move;
    if (!this.#source.isPaused(source) || stepTouches) return false;
    const future = this.#pageSets.value(this.#futureWrites(source));
    for (const page of stepReads) if (future.has(page)) return false;
    return true;
  }

  /** An actor whose step is the only one that has to be followed, or -1. */
  actorAlone(source: number, engine: number): number {
    if (!this.#source.isPaused(source)) return -1;
    const place = this.#move.placeOf(engine);
    if (place.kind !== "yield" || place.command + (place.hasBegun ? 1 : 0) < this.#lastLook) return -1;
    let alone = -1;
    for (let actor = Actor.receive; actor < ACTORS_MAX; actor++) {
      const next = this.#source.next(source, actor);
      if (next < 0) continue;
      if (alone >= 0 || this.#source.memory(next) !== this.#source.memory(source)) return -1;
      if (this.#move.drift(engine, source, next, actor) !== engine) return -1;
      if (this.#source.pendingIn(next) !== this.#source.pendingIn(source)) return -1;
      alone = actor;
    }
    return alone;
  }

  #futureWrites(source: number): number {
    const known = this.#future[source];
    if (known !== undefined) return known;
    const pages = new Set<number>();
    for (let actor = Actor.receive; actor < ACTORS_MAX; actor++) {
      const next = this.#source.next(source, actor);
      if (next < 0) continue;
      for (const page of this.#source.changedPages(source, next)) pages.add(page);
      for (const page of this.#pageSets.value(this.#futureWrites(next))) pages.add(page);
    }
    const sorted = [...pages].toSorted((a, b) => a - b);
    const number = this.#pageSets.intern(numbersKey(sorted), () => pages);
    this.#future[source] = number;
    return number;
  }
}
