// docs/FINDINGS.md tells no schedule that does not do what it says: every one in it is run again, and breaks something.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Trial } from "../../src/explore/trial.ts";
import { decodeSchedule, experimentOf } from "../../src/explore/schedule.ts";

const text = readFileSync(new URL("../../docs/FINDINGS.md", import.meta.url), "utf8");
const schedules = [...new Set(text.match(/u1:[a-z-]+:[A-Za-z0-9=,]*:[A-Za-z0-9]+/g) ?? [])];

test("there are schedules in the findings", () => assert.ok(schedules.length > 10));

for (const schedule of schedules) {
  test(`${schedule} leaves an image that is corrupt`, () => {
    const { question, steps } = decodeSchedule(schedule);
    const trial = new Trial(experimentOf(question));
    assert.ok(trial.run(steps), "every step can be done");
    assert.equal(trial.outcome().verdict.outcome, "corrupt");
  });
}
