import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../../base/clock.ts";
import { MachineClock } from "./clock.ts";

test("machine time passes with the host's clock while running and stands while stopped", () => {
  const host = new ManualClock(1_000_000);
  const clock = new MachineClock(host);
  host.advance(500);
  assert.ok(clock.nowMs() < 0.001);
  clock.start();
  host.advance(20);
  assert.ok(Math.abs(clock.nowMs() - 20) < 0.001);
  clock.stop();
  host.advance(1e9);
  assert.ok(Math.abs(clock.nowMs() - 20) < 0.001);
  clock.start();
  host.advance(1);
  assert.ok(Math.abs(clock.nowMs() - 21) < 0.001);
});

test("each reading is later than the last by a tick of the time stamp counter, whatever is done in between", () => {
  const actions = fc.array(fc.constantFrom("read", "start", "stop", "advance", "back", "skip"), { maxLength: 100 });
  fc.assert(
    fc.property(actions, (list) => {
      const host = new ManualClock(5000);
      const clock = new MachineClock(host);
      let last = clock.nowMs();
      for (const action of list) {
        if (action === "start") clock.start();
        else if (action === "stop") clock.stop();
        else if (action === "advance") host.advance(0.25);
        else if (action === "back") host.advance(-100);
        else if (action === "skip") clock.skip(3);
        const now = clock.nowMs();
        assert.ok(Math.trunc(now * 1e6) > Math.trunc(last * 1e6) || now - last >= 0.999e-6);
        last = now;
      }
    }),
    { seed: 4 },
  );
});

test("a restored clock goes on from the saved time, on a host with another origin", () => {
  const source = new MachineClock(new ManualClock(7));
  source.skip(123_456.5);
  const saved = source.nowMs();
  const host = new ManualClock(9e12);
  const clock = new MachineClock(host);
  clock.restore(saved);
  clock.start();
  host.advance(2);
  assert.ok(Math.abs(clock.nowMs() - (saved + 2)) < 0.001);
});
