import assert from "node:assert/strict";
import test from "node:test";
import * as v from "valibot";
import { downtimeParts } from "../migration/events.ts";
import { fixtureEvents, fixtureOptions, fixtureReport, fixtureVerdict } from "./report-fixtures.ts";
import {
  ReportBuilder,
  reportVerdicts,
  type MigrationOutcome,
  type MigrationReport,
  type SidedEvent,
} from "./report.ts";

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const ms = v.pipe(v.number(), v.minValue(0));
const options = v.strictObject({
  machine: v.picklist(["linux", "model", "qemu"]),
  strategy: v.string(),
  memoryBytes: count,
  traffic: v.picklist(["download", "echo", "frames", "none"]),
  load: v.optional(v.strictObject({ bitsPerSecond: v.number(), frameBytes: v.picklist(["64", "1518", "mix"]) })),
  downtimeLimitMs: ms,
  bandwidthBytesPerSecond: v.optional(v.number()),
  seed: count,
  captureFile: v.optional(v.string()),
  assets: v.record(v.picklist(["kernel", "initrd", "bios", "vgaBios"]), v.string()),
  roundsMax: count,
  ifNotConverging: v.picklist(["switch-over", "give-up"]),
});

/** The report as other programs read it. A key that goes or changes its type here needs a new format version. */
const reportSchema = v.strictObject({
  formatVersion: v.literal(1),
  verdict: v.picklist(reportVerdicts),
  reasons: v.array(v.string()),
  strategy: v.string(),
  machine: v.picklist(["linux", "model", "qemu"]),
  seed: count,
  memoryBytes: count,
  options,
  rounds: v.array(
    v.strictObject({
      round: count,
      pages: count,
      zeroPages: count,
      bytes: count,
      durationMs: ms,
      dirtyAfter: count,
      bytesPerSecond: v.number(),
      expectedDowntimeMs: v.nullable(ms),
    }),
  ),
  converged: v.boolean(),
  downtimeMs: v.strictObject({
    total: ms,
    pause: ms,
    rings: ms,
    pages: ms,
    saveState: ms,
    transfer: ms,
    loadMachine: ms,
    loadDevice: ms,
    resume: ms,
    other: ms,
  }),
  outageMs: v.nullable(ms),
  totalMs: ms,
  bytesSent: count,
  frames: v.strictObject({ delivered: count, lost: count, discarded: count, stale: count, sentTwice: count }),
  guest: v.strictObject({
    downloadFinished: v.nullable(v.boolean()),
    sha256Expected: v.nullable(v.string()),
    sha256Actual: v.nullable(v.string()),
    pingsSent: v.nullable(count),
    pingsLost: v.nullable(count),
    frames: v.nullable(
      v.strictObject({ verified: count, corrupt: count, repeated: count, missing: count, readAfterMove: count }),
    ),
    panic: v.nullable(v.string()),
    noticed: v.array(v.string()),
  }),
  load: v.nullable(
    v.strictObject({
      askedBitsPerSecond: v.number(),
      reachedBitsPerSecond: v.number(),
      framesSent: count,
      framesNotSent: count,
    }),
  ),
  corruptions: v.array(
    v.strictObject({
      hazard: v.string(),
      sentence: v.string(),
      address: v.pipe(v.string(), v.regex(/^0x[0-9a-f]+$/)),
      lengthBytes: count,
      page: v.pipe(v.number(), v.integer()),
      queue: v.optional(count),
      descriptor: v.optional(count),
      frame: v.optional(count),
      frameSummary: v.optional(v.string()),
      expectedHex: v.string(),
      actualHex: v.string(),
      isStale: v.boolean(),
    }),
  ),
  corruptionTotals: v.strictObject({ corruptions: count, frames: count, pages: count, bytes: count }),
  hazards: v.record(v.string(), count),
  points: v.array(v.strictObject({ point: count, sentence: v.string(), violations: count })),
  cuts: v.strictObject({
    receive: v.array(
      v.strictObject({
        queue: count,
        ringDescriptors: count,
        headAtPause: count,
        tail: count,
        cut: count,
        headAtResume: count,
        headAtSourceEnd: count,
        descriptorsCarried: count,
        framesCarried: count,
        isInsideFrame: v.boolean(),
      }),
    ),
    transmit: v.array(
      v.strictObject({
        queue: count,
        ringDescriptors: count,
        headAtPause: count,
        headAtResume: count,
        headAtSourceEnd: count,
        tail: count,
        framesSentTwice: count,
      }),
    ),
  }),
  methods: v.strictObject({ cpuDirtyLog: v.string(), tracker: v.string() }),
  verifies: v.array(v.string()),
  doesNotVerify: v.array(v.string()),
});

