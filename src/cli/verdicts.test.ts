import assert from "node:assert/strict";
import test from "node:test";
import { replay } from "../explore/replay.ts";
import { decodeSchedule } from "../explore/schedule.ts";
import { strategies } from "../strategy/strategies.ts";
import type { Decided } from "../host/explore-threads.ts";
import { defaultAssumptions, defaultBounds } from "../explore/assumptions.ts";
import { recordedStates, recordedVerdicts, withDecided } from "./verdicts.ts";

// That README.md shows these verdicts is tested in readme.test.ts.

test("there is a verdict for every strategy, and it is the expected one", () => {
  assert.deepEqual(
    recordedVerdicts.map(({ strategy, verdict }) => [strategy, verdict]),
    strategies.map(({ name, expectedVerdict }) => [name, expectedVerdict]),
  );
});

for (const { strategy, verdict, schedule, hazards, assumptions, bounds } of recordedVerdicts) {
  test(`the verdict on ${strategy} comes with a schedule if it is unsafe, and what that breaks is still broken`, () => {
    assert.equal(verdict === "unsafe", schedule !== null);
    if (schedule === null) return;
    const { question, steps } = decodeSchedule(schedule);
    assert.equal(question.strategy, strategy);
    // One that came later has its default; the bound on states is no part of a schedule.
    assert.deepEqual({ ...question.assumptions, ...assumptions }, question.assumptions);
    assert.deepEqual({ ...question.bounds, ...bounds, states: 0 }, { ...question.bounds, states: 0 });
    const { violation } = replay(question, steps);
    assert.deepEqual(violation?.hazards, hazards);
  });
}

test("what is decided anew takes the place of what was kept, in the order of the strategies", () => {
  const question = { strategy: "quiesce", assumptions: defaultAssumptions, bounds: { ...defaultBounds, frames: 1 } };
  const figures = { states: 7, waiting: 0, transitions: 8, ends: 9, sourceStates: 1, bytes: 1 };
  const decided: Decided = { question, explored: { ...figures, verdict: "safe", situations: new Map() }, seconds: 1 };
  const verdicts = withDecided([decided]);
  assert.deepEqual(
    verdicts.map(({ strategy }) => strategy),
    recordedVerdicts.map(({ strategy }) => strategy),
  );
  for (const verdict of verdicts) {
    if (verdict.strategy === "quiesce") assert.deepEqual([verdict.states, verdict.bounds["frames"]], [7, 1]);
    else assert.ok(recordedVerdicts.includes(verdict), verdict.strategy);
  }
});

test("how long a search was is known of every strategy, and of nothing else", () => {
  for (const { name } of strategies) assert.ok(recordedStates(name) > 0, name);
  assert.equal(recordedStates("hope"), 0);
});
