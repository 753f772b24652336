// The main job on a real Linux: each strategy moves the guest while it downloads, through the program itself.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { test } from "node:test";
import type { MigrationReport } from "../src/host/report.ts";

const program = path.join(import.meta.dirname, "..", "bin", "underway");
const TIMEOUT_MS = 180_000;

function migrate(strategy: string, seed: number): Promise<{ exitCode: number; report: MigrationReport }> {
  const words = ["migrate", "--strategy", strategy, "--seed", String(seed), "--json"];
  return new Promise((resolve, reject) => {
    execFile(program, words, { timeout: TIMEOUT_MS, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : Number(error.code);
      try {
        resolve({ exitCode, report: JSON.parse(stdout) as MigrationReport });
      } catch (cause) {
        reject(new Error(`${strategy}, seed ${seed}: exit ${exitCode}\n${stdout}\n${stderr}`, { cause }));
      }
    });
  });
}

const unanswered = /pings sent after the move were never answered/;

for (const strategy of ["rings-first", "quiesce", "device-log", "reinit"]) {
  test(`with ${strategy} a real Linux moves while it downloads, and no byte is lost`, async () => {
    const { exitCode, report } = await migrate(strategy, 7);
    const about = JSON.stringify({ ...report, corruptions: report.corruptions.slice(0, 5) });
    assert.equal(report.verdict, "consistent", about);
    assert.equal(exitCode, 0, about);
    assert.equal(report.strategy, strategy);
    assert.equal(report.methods.cpuDirtyLog, "wasm");
    assert.match(report.guest.sha256Actual ?? "none", /^[0-9a-f]{64}$/);
    assert.equal(report.guest.sha256Actual, report.guest.sha256Expected);
    assert.equal(report.corruptions.length, 0);
    assert.ok(report.downtimeMs.total > 0 && report.rounds.length >= 2, about);
    // A driver that starts over has no link for a moment; every other strategy has to answer from the first ping on.
    if (strategy !== "reinit") assert.ok(!report.guest.noticed.some((sentence) => unanswered.test(sentence)), about);
  });
}

test("with blind the same guest arrives corrupt, and the report names the stale frames", async () => {
  const { exitCode, report } = await migrate("blind", 7);
  assert.equal(report.verdict, "corrupt");
  assert.equal(exitCode, 2);
  assert.ok(report.corruptions.length > 0);
  assert.ok(report.corruptionTotals.bytes > 0 && report.corruptionTotals.pages > 0);
  assert.ok(report.corruptions.some(({ frameSummary }) => frameSummary !== undefined));
});
