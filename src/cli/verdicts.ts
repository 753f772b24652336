// The verdicts that are kept with the sources: what the explorer found, for `strategies` and the table in README.md.
import * as v from "valibot";
import type { Decided } from "../host/explore-threads.ts";
import { strategies } from "../strategy/strategies.ts";
import recorded from "../strategy/verdicts.json" with { type: "json" };

const settings = v.record(v.string(), v.union([v.string(), v.number(), v.boolean()]));

const verdictsSchema = v.array(
  v.strictObject({
    strategy: v.string(),
    verdict: v.picklist(["safe", "unsafe", "undecided"]),
    assumptions: settings,
    bounds: settings,
    states: v.number(),
    transitions: v.number(),
    ends: v.number(),
    /** The shortest schedule that breaks the strategy. */
    schedule: v.nullable(v.string()),
    /** Names of what the audit finds at its end; none if it is the guest that notices. */
    hazards: v.array(v.string()),
  }),
);

export type RecordedVerdict = v.InferOutput<typeof verdictsSchema>[number];

export const recordedVerdicts: readonly RecordedVerdict[] = v.parse(verdictsSchema, recorded);

/** How long a search was, to begin the longest first; 0 if nobody knows. */
export function recordedStates(strategy: string): number {
  return recordedVerdicts.find((verdict) => verdict.strategy === strategy)?.states ?? 0;
}

/** What was kept, with what is decided anew. In the order of the strategies, whatever came first. */
export function withDecided(all: readonly Decided[]): RecordedVerdict[] {
  const kept = recordedVerdicts.filter(({ strategy }) => all.every(({ question }) => question.strategy !== strategy));
  const known = [...kept, ...all.map(asRecorded)];
  return strategies.flatMap(({ name }) => known.find(({ strategy }) => strategy === name) ?? []);
}

function asRecorded({ question, explored }: Decided): RecordedVerdict {
  const { verdict, states, transitions, ends, schedule = null, violation } = explored;
  const { strategy, assumptions, bounds } = question;
  const hazards = [...(violation?.hazards ?? [])];
  return {
    strategy,
    verdict,
    assumptions: { ...assumptions },
    bounds: { ...bounds },
    states,
    transitions,
    ends,
    schedule,
    hazards,
  };
}
