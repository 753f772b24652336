// The common model with less to be searched: one state for all that differ in which queue is which, one order of many.
import { assert } from "../../src/base/assert.ts";
import { Steps, type System } from "../../src/explore/search-system.ts";
import type { QueuesSystem } from "./queues-system.ts";

export interface Reductions {
  /** Queues are interchangeable: a state's queues are sorted. */
  readonly symmetry: boolean;
  /**
   * One queue at a time. What a queue's device writes and the copies of the queue's own pages touch nothing of another
   * queue, and whatever other queues do makes none of them possible or impossible: the next class begins only when this
   * queue, too, has no page left. So while a queue has pages left of the class, its own steps are a persistent set; of
   * these the copy of a page that the device will not write any more is one by itself, and so is the device's next step
   * once no page of its queue is left at all. Nothing goes round in circles: all ends are come to.
   */
  readonly partialOrder: boolean;
}

export class ReducedQueues implements System {
  readonly startSource: number;
  readonly startEngine: number;
  readonly #system: QueuesSystem;
  readonly #reductions: Reductions;
  readonly #level: number;
  readonly #count: number;
  /** By queue: the part of the image that is its, and its state, as one number. */
  readonly #keys: Float64Array;
  /** For each queue of the sorted state, which queue it was. */
  readonly #order: number[];
  /** By place and order: the place with its queues in that order. */
  readonly #places = new Map<number, number>();
  readonly #tried = new Steps();

  constructor(system: QueuesSystem, reductions: Reductions) {
    this.#system = system;
    this.#reductions = reductions;
    this.#level = system.queues.level;
    this.#count = system.queues.size.queues;
    this.#keys = new Float64Array(this.#count);
    this.#order = Array.from(this.#keys.keys());
    this.startSource = system.startSource;
    this.startEngine = system.startEngine;
  }

  get bytes(): number {
    return this.#system.bytes;
  }

  engineOf(engine: number): number {
    return engine;
  }

  endingOf(): number {
    return 0;
  }

  expand(source: number, engine: number, steps: Steps): boolean {
    const isEnd = this.#reductions.partialOrder
      ? this.#expandOneQueue(source, engine, steps)
      : this.#system.expand(source, engine, steps);
    if (!this.#reductions.symmetry) return isEnd;
    for (let i = 0; i < steps.count; i++) {
      const [sorted, sortedEngine] = this.#sort(steps.sources[i] as number, steps.engines[i] as number);
      steps.sources[i] = sorted;
      steps.engines[i] = sortedEngine;
    }
    return isEnd;
  }

  #expandOneQueue(source: number, engine: number, steps: Steps): boolean {
    const { pages } = this.#system.rowOf(engine);
    if (pages.length === 0) return true;
    if (this.#letFinish(source, engine, steps)) return false;
    const settled = pages.findIndex((page) => this.#system.isSettled(source, page));
    if (settled >= 0) {
      this.#system.addCopy(source, engine, settled, steps);
      return false;
    }
    const queue = this.#queueWithFewestLeft(pages);
    this.#system.addDeviceStep(source, engine, queue, steps);
    for (const [i, page] of pages.entries()) {
      if (page >>> this.#level === queue) this.#system.addCopy(source, engine, i, steps);
    }
    return false;
  }

  /** A device of whose queue nothing is left to be sent goes on to its end. */
  #letFinish(source: number, engine: number, steps: Steps): boolean {
    const { queues } = this.#system;
    for (let queue = 0; queue < this.#count; queue++) {
      const left = queues.states - 1 - this.#system.stateOf(source, queue);
      if (left === 0 || !this.#system.isSent(engine, queue)) continue;
      steps.add(source + left * queues.states ** queue, engine, queue, left);
      return true;
    }
    return false;
  }

  /** One that has begun goes on before another begins. */
  #queueWithFewestLeft(pages: readonly number[]): number {
    let fewest = Infinity;
    let chosen = 0;
    for (let queue = 0; queue < this.#count; queue++) {
      const left = pages.filter((page) => page >>> this.#level === queue).length;
      if (left === 0 || left >= fewest) continue;
      fewest = left;
      chosen = queue;
    }
    return chosen;
  }

  /** The state with its queues sorted; `#order` says how. */
  #sort(source: number, engine: number): readonly [number, number] {
    const { queues, images, engines } = this.#system;
    const image = engines.right(engine);
    for (let queue = 0; queue < this.#count; queue++) {
      const part = images.part(image, queue, this.#level);
      this.#keys[queue] = part * queues.states + this.#system.stateOf(source, queue);
      this.#order[queue] = queue;
    }
    if (this.#isSorted()) return [source, engine];
    this.#order.sort((a, b) => (this.#keys[a] as number) - (this.#keys[b] as number) || a - b);
    let sorted = 0;
    let sortedImage = image;
    for (const [to, from] of this.#order.entries()) {
      sorted += this.#system.stateOf(source, from) * queues.states ** to;
      sortedImage = images.withPart(sortedImage, to, this.#level, images.part(image, from, this.#level));
    }
    return [sorted, this.#system.engine(this.#placeInOrder(engines.left(engine)), sortedImage)];
  }

  #isSorted(): boolean {
    for (let queue = 1; queue < this.#count; queue++) {
      if ((this.#keys[queue - 1] as number) > (this.#keys[queue] as number)) return false;
    }
    return true;
  }

  /** The place whose pages left are those of `place` with their queues in `#order`. */
  #placeInOrder(place: number): number {
    const code = this.#order.reduce((sum, from) => sum * this.#count + from, 0);
    const key = place * this.#count ** this.#count + code;
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const { copier } = this.#system;
    const pages = copier.places[place]?.pages ?? [];
    const isFinished = pages.length === 0;
    const inOrder = pages.map((page) => this.#pageInOrder(page)).toSorted((a, b) => a - b);
    const found = isFinished ? place : copier.withLeft(inOrder);
    this.#places.set(key, found);
    return found;
  }

  #pageInOrder(page: number): number {
    const { stride } = this.#system.queues;
    return this.#order.indexOf(page >>> this.#level) * stride + (page & (stride - 1));
  }

  /** A path of this system as the steps that its queues do under their own names. */
  realSteps(path: readonly number[]): number[] {
    if (!this.#reductions.symmetry) return [...path];
    let names = Array.from(this.#keys.keys());
    let source = this.startSource;
    let engine = this.startEngine;
    return path.map((step) => {
      const real = this.#named(step, names);
      [source, engine] = this.#system.next(source, engine, step, this.#tried);
      [source, engine] = this.#sort(source, engine);
      if (!this.#isInPlace()) names = this.#order.map((from) => names[from] as number);
      return real;
    });
  }

  #isInPlace(): boolean {
    return this.#order.every((from, to) => from === to);
  }

  #named(step: number, names: readonly number[]): number {
    const { packets } = this.#system.queues.size;
    if (step < this.#count) return names[step] as number;
    const copy = step - this.#count;
    const queue = names[Math.floor(copy / (packets + 1))];
    assert(queue !== undefined, "a copy is of some queue's page");
    return this.#count + queue * (packets + 1) + (copy % (packets + 1));
  }
}
