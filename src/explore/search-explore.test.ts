// The searches on the explorer itself: the same verdict whatever comes first, and schedules that break what is unsafe.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError } from "../base/errors.ts";
import { defaultAssumptions, defaultBounds } from "./assumptions.ts";
import { explore, type Explored, type ExploreOptions } from "./explore.ts";
import { decodeSchedule, experimentOf } from "./schedule.ts";
import { violationIn } from "./judge.ts";
import { Trial } from "./trial.ts";

const bounds = { ...defaultBounds, frames: 1 };

function decide(strategy: string, options: ExploreOptions = {}, frames = bounds.frames): Explored {
  return explore({ strategy, assumptions: defaultAssumptions, bounds: { ...bounds, frames } }, options);
}

test("depth-first sees the states and ends that breadth-first sees, and comes to the same verdict", () => {
  for (const name of ["rings-first", "quiesce"]) {
    const breadthFirst = decide(name);
    const depthFirst = decide(name, { search: "depth-first" });
    assert.equal(depthFirst.verdict, "safe");
    assert.deepEqual(
      [depthFirst.states, depthFirst.ends, depthFirst.transitions],
      [breadthFirst.states, breadthFirst.ends, breadthFirst.transitions],
    );
  }
});

test("a hundred random schedules break blind, and the schedule they give really does", () => {
  const seed = 20_151_029;
  for (const search of [{ random: { seed, walks: 100 } }, "depth-first"] as const) {
    const { verdict, schedule } = decide("blind", { search }, 2);
    assert.equal(verdict, "unsafe", `seed ${seed}`);
    const { question, steps } = decodeSchedule(schedule ?? "");
    const trial = new Trial(experimentOf(question));
    assert.ok(trial.run(steps));
    assert.equal(violationIn(trial.outcome(), steps)?.property, "legal-cut");
  }
});

test("random schedules decide nothing to be safe, and the same seed does the same", () => {
  const search = { random: { seed: 4, walks: 50 } };
  const [one, two] = [decide("quiesce", { search }), decide("quiesce", { search })];
  assert.equal(one.verdict, "undecided");
  assert.deepEqual([one.states, one.transitions, one.ends], [two.states, two.transitions, two.ends]);
});

test("more preemptions come to more ends, and enough of them to all", () => {
  const all = decide("rings-first").ends;
  let before = 0;
  for (const preemptions of [0, 1, 2, 20]) {
    const { ends, verdict } = decide("rings-first", { preemptions });
    assert.equal(verdict, "safe");
    assert.ok(ends >= before && ends <= all, `${ends} ends with ${preemptions} preemptions, ${before} with fewer`);
    before = ends;
  }
  assert.equal(before, all);
});

test("blind is broken without a single preemption", () => {
  assert.equal(decide("blind", { preemptions: 0 }).verdict, "unsafe");
});

test("a search put aside and taken up again comes to the same verdict on the same states", () => {
  const whole = decide("quiesce", { reduced: false }, 2);
  const checkpoints: Uint8Array[] = [];
  const broken = decide(
    "quiesce",
    {
      reduced: false,
      onCheckpoint: (save) => checkpoints.push(save()),
      onProgress: ({ states }) => states > whole.states / 2,
    },
    2,
  );
  assert.equal(broken.verdict, "undecided");
  const resumeFrom = checkpoints.at(-1) ?? new Uint8Array();
  assert.ok(resumeFrom.length > 5 * broken.states, `${resumeFrom.length} bytes for ${broken.states} states`);
  const resumed = decide("quiesce", { reduced: false, resumeFrom }, 2);
  assert.deepEqual(
    [resumed.verdict, resumed.states, resumed.ends, resumed.transitions],
    [whole.verdict, whole.states, whole.ends, whole.transitions],
  );
  assert.throws(
    () => decide("quiesce", { reduced: true, resumeFrom }, 2),
    (thrown) => thrown instanceof OperationError && thrown.code === "checkpoint-invalid",
  );
});
