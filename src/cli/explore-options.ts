// From the words of `underway explore` to questions, every one of them checked before anything is started.
import { availableParallelism } from "node:os";
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
import { strategies, strategyByName } from "../strategy/strategies.ts";
import { wrap } from "./layout.ts";
import { parseWholeNumber } from "./quantities.ts";

export interface ExploreWords {
  readonly strategy?: readonly string[];
  readonly all?: boolean;
  readonly assume?: readonly string[];
  readonly bound?: readonly string[];
  /** commander's form of --unreduced. */
  readonly unreduced?: boolean;
  readonly threads?: string;
  readonly json?: boolean;
  readonly writeVerdicts?: boolean;
}

export interface ExploreOptions {
  /** In the order in which they are reported. */
  readonly questions: readonly Question[];
  readonly reduced: boolean;
  readonly threads: number;
}

const THREADS_MAX = 64;

/** Throws OperationError with a code of usage, or those of strategyByName, withAssumption and withBound. */
export function exploreOptionsFrom(words: ExploreWords): ExploreOptions {
  const assumptions = (words.assume ?? []).reduce(withAssumption, defaultAssumptions);
  const bounds = (words.bound ?? []).reduce(withBound, defaultBounds);
  const questions = namesFrom(words).map((strategy) => ({ strategy, assumptions, bounds }));
  return { questions, reduced: words.unreduced !== true, threads: threadsFrom(words.threads) };
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
