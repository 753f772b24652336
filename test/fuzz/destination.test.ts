// A short fuzz of a whole destination on every test run; `node test/fuzz/destination.ts` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { destinationMemory, destinationTargets } from "./destination-consumer.ts";
import { fuzzConsumer, FuzzFailure, type FuzzConsumer } from "./fuzz-consumer.ts";

test("no mutated migration makes a destination throw anything but a typed error, hang, take much memory, or hurt more than its guest", async () => {
  const { destination } = await destinationTargets(5);
  const report = await fuzzConsumer(destination.make, destination.streams, {
    seed: 20_261_123,
    inputs: 600,
    memory: destinationMemory,
  });
  // A fuzz that never gets as far as the states, or never breaks anything, proves nothing.
  for (const outcome of ["taken", "vf-state-invalid", "machine-state-invalid", "wire-payload", "wire-incomplete"]) {
    assert.ok(report.outcomes.has(outcome), `${outcome} never came, but ${[...report.outcomes.keys()].join(", ")}`);
  }
});

test("the fuzz finds a destination that takes memory for what is only announced, and one that keeps some of each", async () => {
  const bytes = { push: () => void new Uint8Array(1 << 20), end: () => {} };
  let list: number[] = [];
  const numbers = { push: () => void (list = Array.from({ length: 4 << 20 }, (_, i) => i)), end: () => {} };
  const hoard: Uint8Array[] = [];
  const keeps = { push: () => {}, end: () => void hoard.push(new Uint8Array(100_000)) };
  const cases: readonly (readonly [FuzzConsumer, RegExp])[] = [
    [bytes, /bytes of buffers are taken after/],
    [numbers, /bytes of heap are taken after/],
    [keeps, /bytes are kept after 600 inputs/],
  ];
  for (const [consumer, message] of cases) {
    const options = { seed: 1, inputs: 600, memory: destinationMemory };
    const failure = await fuzzConsumer(() => consumer, [new Uint8Array(64)], options).catch(
      (thrown: unknown) => thrown,
    );
    assert.ok(failure instanceof FuzzFailure, String(failure));
    assert.match(failure.message, message);
  }
  assert.equal(list.length, 4 << 20);
});
