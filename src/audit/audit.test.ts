import assert from "node:assert/strict";
import { test } from "node:test";
import { audit } from "./audit.ts";
import { hazards, points, type Hazard } from "./hazards.ts";
import { legalScene, specimens } from "./specimens.fixture.ts";

test("a legal cut is consistent, and every point of it holds", () => {
  const verdict = audit(legalScene().evidence());
  assert.deepEqual(verdict.corruptions, []);
  assert.equal(verdict.outcome, "consistent");
});

for (const hazard of Object.keys(hazards) as Hazard[]) {
  test(`the specimen of ${hazard} is caught under that name and no other`, () => {
    const verdict = audit(specimens[hazard]());
    const found = verdict.corruptions.map((corruption) => `${corruption.hazard}: ${corruption.sentence}`);
    assert.deepEqual(Object.keys(verdict.hazards), [hazard], found.join("\n"));
    assert.equal(verdict.outcome, "corrupt");
    for (const { point, violations } of verdict.points) {
      assert.equal(violations > 0, point === hazards[hazard].point, `point ${point}`);
    }
  });
}

test("the specimens break each of the eight points", () => {
  const broken = new Set(Object.values(hazards).map(({ point }) => point));
  assert.deepEqual(
    [...broken].toSorted((a, b) => a - b),
    Object.keys(points).map(Number),
  );
});
