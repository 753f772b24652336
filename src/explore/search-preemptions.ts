// A bound on preemptions: how often a schedule may take the turn from the guest's CPU while that could go on.
import { assert } from "../base/assert.ts";
import { stepOf, Steps, type System } from "./search-system.ts";

/**
 * Most faults show with few preemptions (Musuvathi and Qadeer, PLDI 2007), and schedules with few are few. The CPU gives
 * its turn up freely when it has nothing to do; whoever else has the turn gives it up freely at any time. What is not
 * followed here is followed with a larger bound.
 *
 * The engine's number carries along how many preemptions there were, and whether the CPU had the last turn.
 */
export class PreemptionBound implements System {
  readonly startSource: number;
  readonly startEngine: number;
  readonly #system: System;
  readonly #max: number;
  readonly #isCpu: (step: number) => boolean;
  readonly #lanes: number;
  readonly #all = new Steps();

  constructor(system: System, options: { readonly max: number; readonly isCpu: (step: number) => boolean }) {
    assert(Number.isSafeInteger(options.max) && options.max >= 0, `${options.max} preemptions`);
    this.#system = system;
    this.#max = options.max;
    this.#isCpu = options.isCpu;
    this.#lanes = 2 * (options.max + 1);
    this.startSource = system.startSource;
    this.startEngine = this.#engine(system.startEngine, 0, false);
  }

  get bytes(): number {
    return this.#system.bytes;
  }

  #engine(engine: number, preemptions: number, cpuWasLast: boolean): number {
    const numbered = engine * this.#lanes + preemptions * 2 + (cpuWasLast ? 1 : 0);
    assert(numbered < 2 ** 32, "there are numbers for all engine sides with their preemptions");
    return numbered;
  }

  engineOf(engine: number): number {
    return this.#system.engineOf(Math.floor(engine / this.#lanes));
  }

  endingOf(source: number): number {
    return this.#system.endingOf(source);
  }

  expand(source: number, engine: number, steps: Steps): boolean {
    const all = this.#all;
    const lane = engine % this.#lanes;
    all.clear();
    const isEnd = this.#system.expand(source, Math.floor(engine / this.#lanes), all);
    const packed = all.packed.subarray(0, all.count);
    const goesOn = (lane & 1) === 1 && packed.some((step) => this.#isCpu(stepOf(step)));
    for (const [i, step] of packed.entries()) {
      const isCpu = this.#isCpu(stepOf(step));
      const preemptions = (lane >>> 1) + (goesOn && !isCpu ? 1 : 0);
      if (preemptions > this.#max) continue;
      const to = this.#engine(all.engines[i] as number, preemptions, isCpu);
      steps.addPacked(all.sources[i] as number, to, step);
    }
    return isEnd;
  }
}
