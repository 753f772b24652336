// The network's load: two hosts that never speak of it agree on which frame is whose.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readFrame } from "../../machine/model/frames.ts";
import { frameSizes, NetworkLoad, type LoadOptions } from "./network-load.ts";

const SEED = 3;
const EPOCH_MS = 1000;

const loads: fc.Arbitrary<LoadOptions> = fc.record({
  bitsPerSecond: fc.integer({ min: 1e6, max: 1e10 }),
  frameBytes: fc.constantFrom(...frameSizes),
  seed: fc.constant(SEED),
  epochMs: fc.constant(EPOCH_MS),
});

interface Sent {
  readonly flow: number;
  readonly sequence: number;
  readonly bytes: number;
}

/** Everything that is due now. */
function drain(load: NetworkLoad, nowMs: number): Sent[] {
  const sent: Sent[] = [];
  const take = (frame: Uint8Array): void => {
    const proven = readFrame(frame, SEED);
    assert.ok(proven !== undefined, "a frame of the network does not prove itself");
    sent.push({ ...proven, bytes: frame.length });
  };
  while (load.offer(nowMs, 64, take) > 0);
  return sent;
}

/** The number of a frame, from what it says of itself. */
const numberOf = ({ flow, sequence }: Sent): number => sequence * 4 + flow;

test("what goes to the source and then to the destination is each frame once, in order", () => {
  fc.assert(
    fc.property(loads, fc.integer({ min: 1, max: 4 }), (options, moveMs) => {
      const [source, destination] = [new NetworkLoad(options), new NetworkLoad(options)];
      source.start(EPOCH_MS);
      const numbers: number[] = [];
      for (let ms = 0; ms <= moveMs; ms++) numbers.push(...drain(source, EPOCH_MS + ms).map(numberOf));
      source.stop();
      destination.start(EPOCH_MS + moveMs);
      assert.equal(destination.next, source.next, "the destination begins where the source ended");
      for (let ms = 0; ms <= 2; ms++) numbers.push(...drain(destination, EPOCH_MS + moveMs + ms).map(numberOf));
      assert.deepEqual(
        numbers.map((number) => number - (numbers[0] ?? 0)),
        numbers.map((_, index) => index),
      );
      assert.equal(source.skipped + destination.skipped, 0);
    }),
    { numRuns: 30, seed: 20_261_123 },
  );
});

test("a sender that got no processor lets go of what it missed, and says how much", () => {
  const load = new NetworkLoad({ bitsPerSecond: 1e9, frameBytes: "1518", seed: SEED, epochMs: EPOCH_MS });
  load.start(EPOCH_MS);
  drain(load, EPOCH_MS);
  const before = load.next;
  const sent = drain(load, EPOCH_MS + 100).length;
  assert.ok(load.skipped > 0 && sent > 0);
  assert.equal(load.next - before, sent + load.skipped);
  assert.equal(load.offered, sent + before - 1);
});

test("a sender knows how many it sent from any number on, those that it let go left out", () => {
  const load = new NetworkLoad({ bitsPerSecond: 1e10, frameBytes: "64", seed: SEED, epochMs: EPOCH_MS });
  load.start(EPOCH_MS);
  const numbers: number[] = [];
  for (const ms of [0, 0.001, 0.05, 30, 30.01, 30.02, 70, 70.1]) {
    for (const sent of drain(load, EPOCH_MS + ms)) numbers.push(numberOf(sent));
  }
  assert.ok(load.skipped > 0);
  for (let number = load.next - 200; number <= load.next + 1; number++) {
    assert.equal(load.offeredFrom(number), numbers.filter((other) => other >= number).length, `from ${number}`);
  }
  const someWay = numbers[numbers.length >> 1] ?? 0;
  assert.equal(load.offeredFrom(someWay), numbers.length - (numbers.length >> 1));
});

test("in the long run the wire carries what was asked for, whatever the sizes", () => {
  for (const frameBytes of frameSizes) {
    const load = new NetworkLoad({ bitsPerSecond: 2e8, frameBytes, seed: SEED, epochMs: EPOCH_MS });
    load.start(EPOCH_MS);
    let bits = 0;
    for (let ms = 0; ms < 200; ms++) for (const { bytes } of drain(load, EPOCH_MS + ms)) bits += (bytes + 24) * 8;
    assert.ok(Math.abs(bits / 0.2 - 2e8) < 4e6, `${frameBytes}: ${bits / 0.2} bits a second`);
  }
});

test("silence is silence", () => {
  const load = new NetworkLoad({ bitsPerSecond: 0, frameBytes: "64", seed: SEED, epochMs: EPOCH_MS });
  load.start(EPOCH_MS);
  assert.equal(drain(load, EPOCH_MS + 1e6).length, 0);
  assert.equal(load.dueMs, Infinity);
});
