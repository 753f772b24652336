// Many moves of a real Linux, one after another with different seeds: verdicts, downtime and outage, as medians.
//
//   bin/underway-node bench/moves.ts [--runs 10] [--strategy rings-first] [--memory-mib 128] [--seed 1] [--json]
//
// Exits with 1 unless every run came to the same verdict, and with that verdict's exit code otherwise.
import { parseArgs } from "node:util";
import type { MigrateOptions, MigrationReport } from "../src/host/report.ts";
import { runMigration } from "../src/host/run-migration.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    strategy: { type: "string", default: "rings-first" },
    "memory-mib": { type: "string", default: "128" },
    seed: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});

const median = (numbers: readonly number[]): number => {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
};
const ms = (value: number | null): string => (value === null ? "none" : value.toFixed(1));

function optionsFor(seed: number): MigrateOptions {
  return {
    machine: "linux",
    strategy: values.strategy,
    memoryBytes: Number(values["memory-mib"]) << 20,
    traffic: "download",
    downtimeLimitMs: 100,
    seed,
    assets: {},
    roundsMax: 20,
    ifNotConverging: "switch-over",
  };
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const reports: MigrationReport[] = [];
for (let run = 0; run < Number(values.runs); run++) {
  const seed = Number(values.seed) + run;
  const never = new AbortController().signal;
  const report = await runMigration(optionsFor(seed), { onEvent: () => {}, onStage: () => {}, signal: never });
  reports.push(report);
  const { verdict, downtimeMs, outageMs, frames, guest, hazards } = report;
  const sums = guest.sha256Actual === guest.sha256Expected ? "sum right" : "sum wrong";
  const found = Object.entries(hazards).map(([name, count]) => `${name} ${count}`);
  const unanswered = guest.noticed.filter((sentence) => sentence.includes("never answered"));
  say(
    `seed ${seed}: ${verdict}, dark ${ms(downtimeMs.total)} ms, outage ${ms(outageMs)} ms, ${sums}, ` +
      `${frames.delivered} delivered ${frames.lost} lost ${frames.discarded} discarded ${[...found, ...unanswered].join(", ")}`,
  );
}

const partNames = Object.keys(reports[0]?.downtimeMs ?? {}) as (keyof MigrationReport["downtimeMs"])[];
const summary = {
  strategy: values.strategy,
  runs: reports.length,
  consistent: reports.filter((report) => report.verdict === "consistent").length,
  downtimeMsMedian: Object.fromEntries(
    partNames.map((name) => [name, median(reports.map((report) => report.downtimeMs[name]))]),
  ),
  outageMsMedian: median(reports.flatMap(({ outageMs }) => outageMs ?? [])),
  bytesSentMedian: median(reports.map((report) => report.bytesSent)),
};

if (values.json) {
  process.stdout.write(`${JSON.stringify(summary, undefined, 2)}\n`);
} else {
  const { strategy, runs, consistent, downtimeMsMedian, outageMsMedian } = summary;
  process.stdout.write(`${strategy}: ${consistent} of ${runs} consistent\n`);
  process.stdout.write(`outage, median: ${ms(outageMsMedian)} ms\ndowntime, median of each part:\n`);
  for (const [part, value] of Object.entries(downtimeMsMedian)) {
    process.stdout.write(`  ${part.padEnd(12)} ${ms(value).padStart(7)} ms\n`);
  }
}
if (summary.consistent === summary.runs) process.exitCode = 0;
else process.exitCode = summary.consistent === 0 ? 2 : 1;
