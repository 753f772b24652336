// The engine of the common model: the automaton of the shipping switchover, as copies of pages and nothing in between.
import { assert } from "../../src/base/assert.ts";
import { EngineAutomaton, type EngineExperiment } from "../../src/explore/engine-automaton.ts";
import type { Query } from "../../src/explore/engine-view.ts";
import type { Queues } from "./queues.ts";
import { PAGE_BYTES } from "./queue.ts";

/** Where the engine stands between two copies. */
export interface CopyPlace {
  /** Place of the automaton that asks which page comes next, or where the engine has finished. */
  readonly at: number;
  /** Pages left of the class that is being copied; none at the end. */
  readonly pages: readonly number[];
  /** By the pages' order: the place after the copy, once it is known. */
  readonly next: number[];
}

const MAPPED = 0;
const RINGS = 1;

export class Copier {
  readonly places: CopyPlace[] = [];
  readonly automaton: EngineAutomaton;
  readonly start: number;
  readonly #numbers = new Map<number, number>();
  /** Places by the pages left in them. */
  readonly #byPages = new Map<string, number>();

  constructor(experiment: EngineExperiment, queues: Queues) {
    const sets = [queues.mappedPages(), queues.ringPages()];
    const never = (): never => assert(false, "plain copies look at pages only as wholes") as never;
    this.automaton = new EngineAutomaton({
      experiment,
      geometry: queues.memory.pages,
      queuePairs: 1,
      meanings: { content: never, pages: (number) => sets[number] ?? [], posting: never, ringView: never },
    });
    this.start = this.#placeAfter(this.automaton.start);
  }

  /** The place after the i-th page of those left was copied. */
  after(place: number, i: number): number {
    const { at, pages, next } = this.places[place] as CopyPlace;
    const known = next[i];
    if (known !== undefined) return known;
    const copy = this.automaton.places[this.automaton.answer(at, pages[i] as number)];
    assert(copy?.kind === "do" && copy.effect.kind === "copy", "the engine copies the page it was told to");
    const { page, start, lengthBytes } = copy.effect;
    assert(page === pages[i] && start === 0 && lengthBytes === PAGE_BYTES, "it copies the whole page at once");
    const after = this.#placeAfter(copy.next);
    next[i] = after;
    return after;
  }

  /** A place of the same class where just these pages are left. */
  withLeft(pages: readonly number[]): number {
    const key = pages.join(" ");
    const known = this.#byPages.get(key);
    if (known !== undefined) return known;
    let place = this.#classOf(pages);
    for (const copied of (this.places[place] as CopyPlace).pages) {
      if (pages.includes(copied)) continue;
      place = this.after(place, (this.places[place] as CopyPlace).pages.indexOf(copied));
    }
    this.#byPages.set(key, place);
    return place;
  }

  /** The place at which the class of these pages begins. */
  #classOf(pages: readonly number[]): number {
    let place = this.start;
    while (!pages.every((page) => this.places[place]?.pages.includes(page))) {
      const { length } = (this.places[place] as CopyPlace).pages;
      for (let i = 0; i < length; i++) place = this.after(place, 0);
    }
    return place;
  }

  /** Follows the engine to its next choice. Steps in which it asks what never changes, or nothing, are no steps here. */
  #placeAfter(from: number): number {
    let at = from;
    for (;;) {
      const place = this.automaton.places[at];
      assert(place !== undefined && place.kind !== "do", "the engine does nothing before it was told what to copy");
      if (place.kind === "finished") return this.#number(at, []);
      if (place.kind === "yield") at = place.next;
      else if (place.question.kind === "choose") return this.#number(at, place.question.pages);
      else at = this.automaton.answer(at, answerOf(place.question));
    }
  }

  #number(at: number, pages: readonly number[]): number {
    const known = this.#numbers.get(at);
    if (known !== undefined) return known;
    this.#numbers.set(at, this.places.length);
    return this.places.push({ at, pages, next: [] }) - 1;
  }
}

function answerOf({ kind }: Query): number {
  assert(kind === "mapped" || kind === "ring-pages", `the engine asks for ${kind}`);
  return kind === "mapped" ? MAPPED : RINGS;
}
