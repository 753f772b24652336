import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultStrategy, strategies } from "../strategy/strategies.ts";
import { defaultAssumptions, defaultBounds } from "./assumptions.ts";
import { explore } from "./explore.ts";
import { situations } from "./situations.ts";

const bounds = { ...defaultBounds, frames: 2 };

for (const { name, expectedVerdict } of strategies) {
  test(`with two frames ${name} is ${expectedVerdict} whoever takes which turn`, () => {
    const explored = explore({ strategy: name, assumptions: defaultAssumptions, bounds });
    assert.equal(explored.verdict, expectedVerdict, explored.schedule ?? "no schedule");
  });
}

test("what the reductions leave out makes no difference: the ends and the verdict are those of the whole search", () => {
  for (const name of ["rings-first", "quiesce", "reinit"]) {
    const question = { strategy: name, assumptions: defaultAssumptions, bounds: { ...bounds, frames: 1 } };
    const reduced = explore(question);
    const whole = explore(question, { reduced: false });
    assert.deepEqual([reduced.verdict, reduced.ends], [whole.verdict, whole.ends], name);
    assert.ok(reduced.states < whole.states, `${name}: ${reduced.states} of ${whole.states} states`);
  }
});

test("guests that are paused elsewhere in their program need not be told apart", () => {
  for (const name of ["rings-first", "reinit"]) {
    const question = { strategy: name, assumptions: defaultAssumptions, bounds };
    const together = explore(question);
    const apart = explore(question, { tellsGuestsApart: true });
    assert.equal(together.verdict, apart.verdict, name);
    assert.deepEqual([...together.situations.keys()].toSorted(), [...apart.situations.keys()].toSorted(), name);
    assert.ok(together.states < apart.states, `${name}: ${together.states} of ${apart.states} states`);
  }
});

test("the search for the default strategy comes into every situation that matters", () => {
  const explored = explore({ strategy: defaultStrategy.name, assumptions: defaultAssumptions, bounds });
  assert.deepEqual([...explored.situations.keys()].toSorted(), Object.keys(situations).toSorted());
});
