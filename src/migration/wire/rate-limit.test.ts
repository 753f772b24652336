// Bandwidth limiting: what has passed at any time is bounded by rate and burst, order is kept, nothing is lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../../base/clock.ts";
import type { OperationError } from "../../base/errors.ts";
import { RateLimitedTransport } from "./rate-limit.ts";
import type { Transport, TransportHandlers } from "./transport.ts";

/** Takes everything at once and remembers when. */
class RecordingTransport implements Transport {
  readonly sent: { atMs: number; bytes: Uint8Array }[] = [];
  readonly bytesReceived = 0;
  bytesSent = 0;
  closedAfter = -1;
  handlers: TransportHandlers | undefined;
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  start(handlers: TransportHandlers): void {
    this.handlers = handlers;
  }

  send(bytes: Uint8Array): undefined {
    this.sent.push({ atMs: this.#clock.nowMs(), bytes });
  }

  close(): void {
    this.closedAfter = this.sent.length;
  }
}

/** A sleep that is over when the clock is moved to its end. */
class Sleeper {
  readonly #clock: ManualClock;
  readonly #sleeping: { untilMs: number; resolve: () => void }[] = [];

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  readonly sleep = (ms: number): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#sleeping.push({ untilMs: this.#clock.nowMs() + ms, resolve });
    return promise;
  };

  /** Moves the clock to the next end of a sleep, and lets what it woke run. False when nobody sleeps. */
  async wakeNext(): Promise<boolean> {
    await settled();
    const next = this.#sleeping.toSorted((a, b) => a.untilMs - b.untilMs)[0];
    if (next === undefined) return false;
    this.#sleeping.splice(this.#sleeping.indexOf(next), 1);
    this.#clock.advance(Math.max(0, next.untilMs - this.#clock.nowMs()));
    next.resolve();
    await settled();
    return true;
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function limited(bytesPerSecond: number | undefined, burstBytes: number) {
  const clock = new ManualClock(500);
  const inner = new RecordingTransport(clock);
  const sleeper = new Sleeper(clock);
  const options = { bytesPerSecond, burstBytes, clock, sleep: sleeper.sleep };
  return { clock, inner, sleeper, transport: new RateLimitedTransport(inner, options) };
}

test("what passes keeps to rate, burst and one frame of overdraft, in order, and without idling", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 100, max: 100_000 }),
      fc.integer({ min: 1, max: 4000 }),
      async (lengths, bytesPerSecond, burstBytes) => {
        const { inner, sleeper, transport } = limited(bytesPerSecond, burstBytes);
        const frames = lengths.map((length) => new Uint8Array(length));
        for (const frame of frames) void transport.send(frame);
        while (await sleeper.wakeNext());
        assert.deepEqual(
          inner.sent.map((sent) => sent.bytes),
          frames,
        );
        let before = 0;
        for (const { atMs, bytes } of inner.sent) {
          const earned = burstBytes + (bytesPerSecond * (atMs - 500)) / 1000;
          assert.ok(before <= earned + 1.001, `${before} bytes went before ${atMs} ms`);
          // Each frame leaves as soon as its predecessors are paid for.
          assert.ok(atMs === 500 || before >= earned - 1.001, `a frame waited until ${atMs} ms for nothing`);
          before += bytes.length;
        }
      },
    ),
    { seed: 20_261_127, numRuns: 100 },
  );
});

test("a send within the burst passes at once, and one beyond it gives a promise that resolves when it has passed", async () => {
  const { inner, sleeper, transport } = limited(1000, 100);
  assert.equal(transport.send(new Uint8Array(150)), undefined);
  const waiting = transport.send(new Uint8Array(10));
  assert.ok(waiting !== undefined);
  assert.equal(inner.sent.length, 1);
  await sleeper.wakeNext();
  await waiting;
  assert.equal(inner.sent.length, 2);
  assert.equal(transport.bytesSent, 160);
});

test("lifting the limit lets everything that waits go at once", async () => {
  const { clock, inner, transport } = limited(1, 1);
  void transport.send(new Uint8Array(1000));
  const waiting = transport.send(new Uint8Array(1000));
  transport.setRate(undefined);
  await waiting;
  assert.equal(inner.sent.length, 2);
  assert.equal(clock.nowMs(), 500);
});

test("closing sends what waits first, and a broken link lets nobody wait", async () => {
  const closing = limited(1, 1);
  void closing.transport.send(new Uint8Array(1000));
  void closing.transport.send(new Uint8Array(1));
  closing.transport.close();
  await settled();
  assert.equal(closing.inner.closedAfter, 2);

  const broken = limited(1, 1);
  const ends: (OperationError | undefined)[] = [];
  broken.transport.start({ onData: () => {}, onClose: (error) => void ends.push(error) });
  void broken.transport.send(new Uint8Array(1000));
  const waiting = broken.transport.send(new Uint8Array(1));
  broken.inner.handlers?.onClose(undefined);
  await waiting;
  assert.deepEqual(ends, [undefined]);
  assert.equal(broken.inner.sent.length, 1);
});
