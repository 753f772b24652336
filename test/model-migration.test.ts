// The traffic machine through the program itself: real threads, real TCP, and a card that writes while pages are copied.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import type { MigrationReport } from "../src/host/report.ts";

const program = path.join(import.meta.dirname, "..", "bin", "underway");
const TIMEOUT_MS = 120_000;

function migrate(words: string): Promise<{ exitCode: number; report: MigrationReport; about: string }> {
  const all = ["migrate", "--machine", "model", "--memory", "16M", "--seed", "11", "--json", ...words.split(" ")];
  return new Promise((resolve, reject) => {
    execFile(program, all, { timeout: TIMEOUT_MS, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : Number(error.code);
      try {
        const report = JSON.parse(stdout) as MigrationReport;
        const about = JSON.stringify({ ...report, corruptions: report.corruptions.slice(0, 5) });
        resolve({ exitCode, report, about });
      } catch (cause) {
        reject(new Error(`${words}: exit ${exitCode}\n${stdout}\n${stderr}`, { cause }));
      }
    });
  });
}

/** As many as can be between network and application at the moment that is counted from. */
const UNDER_WAY_MAX = 256;

/** What the network sent, the guest read, or the bench saw lost: three who do not know of each other. */
function assertAccounted({ load, guest, frames }: MigrationReport, about: string): void {
  const accounted = (guest.frames?.verified ?? 0) + frames.lost + frames.discarded;
  assert.ok(Math.abs((load?.framesSent ?? 0) - accounted) <= UNDER_WAY_MAX, about);
}

const sound = [
  ["rings-first", "--load 1G --frame-bytes mix"],
  ["device-log", "--load 200M --frame-bytes 64"],
  ["reinit", "--load 500M"],
] as const;
for (const [strategy, load] of sound) {
  test(`with ${strategy} a model guest under load moves, and every frame that reaches it is right`, async () => {
    const { exitCode, report, about } = await migrate(`--strategy ${strategy} ${load}`);
    assert.equal(report.verdict, "consistent", about);
    assert.equal(exitCode, 0);
    const { frames } = report.guest;
    assert.ok(frames !== null && frames.verified > 0 && frames.readAfterMove > 0, about);
    assert.deepEqual({ corrupt: frames.corrupt, repeated: frames.repeated }, { corrupt: 0, repeated: 0 }, about);
    assert.ok(report.frames.delivered > 0 && report.frames.lost >= 0, about);
    if (strategy !== "reinit") assertAccounted(report, about);
    assert.deepEqual([report.guest.sha256Expected, report.guest.sha256Actual], [null, null]);
    assert.deepEqual(report.methods, { cpuDirtyLog: "model", tracker: "descriptor-shadow" });
  });
}

for (const strategy of ["blind", "dummy-write-after"]) {
  test(`with ${strategy} the card outruns the copies of a model guest, and the audit says so`, async () => {
    const { exitCode, report, about } = await migrate(`--strategy ${strategy} --load 500M`);
    assert.equal(report.verdict, "corrupt", about);
    assert.equal(exitCode, 2);
    assert.ok(report.corruptions.length > 0, about);
  });
}

test("a model guest that nobody sends anything to moves as well", async () => {
  const { report, exitCode, about } = await migrate("--traffic none");
  assert.equal(exitCode, 0, about);
  assert.equal(report.load, null);
  assert.equal(report.frames.delivered, 0, about);
});

test("rounds that do not come down to the limit end in a switchover, and the report says so", async () => {
  const { exitCode, report, about } = await migrate("--strategy quiesce --downtime-limit 1 --rounds-max 2");
  assert.equal(exitCode, 0, about);
  assert.equal(report.converged, false);
  assert.equal(report.rounds.length, 2);
});
