// A short fuzz of the wire on every test run; `node test/fuzz/wire.ts` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzConsumer, FuzzFailure, type FuzzConsumer } from "./fuzz-consumer.ts";
import { wireHeldBytesMax, wireTargetNames, wireTargets } from "./wire-consumers.ts";

const seed = 20_261_123;
const inputs = 3000;

for (const name of wireTargetNames) {
  test(`no mutated stream makes the ${name} throw anything but a typed error, hang or hold much`, async () => {
    const target = (await wireTargets(seed))[name];
    const report = await fuzzConsumer(target.make, target.streams, {
      seed,
      inputs: Math.ceil(inputs * target.share),
      heldBytesMax: wireHeldBytesMax,
    });
    // A fuzz that never gets past the checksums, or never breaks anything, proves nothing.
    assert.ok(report.outcomes.has("taken"), "nothing was ever taken");
    assert.ok(report.outcomes.has("wire-payload") || name === "source", "no lie ever reached a payload");
    assert.ok(report.outcomes.size >= 6, `only ${[...report.outcomes.keys()].join(", ")}`);
  });
}

test("the fuzz finds a consumer that throws something else, one that hoards and one that never answers", async () => {
  const { streams } = (await wireTargets(seed)).decoder;
  const options = { seed, inputs: 5, heldBytesMax: wireHeldBytesMax, stepMsMax: 20 };
  const bad: Record<string, FuzzConsumer> = {
    throws: {
      push: () => {
        throw new RangeError("out of range");
      },
      end: () => {},
    },
    hoards: { push: () => {}, end: () => {}, heldBytes: 1 << 30 },
    hangs: { push: () => new Promise(() => {}), end: () => {} },
  };
  for (const consumer of Object.values(bad)) {
    await assert.rejects(
      fuzzConsumer(() => consumer, streams, options),
      FuzzFailure,
    );
  }
});