const outcome: MigrationOutcome = {
  audit: fixtureVerdict("consistent"),
  outageMs: null,
  bytesSent: 1,
  frames: { delivered: 1, lost: 0, discarded: 0 },
  guest: {
    downloadFinished: null,
    sha256Expected: null,
    sha256Actual: null,
    pingsSent: null,
    pingsLost: null,
    frames: null,
    panic: null,
    noticed: [],
  },
  load: null,
  methods: { cpuDirtyLog: "wasm", tracker: "descriptor-shadow" },
};

function reportOf(events: Iterable<SidedEvent>, changes: Partial<MigrationOutcome> = {}): MigrationReport {
  const builder = new ReportBuilder(fixtureOptions("consistent"));
  for (const event of events) builder.event(event);
  return builder.build({ ...outcome, ...changes });
}

for (const kind of reportVerdicts) {
  test(`a ${kind} report has exactly the keys of its format, before and after it was JSON`, () => {
    const report = fixtureReport(kind);
    v.parse(reportSchema, report);
    assert.deepEqual(JSON.parse(JSON.stringify(report)), report);
    assert.equal(report.verdict, kind);
  });
}

test("the parts of the downtime do not overlap and add up to the whole", () => {
  const { total, ...parts } = fixtureReport("consistent").downtimeMs;
  assert.ok(Math.abs(Object.values(parts).reduce((sum, part) => sum + part, 0) - total) < 1e-9);
});

test("waiting for the destination is told apart from its loading", () => {
  const { transfer, loadMachine, loadDevice } = fixtureReport("consistent").downtimeMs;
  assert.ok(Math.abs(transfer + loadMachine + loadDevice - 6.72) < 1e-9);
});

test("downtime counts from the pause command, and ends when the destination runs, not when the source hears of it", () => {
  const { downtimeMs } = reportOf(fixtureEvents(50_000));
  assert.ok(Math.abs(downtimeMs.total - 16.7) < 1e-6, String(downtimeMs.total));
  assert.ok(Math.abs(downtimeMs.saveState - 3.48) < 1e-9, "a part that comes twice is added up");
});

test("the source's word on running is taken only until the destination's comes", () => {
  const heardFirst = [...fixtureEvents()].sort(
    (a, b) => Number(a.side === "destination") - Number(b.side === "destination"),
  );
  assert.deepEqual(reportOf(heardFirst), reportOf(fixtureEvents()));
});

test("a migration of which the events say nothing has zeros, not holes", () => {
  const report = reportOf([]);
  v.parse(reportSchema, report);
  for (const part of downtimeParts) assert.equal(report.downtimeMs[part], 0);
});

test("an expectation that cannot be had is null, not a number that JSON lacks", () => {
  const events: SidedEvent[] = [];
  for (const event of fixtureEvents()) {
    if (event.kind !== "round") continue;
    events.push({ ...event, summary: { ...event.summary, expectedDowntimeMs: Infinity } });
  }
  assert.deepEqual(
    reportOf(events).rounds.map((round) => round.expectedDowntimeMs),
    [null, null, null],
  );
});

test("a guest whose own checksum is wrong makes the verdict corrupt although the audit found nothing", () => {
  const guest = { ...outcome.guest, downloadFinished: true, sha256Expected: "aa", sha256Actual: "bb" };
  const report = reportOf(fixtureEvents(), { guest });
  assert.equal(report.verdict, "corrupt");
  assert.match(report.reasons.join(), /checksum/);
});

test("a download that never finished is stalled, not corrupt, whatever the checksum of the part that came", () => {
  for (const sha256Actual of [null, "bb"]) {
    const guest = { ...outcome.guest, downloadFinished: false, sha256Expected: "aa", sha256Actual };
    const report = reportOf(fixtureEvents(), { guest });
    assert.equal(report.verdict, "stalled");
    assert.deepEqual(report.reasons, ["The download inside the guest never finished."]);
  }
});

test("wrong bytes in memory are corrupt, also where the download never finished, and both are said", () => {
  const guest = { ...outcome.guest, downloadFinished: false };
  const report = reportOf(fixtureEvents(), { guest, audit: fixtureVerdict("corrupt") });
  assert.equal(report.verdict, "corrupt");
  assert.match(report.reasons.join("\n"), /audit found bytes[^]*never finished/);
});
