import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { SeededRandom } from "../base/random.ts";
import { wireBytes } from "./ethernet.ts";
import { BURST_MS, Wire } from "./wire.ts";

interface Rig {
  readonly wire: Wire;
  readonly clock: ManualClock;
  readonly delivered: { order: number; atMs: number }[];
  readonly dropped: Map<string, number>;
}

function rig(queueBytesMax: number, seed = 1): Rig {
  const clock = new ManualClock(1000);
  const delivered: { order: number; atMs: number }[] = [];
  const dropped = new Map<string, number>();
  const wire = new Wire({
    clock,
    random: new SeededRandom(seed),
    queueBytesMax,
    deliver: (frame) => {
      delivered.push({ order: ((frame[0] ?? 0) << 8) | (frame[1] ?? 0), atMs: clock.nowMs() });
    },
    drop: (_frame, cause) => {
      dropped.set(cause, (dropped.get(cause) ?? 0) + 1);
    },
  });
  return { wire, clock, delivered, dropped };
}

function frameOf(order: number, lengthBytes: number): Uint8Array {
  const frame = new Uint8Array(lengthBytes);
  frame[0] = order >>> 8;
  frame[1] = order;
  return frame;
}

test("a wire keeps order and its speed, and every frame is delivered, dropped or queued", () => {
  const steps = fc.array(
    fc.record({ lengthBytes: fc.integer({ min: 14, max: 1514 }), waitMs: fc.double({ min: 0, max: 2, noNaN: true }) }),
    { minLength: 1, maxLength: 200 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 1_000_000, max: 1_000_000_000 }), (offers, speedBitsPerSecond) => {
      const { wire, clock, delivered, dropped } = rig(16_384);
      wire.set({ speedBitsPerSecond, lossRate: 0 });
      const sizes: number[] = [];
      for (const { lengthBytes, waitMs } of offers) {
        wire.offer(frameOf(sizes.length, lengthBytes));
        sizes.push(wireBytes(lengthBytes));
        clock.advance(waitMs);
        wire.service();
        const total = delivered.length + (dropped.get("queue-full") ?? 0) + wire.queuedFrames;
        assert.equal(total, sizes.length);
      }
      assert.deepEqual(
        delivered,
        delivered.toSorted((a, b) => a.order - b.order),
      );
      const bytesMax = (clock.nowMs() - 1000 + BURST_MS) * (speedBitsPerSecond / 8000) + 1538 + 1;
      assert.ok(delivered.reduce((sum, { order }) => sum + (sizes[order] ?? 0), 0) <= bytesMax);
    }),
  );
});

test("whoever serves a wire when it is due empties it at exactly the speed that was set", () => {
  const { wire, clock, delivered } = rig(1 << 20);
  wire.set({ speedBitsPerSecond: 10_000_000, lossRate: 0 });
  for (let order = 0; order < 100; order++) wire.offer(frameOf(order, 1230));
  let turns = 0;
  while (wire.nextDueMs() !== Infinity) {
    clock.advance(Math.max(0, wire.nextDueMs() - clock.nowMs()));
    wire.service();
    turns++;
    assert.ok(turns <= 100, "a due wire did not move");
  }
  assert.equal(delivered.length, 100);
  // 1250 bytes and overhead are 1 ms and a bit at 10 Mb/s.
  const expectedMs = (99 * wireBytes(1230)) / 1250;
  assert.ok(Math.abs((delivered.at(-1)?.atMs ?? 0) - 1000 - expectedMs) < 0.01);
});

test("loss is seeded: the same seed loses the same frames, at the rate that was set", () => {
  const lost = (seed: number): number[] => {
    const { wire, delivered } = rig(0, seed);
    wire.set({ speedBitsPerSecond: null, lossRate: 0.1 });
    for (let order = 0; order < 5000; order++) wire.offer(frameOf(order, 60));
    return delivered.map(({ order }) => order);
  };
  assert.deepEqual(lost(3), lost(3));
  assert.notDeepEqual(lost(3), lost(4));
  assert.ok(Math.abs(lost(3).length - 4500) < 100);
});

test("a speed that is lifted lets the queue out in order, and a cut link drops it", () => {
  const { wire, delivered, dropped } = rig(1 << 20);
  wire.set({ speedBitsPerSecond: 1000, lossRate: 0 });
  for (let order = 0; order < 10; order++) wire.offer(frameOf(order, 60));
  assert.equal(delivered.length, 1);
  wire.set({ speedBitsPerSecond: null, lossRate: 0 });
  wire.offer(frameOf(10, 60));
  assert.equal(wire.nextDueMs(), -Infinity);
  wire.service();
  assert.deepEqual(
    delivered.map(({ order }) => order),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  );
  wire.set({ speedBitsPerSecond: 1000, lossRate: 0 });
  for (let order = 0; order < 3; order++) wire.offer(frameOf(order, 60));
  wire.cut();
  assert.equal(dropped.get("link-down"), 2);
  assert.equal(wire.queuedFrames, 0);
});
