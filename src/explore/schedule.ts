// A schedule as one short string: what was explored, and every step of it, to be run again anywhere.
import { OperationError } from "../base/errors.ts";
import { strategyByName } from "../strategy/strategies.ts";
import {
  assumptionSwitches,
  boundSwitches,
  defaultAssumptions,
  defaultBounds,
  withAssumption,
  withBound,
  type Assumptions,
  type Bounds,
} from "./assumptions.ts";
import type { Experiment } from "./experiment.ts";
import { scenarioOf } from "./scenario.ts";

/** One letter a step: guest driver, application, receive, transmit, the writes that land, engine. Digits say how often. */
const LETTERS = "garstuvwE";
const VERSION = "u1";
/** Far more than any schedule has that a search finds. */
const STEPS_MAX = 10_000;

/** What an experiment is made of, and nothing else. */
export interface Question {
  readonly strategy: string;
  readonly assumptions: Assumptions;
  readonly bounds: Bounds;
}

export function experimentOf({ strategy: name, assumptions, bounds }: Question): Experiment {
  const strategy = strategyByName(name);
  return { strategy, scenario: scenarioOf(strategy, assumptions, bounds), assumptions, roundsMax: bounds.rounds };
}

/** Such as `u1:blind:frames=2:d2E6`: what differs from the defaults, then the steps. */
export function encodeSchedule({ strategy, assumptions, bounds }: Question, steps: readonly number[]): string {
  const settings = [
    ...different(assumptions, assumptionSwitches),
    ...different({ ...bounds, states: boundSwitches.states.default }, boundSwitches),
  ];
  return [VERSION, strategy, settings.join(","), encodeSteps(steps)].join(":");
}

function different(values: object, switches: Readonly<Record<string, { readonly default: unknown }>>): string[] {
  const entries: [string, unknown][] = Object.entries(values);
  return entries
    .filter(([name, value]) => switches[name]?.default !== value)
    .map(([name, value]) => `${name}=${String(value)}`);
}

function encodeSteps(steps: readonly number[]): string {
  const letters = steps.map((step) => LETTERS.charAt(step)).join("");
  return letters.replaceAll(/(.)\1+/g, (run, letter: string) => `${letter}${run.length}`);
}

/** Throws OperationError `schedule-invalid`; unknown names throw what strategyByName, withAssumption and withBound throw. */
export function decodeSchedule(text: string): { question: Question; steps: readonly number[] } {
  const [version, strategy, settings, letters, ...more] = text.trim().split(":");
  const isWhole = version === VERSION && strategy !== undefined && settings !== undefined && more.length === 0;
  if (!isWhole || letters === undefined || !/^(?:[a-zA-Z][0-9]{0,4})*$/.test(letters)) throw invalid(text);
  strategyByName(strategy);
  let assumptions = defaultAssumptions;
  let bounds = defaultBounds;
  for (const setting of settings.split(",").filter((part) => part !== "")) {
    if (setting.replace(/=.*/, "") in boundSwitches) bounds = withBound(bounds, setting);
    else assumptions = withAssumption(assumptions, setting);
  }
  let length = 0;
  for (const [, count] of letters.matchAll(/[a-zA-Z]([0-9]*)/g)) length += count === "" ? 1 : Number(count);
  if (length > STEPS_MAX) throw invalid(text);
  const steps = [...letters.matchAll(/([a-zA-Z])([0-9]*)/g)].flatMap(([, letter = "", count = ""]) => {
    const step = LETTERS.indexOf(letter);
    if (step < 0) throw invalid(text);
    return Array.from({ length: count === "" ? 1 : Number(count) }, () => step);
  });
  return { question: { strategy, assumptions, bounds }, steps };
}

function invalid(text: string): OperationError {
  return new OperationError({
    code: "schedule-invalid",
    message: `This is no schedule: "${text.slice(0, 100)}".`,
    advice: "A schedule looks like u1:blind:frames=2:d2E6, as `underway explore` prints it.",
    facts: { text: text.slice(0, 1000) },
  });
}
