import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { fixtureBaseline, fixtureReport } from "../host/report-fixtures.ts";
import type { Downtime } from "../host/move-times.ts";
import { reportVerdicts, type MigrationReport } from "../host/report.ts";
import { FakeTerminal } from "./fakes.ts";
import { pageOf, visibleLength } from "./layout.ts";
import { downtimeBars } from "./report-downtime.ts";
import { renderReport } from "./report-render.ts";

/** The report without its line breaks: sentences as a person reads them. */
const read = (report: MigrationReport): string => renderReport(report, new FakeTerminal()).replace(/\s+/g, " ");

function assertSays(report: MigrationReport, ...sentences: string[]): void {
  const text = read(report);
  for (const sentence of sentences) assert.ok(text.includes(sentence), `"${sentence}" in: ${text}`);
}

test("a consistent report says so first, then what moved, how long it was dark, the frames and the guest", () => {
  const report = fixtureReport("consistent");
  assert.ok(
    read(report).trimStart().startsWith("CONSISTENT The guest moved, and nothing that it may look at was lost."),
  );
  assertSays(
    report,
    "128 MiB of a running linux guest, strategy rings-first, in 3 rounds and a switchover: 45.1 MiB sent in 278 ms.",
    "The guest stood still for 16.7 ms (asked for: 100 ms). No frame reached it for 21.9 ms.",
    "6,214 delivered; 9 lost on the way, as any network may; 22 discarded that the source's card wrote behind the cut.",
    "The download it made during the move is whole: SHA-256 3f9ab1c0...ab57, computed inside.",
    "It answered every one of 64 pings.",
    "at the pause the head was 203; 5 frames that came after it went along; the cut is at 208",
    "The seed was 1742881093. bin/underway migrate --seed 1742881093",
  );
  assert.doesNotMatch(read(report), /wrong|corrupt/i);
});

test("a corrupt report says so first, and names hazards, frames, pages and bytes", () => {
  const report = fixtureReport("corrupt");
  assert.ok(read(report).trimStart().startsWith("CORRUPT The guest moved, but its memory is not what it has to be."));
  assertSays(
    report,
    "80,242 bytes in 51 pages are not the source's. 53 frames that the guest was told it has are damaged.",
    "39 invisible-dma the page of a frame that the guest has taken was not sent again after the device filled it",
    "frame 1,203, queue 0, descriptor 211, invisible-dma TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 1742881 len 1448",
    "1,514 bytes from 0x5a31802 on, in page 23,089",
    "has to be 52 54 00 12 34 56",
    "is 00 00 00 00 00 00",
    "register 0x1010",
    "and 51 more",
    "It left 2 of 64 pings unanswered. Its TCP stack counted 41 segments with a wrong checksum.",
    "bin/underway migrate --strategy blind --seed 1742881093",
  );
});

test("both reports say what the audit verifies and what it does not", () => {
  for (const kind of reportVerdicts) {
    const report = fixtureReport(kind);
    assertSays(report, "What the audit verifies", ...report.verifies, "What it does not", ...report.doesNotVerify);
  }
});

test("a guest that found its own download damaged is enough for a verdict, without a list of bytes", () => {
  const good = fixtureReport("consistent");
  const reason = "The download inside the guest ended with a checksum that is not the file's.";
  const guest = { ...good.guest, sha256Actual: "b04d77e2" };
  const report = { ...good, verdict: "corrupt" as const, reasons: [reason], guest };
  assertSays(report, "CORRUPT", `wrong ${reason}`, "The download it made during the move is damaged: SHA-256 b04d77e2");
  assert.doesNotMatch(read(report), /What is wrong/);
});

test("a download that never finished is said to be that, and nothing is called wrong", () => {
  const report = fixtureReport("stalled");
  const [reason = ""] = report.reasons;
  const guest = "guest The download it made during the move never finished.";
  assertSays(report, "STALLED", "The guest moved, and no byte is wrong", `stalled ${reason}`, guest);
  assert.doesNotMatch(read(report), /What is wrong|CORRUPT|damaged/);
});

test("what was not measured is not made up", () => {
  const good = fixtureReport("consistent");
  const guest = {
    downloadFinished: null,
    sha256Expected: null,
    sha256Actual: null,
    pingsSent: null,
    pingsLost: null,
    frames: null,
    panic: null,
    noticed: [],
  };
  const report = { ...good, outageMs: null, guest, options: { ...good.options, traffic: "none" as const } };
  assertSays(report, "Too few frames came to say how long it got none.", "It was not asked: there was no traffic.");
});

test("of a baseline nothing is said that nobody looked at, and where the VF was is", () => {
  const report = fixtureBaseline();
  assertSays(
    report,
    "CONSISTENT The guest moved, and what it noticed is in order; its memory was not audited.",
    "128 MiB of a running qemu guest, baseline failover, in 3 rounds",
    "The guest stood still for 16.7 ms (asked for: 100 ms; QEMU itself says 20.0 ms).",
    "It answered no ping for 262 ms at the longest.",
    "No frame came through a VF for 1.72 s: virtio-net stood in.",
    "63.9 ms until the VF was unplugged and the guest stood still, 152 ms around that, 262 ms from when another VF was",
    "What this verifies",
    "--machine qemu --strategy failover",
  );
  assert.doesNotMatch(read(report), /audit verifies|delivered|Where the/);
  const { baseline } = report;
  assert.ok(baseline !== undefined);
  const lost = { ...baseline, withoutVfMs: null, pingGapsMs: { ...baseline.pingGapsMs, plugIn: null } };
  assertSays({ ...report, verdict: "stalled", baseline: lost }, "did not go on as before", "The guest got no VF back.");
  const never = { ...baseline, withoutVfMs: null, pingGapsMs: { unplug: null, pause: 88, plugIn: null } };
  assert.doesNotMatch(read({ ...report, baseline: never }), /through a VF|VF back/);
});

test("no line is wider than the page, in a wide window as in a narrow one", () => {
  for (const kind of reportVerdicts) {
    for (const columns of [72, 80, 100, 200]) {
      const text = renderReport(fixtureReport(kind), new FakeTerminal({ columns, color: true }));
      for (const line of text.split("\n")) assert.ok(visibleLength(line) <= Math.min(96, columns), line);
    }
  }
});

test("without Unicode the report is ASCII, and without colour it has no control characters", () => {
  for (const kind of reportVerdicts) {
    assert.match(renderReport(fixtureReport(kind), new FakeTerminal({ unicode: false })), /^[\n\x20-\x7e]*$/);
    assert.ok(!renderReport(fixtureReport(kind), new FakeTerminal()).includes("\u001B"));
  }
});

test("the bars of the downtime fill the page once, however short a part is", () => {
  const part = fc.oneof(fc.constant(0), fc.double({ min: 0.005, max: 500, noNaN: true }));
  const page = pageOf(new FakeTerminal());
  const parts = { pause: part, rings: part, pages: part, saveState: part, transfer: part };
  const more = { loadMachine: part, loadDevice: part, resume: part, other: part, total: part };
  fc.assert(
    fc.property(fc.record({ ...parts, ...more }), (downtime: Downtime) => {
      const lines = downtimeBars(downtime, page);
      for (const line of lines) {
        assert.ok(line.length <= page.width, line);
        assert.match(line, / ms|s {2}/);
        assert.match(line, /[█▏▎▍▌▋▊▉]$/);
      }
    }),
  );
});
