import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { ENGINE_STEP, MadeUpSystem, searchPlainly, type MadeUp } from "./search.fixture.ts";
import { PreemptionBound } from "./search-preemptions.ts";
import { Search, type SearchOptions } from "./search.ts";
import { stepOf, Steps, type System } from "./search-system.ts";

const madeUp = fc.record({
  seed: fc.integer(),
  sources: fc.integer({ min: 1, max: 200 }),
  engines: fc.integer({ min: 2, max: 40 }),
});
const small = fc.record({
  seed: fc.integer(),
  sources: fc.integer({ min: 1, max: 20 }),
  engines: fc.integer({ min: 2, max: 8 }),
});
const large: MadeUp = { seed: 1, sources: 3000, engines: 60 };

function search(system: System, options: Partial<SearchOptions> = {}): Search {
  const searching = new Search({ system, onEnd: () => false, ...options });
  searching.run();
  return searching;
}

const pairsOf = (found: Search): string[] =>
  Array.from({ length: found.states }, (_, state) => `${found.sourceOf(state)} ${found.engineOf(state)}`).toSorted();

test("every exhaustive search sees exactly the states and ends that there are, whatever comes first", () => {
  fc.assert(
    fc.property(madeUp, (made) => {
      const system = new MadeUpSystem(made);
      const { distances, ends } = searchPlainly(system);
      for (const options of [{}, { freeStep: ENGINE_STEP }, { order: "depth-first" as const }]) {
        const found = search(system, options);
        assert.deepEqual(pairsOf(found), [...distances.keys()].toSorted());
        assert.equal(found.ends, ends.size);
        assert.ok(found.isExhausted);
        assert.equal(found.waiting, 0);
      }
    }),
    { numRuns: 60 },
  );
});

test("breadth-first, the way to a state has the fewest steps that count", () => {
  fc.assert(
    fc.property(madeUp, fc.constantFrom(-1, ENGINE_STEP), (made, freeStep) => {
      const system = new MadeUpSystem(made);
      const { distances } = searchPlainly(system, freeStep);
      const found = search(system, { freeStep });
      for (let state = 0; state < found.states; state++) {
        const counted = found
          .statesTo(state)
          .slice(1)
          .filter((at) => found.path(at, found.statesTo(at).at(-2))[0] !== freeStep);
        const distance = distances.get(`${found.sourceOf(state)} ${found.engineOf(state)}`);
        assert.equal(counted.length, distance);
      }
    }),
    { numRuns: 30 },
  );
});

test("an end ends the search when it is told so, and its path leads to it", () => {
  for (const order of ["breadth-first", "depth-first", { random: { seed: 7, walks: 5 } }] as const) {
    let path: number[] = [];
    const found = search(new MadeUpSystem(large), {
      order,
      onEnd: (state, { tree }) => {
        path = tree.path(state);
        return true;
      },
    });
    assert.equal(found.ends, 1);
    assert.equal(found.isExhausted, false);
    assert.ok(path.length > 0);
  }
});

test("the same seed walks the same ways, and walks that find nothing new leave nothing behind", () => {
  const system = new MadeUpSystem({ seed: 3, sources: 40, engines: 12 });
  const walks = (seed: number, count: number): Search => search(system, { order: { random: { seed, walks: count } } });
  const [one, same, other] = [walks(5, 200), walks(5, 200), walks(6, 200)];
  assert.deepEqual(pairsOf(one), pairsOf(same));
  assert.notDeepEqual(pairsOf(one), pairsOf(other));
  const ends = searchPlainly(system).ends.size;
  assert.ok(one.ends <= ends);
  const more = walks(5, 2000);
  assert.equal(more.ends, ends);
  // One walk at the most for each engine's end and each of the two ways that its source can be.
  assert.ok(more.states <= 1 + 2 * ends * (40 + 12), `${more.states} states`);
  assert.equal(one.isExhausted, false);
});

test("a search that was put aside comes to the same as one that was not", () => {
  for (const freeStep of [-1, ENGINE_STEP]) {
    const system = new MadeUpSystem(large);
    const whole = search(system, { freeStep, identity: "large" });
    const checkpoints: Uint8Array[] = [];
    search(system, {
      freeStep,
      identity: "large",
      onProgress: (found) => checkpoints.push(found.checkpoint()) > 2,
    });
    assert.ok(checkpoints.length > 1, `${whole.states} states are enough for checkpoints`);
    for (const resumeFrom of checkpoints) {
      const resumed = search(system, { freeStep, identity: "large", resumeFrom });
      assert.deepEqual(
        [resumed.states, resumed.transitions, resumed.ends, resumed.isExhausted],
        [whole.states, whole.transitions, whole.ends, true],
      );
      const last = whole.states - 1;
      assert.deepEqual(resumed.path(last), whole.path(last));
    }
  }
});

