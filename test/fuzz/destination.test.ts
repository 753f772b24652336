// A short fuzz of a whole destination on every test run; `node test/fuzz/destination.ts` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { destinationTargets } from "./destination-consumer.ts";
import { fuzzConsumer } from "./fuzz-consumer.ts";

test("no mutated migration makes a destination throw anything but a typed error, hang, or hurt more than its guest", async () => {
  const { destination } = await destinationTargets(5);
  const report = await fuzzConsumer(destination.make, destination.streams, {
    seed: 20_261_123,
    inputs: 600,
  });
  // A fuzz that never gets as far as the states, or never breaks anything, proves nothing.
  for (const outcome of ["taken", "vf-state-invalid", "machine-state-invalid", "wire-payload", "wire-incomplete"]) {
    assert.ok(report.outcomes.has(outcome), `${outcome} never came, but ${[...report.outcomes.keys()].join(", ")}`);
  }
});
