// From the words of `underway explore` to questions, every one of them checked before anything is started.
import { availableParallelism } from "node:os";
import { hazards } from "../audit/hazards.ts";
import { OperationError } from "../base/errors.ts";
import {
  assumptionSwitches,
  boundSwitches,
  defaultAssumptions,
  defaultBounds,
  withAssumption,
  withBound,
} from "../explore/assumptions.ts";
import type { Question } from "../explore/schedule.ts";
import type { SearchOrder } from "../explore/search.ts";
import type { Checkpoints, SearchWay } from "../host/explore-thread.ts";
import { strategies, strategyByName } from "../strategy/strategies.ts";
import { wrap } from "./layout.ts";
import { parseChoice, parseSize, parseWholeNumber } from "./quantities.ts";

export interface ExploreWords {
  readonly strategy?: readonly string[];
  readonly all?: boolean;
  readonly assume?: readonly string[];
  readonly bound?: readonly string[];
  /** commander's form of --unreduced. */
  readonly unreduced?: boolean;
  readonly hazard?: string;
  readonly search?: string;
  readonly walks?: string;
  readonly seed?: string;
  readonly preemptions?: string;
  readonly memory?: string;
  readonly checkpoint?: string;
  readonly threads?: string;
  readonly json?: boolean;
  readonly writeVerdicts?: boolean;
}

export interface ExploreOptions {
  /** In the order in which they are reported. */
  readonly questions: readonly Question[];
  readonly way: SearchWay;
  readonly threads: number;
  readonly checkpoints?: Checkpoints;
}

const THREADS_MAX = 64;
const PREEMPTIONS_MAX = 1000;
const WALKS_MAX = 1e9;
const CHECKPOINT_MS = 60_000;
/** Random schedules, if it is not said how many. */
export const defaultWalks = "10000";
const hazardNames = Object.keys(hazards);

/** Throws OperationError with a code of usage, or those of strategyByName, withAssumption and withBound. */
export function exploreOptionsFrom(words: ExploreWords, randomSeed: () => number): ExploreOptions {
  const assumptions = (words.assume ?? []).reduce(withAssumption, defaultAssumptions);
  const bounds = (words.bound ?? []).reduce(withBound, defaultBounds);
  const way = wayFrom(words, randomSeed);
  if (words.writeVerdicts === true) checkWhole(way);
  const questions = namesFrom(words).map((strategy) => ({ strategy, assumptions, bounds }));
  const options = { questions, way, threads: threadsFrom(words.threads) };
  if (words.checkpoint === undefined) return options;
  if (way.search !== "breadth-first") {
    throw new OperationError({
      code: "usage-conflict",
      message: "Only a breadth-first search can be put aside.",
      advice: "Leave out --checkpoint or --search.",
    });
  }
  return { ...options, checkpoints: { directory: words.checkpoint, everyMs: CHECKPOINT_MS } };
}

function wayFrom(words: ExploreWords, randomSeed: () => number): SearchWay {
  const { hazard, preemptions, memory } = words;
  const memoryBounds = { min: 1 << 20, max: 2 ** 40 };
  return {
    reduced: words.unreduced !== true,
    search: searchFrom(words, randomSeed),
    ...(hazard === undefined ? {} : { hazard: parseChoice("--hazard", hazard, hazardNames) }),
    ...(preemptions === undefined
      ? {}
      : { preemptions: parseWholeNumber("--preemptions", preemptions, { min: 0, max: PREEMPTIONS_MAX }) }),
    ...(memory === undefined ? {} : { bytesMax: parseSize("--memory", memory, memoryBounds) }),
  };
}

/** Verdicts that are kept are those of a search that leaves nothing out and finds the shortest schedule. */
function checkWhole({ search, hazard, preemptions }: SearchWay): void {
  if (search === "breadth-first" && hazard === undefined && preemptions === undefined) return;
  throw new OperationError({
    code: "usage-conflict",
    message: "Only the verdicts of a whole search, breadth-first, are kept with the sources.",
    advice: "Leave out --write-verdicts, or --search, --hazard and --preemptions.",
  });
}

function searchFrom({ search = "breadth-first", walks, seed }: ExploreWords, randomSeed: () => number): SearchOrder {
  const order = parseChoice("--search", search, ["breadth-first", "depth-first", "random"] as const);
  if (order === "random") {
    return {
      random: {
        seed: seed === undefined ? randomSeed() : parseWholeNumber("--seed", seed, { min: 0, max: 2 ** 32 - 1 }),
        walks: parseWholeNumber("--walks", walks ?? defaultWalks, { min: 1, max: WALKS_MAX }),
      },
    };
  }
  if (walks === undefined && seed === undefined) return order;
  throw new OperationError({
    code: "usage-conflict",
    message: "--walks and --seed are for a random search.",
    advice: "Add --search random, or leave them out.",
  });
}

function namesFrom({ strategy: names, all }: ExploreWords): string[] {
  if (names === undefined) return strategies.map(({ name }) => name);
  if (all === true) {
    throw new OperationError({
      code: "usage-conflict",
      message: "--all and --strategy cannot both be had.",
      advice: "Give one of them.",
    });
  }
  return [...new Set(names.map((name) => strategyByName(name).name))];
}

function threadsFrom(text: string | undefined): number {
  if (text === undefined) return Math.min(THREADS_MAX, availableParallelism());
  return parseWholeNumber("--threads", text, { min: 1, max: THREADS_MAX });
}

/** A line of --help for each assumption and each bound: its name, its values, its default, and what it is. */
export const switchesHelp = (): string => {
  const assumptions = Object.entries(assumptionSwitches).map(([name, { default: value, values, sentence }]) =>
    switchHelp(`${name}=${values.join("|")}`, sentence, String(value)),
  );
  const bounds = Object.entries(boundSwitches).map(([name, { default: value, max, sentence }]) =>
    switchHelp(`${name}=0..${max}`, sentence, String(value)),
  );
  return `
Assumptions about the machine (--assume):
${assumptions.join("")}
Bounds of the search (--bound):
${bounds.join("")}`;
};

const switchHelp = (setting: string, sentence: string, value: string): string =>
  `  ${setting} (default: ${value})\n${wrap(sentence, 74)
    .map((line) => `      ${line}\n`)
    .join("")}`;
