// Moves of a real Linux through the program itself, and what each of them has to show whatever machine it runs in.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import type { MigrationReport } from "../src/host/report.ts";

const program = path.join(import.meta.dirname, "..", "bin", "underway");
const TIMEOUT_MS = 180_000;

export interface Migrated {
  readonly exitCode: number;
  readonly report: MigrationReport;
}

/** Runs `underway migrate` with these words. */
export function migrate(...words: readonly string[]): Promise<Migrated> {
  const all = ["migrate", ...words, "--json"];
  return new Promise((resolve, reject) => {
    execFile(program, all, { timeout: TIMEOUT_MS, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : Number(error.code);
      try {
        resolve({ exitCode, report: JSON.parse(stdout) as MigrationReport });
      } catch (cause) {
        reject(new Error(`${all.join(" ")}: exit ${exitCode}\n${stdout}\n${stderr}`, { cause }));
      }
    });
  });
}

const unanswered = /pings sent after the move were never answered/;

/** The guest moved while it downloaded, and no byte was lost. */
export function assertConsistent({ exitCode, report }: Migrated, strategy: string): void {
  const about = JSON.stringify({ ...report, corruptions: report.corruptions.slice(0, 5) });
  assert.equal(report.verdict, "consistent", about);
  assert.equal(exitCode, 0, about);
  assert.equal(report.strategy, strategy);
  assert.match(report.guest.sha256Actual ?? "none", /^[0-9a-f]{64}$/);
  assert.equal(report.guest.sha256Actual, report.guest.sha256Expected);
  assert.equal(report.corruptions.length, 0);
  assert.ok(report.downtimeMs.total > 0 && report.rounds.length >= 2, about);
  // A driver that starts over has no link for a moment; every other strategy has to answer from the first ping on.
  if (strategy !== "reinit") assert.ok(!report.guest.noticed.some((sentence) => unanswered.test(sentence)), about);
}

/** The guest arrived with stale bytes, and the report names the frames that they belong to. */
export function assertCorrupt({ exitCode, report }: Migrated): void {
  assert.equal(report.verdict, "corrupt");
  assert.equal(exitCode, 2);
  assert.ok(report.corruptions.length > 0);
  assert.ok(report.corruptionTotals.bytes > 0 && report.corruptionTotals.pages > 0);
  assert.ok(report.corruptions.some(({ frameSummary }) => frameSummary !== undefined));
}
