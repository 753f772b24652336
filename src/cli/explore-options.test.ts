import assert from "node:assert/strict";
import test from "node:test";
import { assumptionSwitches, boundSwitches, defaultAssumptions, defaultBounds } from "../explore/assumptions.ts";
import { strategies } from "../strategy/strategies.ts";
import { exploreOptionsFrom, switchesHelp, type ExploreWords } from "./explore-options.ts";

const randomSeed = (): number => 4711;

test("without words all strategies are asked about, within the defaults, as many at once as there are cores", () => {
  const { questions, way, threads } = exploreOptionsFrom({}, randomSeed);
  assert.equal(questions.length, strategies.length);
  assert.deepEqual(way, { reduced: true, search: "breadth-first" });
  assert.ok(threads >= 1);
  for (const { assumptions, bounds } of questions) {
    assert.deepEqual([assumptions, bounds], [defaultAssumptions, defaultBounds]);
  }
});

test("settings apply to every strategy that is asked about, and a strategy named twice is asked about once", () => {
  const { questions, way, threads } = exploreOptionsFrom(
    {
      strategy: ["blind", "quiesce", "blind"],
      assume: ["queues=2", "iommu=lazy"],
      bound: ["frames=1"],
      unreduced: true,
      threads: "3",
    },
    randomSeed,
  );
  assert.deepEqual([way.reduced, threads], [false, 3]);
  const assumptions = { ...defaultAssumptions, queues: 2, iommu: "lazy" };
  const bounds = { ...defaultBounds, frames: 1 };
  assert.deepEqual(questions, [
    { strategy: "blind", assumptions, bounds },
    { strategy: "quiesce", assumptions, bounds },
  ]);
});

test("the way of a search is read from words, and what does not go together is refused", () => {
  const way = (words: ExploreWords): object => exploreOptionsFrom(words, randomSeed).way;
  const random = { reduced: true, search: { random: { seed: 4711, walks: 10_000 } } };
  assert.deepEqual(way({ search: "random" }), random);
  assert.deepEqual(way({ search: "random", seed: "7", walks: "9" }), {
    ...random,
    search: { random: { seed: 7, walks: 9 } },
  });
  assert.deepEqual(way({ search: "depth-first", preemptions: "2", memory: "512M", hazard: "half-frame" }), {
    reduced: true,
    search: "depth-first",
    preemptions: 2,
    bytesMax: 512 << 20,
    hazard: "half-frame",
  });
  assert.throws(() => way({ walks: "9" }), { code: "usage-conflict" });
  const { checkpoints } = exploreOptionsFrom({ checkpoint: "aside" }, randomSeed);
  assert.equal(checkpoints?.directory, "aside");
  assert.throws(() => way({ checkpoint: "aside", search: "depth-first" }), { code: "usage-conflict" });
  for (const words of [{ search: "widest" }, { hazard: "rain" }, { preemptions: "-1" }, { memory: "3" }]) {
    assert.throws(() => way(words), { code: "usage-invalid-value" });
  }
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
