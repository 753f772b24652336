// Systems made up from a seed, for the searches' tests, and their states found in the plainest way.
import { SeededRandom } from "../base/random.ts";
import { Steps, stepOf, type System } from "./search-system.ts";

export interface MadeUp {
  readonly seed: number;
  /** Sources and engines are numbered below these. */
  readonly sources: number;
  readonly engines: number;
}

/** Step of the engine; those below it are the source's. */
export const ENGINE_STEP = 3;

/** Every step goes to a higher source or a higher engine, so nothing goes round in circles. */
export class MadeUpSystem implements System {
  readonly startSource = 0;
  readonly startEngine = 0;
  readonly bytes = 0;
  readonly #made: MadeUp;

  constructor(made: MadeUp) {
    this.#made = made;
  }

  engineOf(engine: number): number {
    return engine;
  }

  endingOf(source: number): number {
    return source % 2;
  }

  expand(source: number, engine: number, steps: Steps): boolean {
    const { seed, sources, engines } = this.#made;
    const random = new SeededRandom(seed ^ Math.imul(source + 1, 7919) ^ Math.imul(engine + 1, 104_729));
    if (engine === engines - 1) return true;
    for (let step = 0; step < ENGINE_STEP; step++) {
      const next = source + 1 + random.below(4);
      if (next < sources && random.chance(0.7)) steps.add(next, engine, step);
    }
    const next = Math.min(engines - 1, engine + 1 + random.below(3));
    steps.add(Math.min(sources - 1, source + random.below(2)), next, ENGINE_STEP, 1 + random.below(2));
    return false;
  }
}

export interface PlainlyFound {
  /** By source and engine: the fewest steps to them, those of `freeStep` not counted. */
  readonly distances: ReadonlyMap<string, number>;
  readonly ends: ReadonlySet<number>;
}

export function searchPlainly(system: System, freeStep = -1): PlainlyFound {
  const distances = new Map<string, number>([[`${system.startSource} ${system.startEngine}`, 0]]);
  const ends = new Set<number>();
  const steps = new Steps();
  const fronts: [number, number][][] = [[[system.startSource, system.startEngine]]];
  for (let distance = 0; distance < fronts.length; distance++) {
    for (const [source, engine] of fronts[distance] ?? []) {
      if (distances.get(`${source} ${engine}`) !== distance) continue;
      steps.clear();
      if (system.expand(source, engine, steps)) ends.add(system.engineOf(engine));
      for (let i = 0; i < steps.count; i++) {
        const to: [number, number] = [steps.sources[i] ?? 0, steps.engines[i] ?? 0];
        const at = distance + (stepOf(steps.packed[i] ?? 0) === freeStep ? 0 : 1);
        if ((distances.get(to.join(" ")) ?? Infinity) <= at) continue;
        distances.set(to.join(" "), at);
        (fronts[at] ??= []).push(to);
      }
    }
  }
  return { distances, ends };
}