test("a checkpoint that is damaged, or of another search, is told apart", () => {
  const system = new MadeUpSystem(large);
  let checkpoint = new Uint8Array();
  search(system, { identity: "large", onProgress: (found) => (checkpoint = found.checkpoint()).length > 1e5 });
  const isRefused = (resumeFrom: Uint8Array, identity = "large", other: System = system): void => {
    assert.throws(
      () => search(other, { identity, resumeFrom }),
      (thrown) => thrown instanceof OperationError && thrown.code === "checkpoint-invalid",
    );
  };
  isRefused(checkpoint, "small");
  isRefused(new Uint8Array());
  isRefused(checkpoint, "large", new MadeUpSystem({ ...large, seed: 2 }));
  fc.assert(
    fc.property(fc.nat({ max: checkpoint.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
      isRefused(checkpoint.with(at, (checkpoint[at] ?? 0) ^ change));
      isRefused(checkpoint.subarray(0, at));
    }),
    { numRuns: 30 },
  );
});

test("a search that outgrows its bound on states or bytes says so, with what to do about it", () => {
  for (const [what, bounds] of [
    ["states", { statesMax: 1000 }],
    ["bytes", { bytesMax: 100_000 }],
  ] as const) {
    assert.throws(
      () => search(new MadeUpSystem(large), bounds),
      (thrown) =>
        thrown instanceof OperationError &&
        thrown.code === "explore-memory" &&
        thrown.facts["what"] === what &&
        /smaller/.test(thrown.advice),
    );
  }
  assert.ok(search(new MadeUpSystem(large), { statesMax: 1e6, bytesMax: 1e9 }).isExhausted);
});

/** Preemptions of the best way to each state, found by trying all ways. */
function preemptionsNeeded(system: System): Map<string, number> {
  const needed = new Map<string, number>();
  for (let max = 0; max < 12; max++) {
    const bounded = new PreemptionBound(system, { max, isCpu: (step) => step === 0 });
    const found = search(bounded);
    for (const pair of new Set(pairsOf(found))) if (!needed.has(pair)) needed.set(pair, max);
  }
  return needed;
}

test("a larger bound on preemptions sees everything that a smaller one does, and without end everything", () => {
  fc.assert(
    fc.property(small, (made) => {
      const system = new MadeUpSystem(made);
      const all = [...searchPlainly(system).distances.keys()].toSorted();
      assert.deepEqual([...preemptionsNeeded(system).keys()].toSorted(), all);
      let before = new Set<string>();
      for (const max of [0, 1, 2]) {
        const seen = new Set(pairsOf(search(new PreemptionBound(system, { max, isCpu: (step) => step === 0 }))));
        assert.ok(before.isSubsetOf(seen), `${max} preemptions see less than ${max - 1}`);
        before = seen;
      }
    }),
    { numRuns: 20 },
  );
});

function canCpuStep(system: System, found: Search, state: number): boolean {
  const steps = new Steps();
  system.expand(found.sourceOf(state), found.engineOf(state), steps);
  return steps.packed.subarray(0, steps.count).some((packed) => stepOf(packed) === 0);
}

test("no schedule takes the turn from the CPU more often than its bound", () => {
  const system = new MadeUpSystem({ seed: 11, sources: 60, engines: 12 });
  for (const max of [0, 1, 2]) {
    const found = search(new PreemptionBound(system, { max, isCpu: (step) => step === 0 }));
    for (let state = 0; state < found.states; state++) {
      const states = found.statesTo(state);
      const steps = states.slice(1).map((at, i) => found.path(at, states[i])[0]);
      let preemptions = 0;
      for (const [i, step] of steps.entries()) {
        if (i === 0 || steps[i - 1] !== 0 || step === 0) continue;
        if (canCpuStep(system, found, states[i] ?? 0)) preemptions++;
      }
      assert.ok(preemptions <= max, `${preemptions} preemptions of ${max}`);
    }
  }
});
