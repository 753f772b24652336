import assert from "node:assert/strict";
import { test } from "node:test";
import { MoveTimes } from "./move-times.ts";
import { fixtureEvents, fixtureReport } from "./report-fixtures.ts";

function played(): MoveTimes {
  const times = new MoveTimes();
  for (const { side, ...event } of fixtureEvents()) if (side === "source") times.event(event);
  return times;
}

test("rounds and parts are the report's, and no part is longer than the whole", () => {
  const times = played();
  const report = fixtureReport("consistent");
  assert.deepEqual(times.rounds, report.rounds);
  const { downtimeMs } = times;
  assert.ok(downtimeMs !== null);
  for (const part of [
    "pause",
    "rings",
    "pages",
    "saveState",
    "transfer",
    "loadMachine",
    "loadDevice",
    "resume",
  ] as const) {
    assert.equal(downtimeMs[part], report.downtimeMs[part], part);
  }
  const { total, ...parts } = downtimeMs;
  const sum = Object.values(parts).reduce((all, ms) => all + ms, 0);
  assert.ok(sum <= total + 1e-6, `${sum} of ${total} ms`);
  // The source hears that the guest runs after it does.
  assert.ok(total >= report.downtimeMs.total - 1e-6);
});

test("a guest that never stood still has no downtime, and a round without a forecast none either", () => {
  const times = new MoveTimes();
  assert.deepEqual([times.downtimeMs, times.totalMs, times.rounds], [null, 0, []]);
  times.event({ atMs: 5, kind: "phase", phase: "negotiate" });
  const summary = { round: 1, pages: 1, zeroPages: 0, bytes: 1, durationMs: 1, dirtyAfter: 0, bytesPerSecond: 1 };
  times.event({ atMs: 9, kind: "round", summary: { ...summary, expectedDowntimeMs: Infinity } });
  assert.equal(times.totalMs, 4);
  assert.equal(times.rounds[0]?.expectedDowntimeMs, null);
});
