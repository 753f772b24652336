import assert from "node:assert/strict";
import test from "node:test";
import { assumptionSwitches, boundSwitches, defaultAssumptions, defaultBounds } from "../explore/assumptions.ts";
import { strategies } from "../strategy/strategies.ts";
import { exploreOptionsFrom, switchesHelp } from "./explore-options.ts";

test("without words all strategies are asked about, within the defaults, as many at once as there are cores", () => {
  const { questions, reduced, threads } = exploreOptionsFrom({});
  assert.equal(questions.length, strategies.length);
  assert.ok(reduced && threads >= 1);
  for (const { assumptions, bounds } of questions) {
    assert.deepEqual([assumptions, bounds], [defaultAssumptions, defaultBounds]);
  }
});

test("settings apply to every strategy that is asked about, and a strategy named twice is asked about once", () => {
  const { questions, reduced, threads } = exploreOptionsFrom({
    strategy: ["blind", "quiesce", "blind"],
    assume: ["queues=2", "iommu=lazy"],
    bound: ["frames=1"],
    unreduced: true,
    threads: "3",
  });
  assert.deepEqual([reduced, threads], [false, 3]);
  const assumptions = { ...defaultAssumptions, queues: 2, iommu: "lazy" };
  const bounds = { ...defaultBounds, frames: 1 };
  assert.deepEqual(questions, [
    { strategy: "blind", assumptions, bounds },
    { strategy: "quiesce", assumptions, bounds },
  ]);
});

test("--help names every assumption and every bound, with values, default and sentence", () => {
  const help = switchesHelp();
  const words = help.replace(/\s+/g, " ");
  for (const [name, { default: value, values, sentence }] of Object.entries(assumptionSwitches)) {
    assert.ok(words.includes(`${name}=${values.join("|")} (default: ${value}) ${sentence}`), name);
  }
  for (const [name, { default: value, max, sentence }] of Object.entries(boundSwitches)) {
    assert.ok(words.includes(`${name}=0..${max} (default: ${value}) ${sentence}`), name);
  }
  for (const line of help.split("\n")) assert.ok(line.length <= 80, line);
});
