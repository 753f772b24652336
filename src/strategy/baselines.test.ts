import assert from "node:assert/strict";
import { test } from "node:test";
import { baselineByName, baselines } from "./baselines.ts";
import { strategies } from "./strategies.ts";

test("baselines are found by their names, which no strategy has", () => {
  const names = [...baselines, ...strategies].map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const baseline of baselines) assert.equal(baselineByName(baseline.name), baseline);
  for (const { name } of strategies) assert.equal(baselineByName(name), undefined, name);
});
