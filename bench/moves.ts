// Many moves of a real Linux with different seeds: verdicts, downtime and outage as medians, strategies side by side.
//
//   bin/underway-node bench/moves.ts [--runs 10] [--strategy rings-first,quiesce] [--machine linux] [--iommu none]
//                                    [--memory-mib 128] [--seed 1] [--json]
//
// Each seed is run with each strategy in turn, so that what else the computer does meets all of them. Exits with 1 unless
// every run came to the same verdict, and with that verdict's exit code otherwise.
import { parseArgs } from "node:util";
import { migrateOptionsFrom, defaults } from "../src/cli/migrate-options.ts";
import type { MigrateOptions, MigrationReport } from "../src/host/report.ts";
import { runMigration } from "../src/host/run-migration.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "10" },
    strategy: { type: "string", default: "rings-first" },
    machine: { type: "string", default: "linux" },
    iommu: { type: "string" },
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

function optionsFor(strategy: string, seed: number): MigrateOptions {
  const { machine, iommu } = values;
  const words = { ...defaults, machine, strategy, memory: `${values["memory-mib"]}M`, seed: String(seed) };
  const { load: _, frameBytes: __, iommu: ___, ...asked } = words;
  return migrateOptionsFrom({ ...asked, ...(iommu === undefined ? {} : { iommu }) }, () => seed);
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const strategies = values.strategy.split(",");
const reports = new Map<string, MigrationReport[]>(strategies.map((strategy) => [strategy, []]));

function tell(strategy: string, seed: number, report: MigrationReport): void {
  const { verdict, downtimeMs, outageMs, frames, guest, hazards } = report;
  const sums = guest.sha256Actual === guest.sha256Expected ? "sum right" : "sum wrong";
  const found = Object.entries(hazards).map(([name, count]) => `${name} ${count}`);
  const unanswered = guest.noticed.filter((sentence) => sentence.includes("never answered"));
  say(
    `seed ${seed}, ${strategy}: ${verdict}, dark ${ms(downtimeMs.total)} ms, outage ${ms(outageMs)} ms, ${sums}, ` +
      `${frames.delivered} delivered ${frames.lost} lost ${frames.discarded} discarded ${[...found, ...unanswered].join(", ")}`,
  );
}

for (let run = 0; run < Number(values.runs); run++) {
  const seed = Number(values.seed) + run;
  for (const strategy of strategies) {
    const signal = new AbortController().signal;
    const report = await runMigration(optionsFor(strategy, seed), { onEvent: () => {}, onStage: () => {}, signal });
    reports.get(strategy)?.push(report);
    tell(strategy, seed, report);
  }
}

function summaryOf(strategy: string, of: readonly MigrationReport[]) {
  const partNames = Object.keys(of[0]?.downtimeMs ?? {}) as (keyof MigrationReport["downtimeMs"])[];
  const parts = partNames.map((name) => [name, median(of.map((report) => report.downtimeMs[name]))] as const);
  return {
    strategy,
    runs: of.length,
    consistent: of.filter((report) => report.verdict === "consistent").length,
    downtimeMsMedian: Object.fromEntries(parts),
    outageMsMedian: median(of.flatMap(({ outageMs }) => outageMs ?? [])),
    bytesSentMedian: median(of.map((report) => report.bytesSent)),
  };
}

const summaries = [...reports].map(([strategy, of]) => summaryOf(strategy, of));
if (values.json) process.stdout.write(`${JSON.stringify(summaries, undefined, 2)}\n`);
else {
  process.stdout.write("strategy              consistent   outage ms   dark ms   of it, medians\n");
  for (const { strategy, runs, consistent, downtimeMsMedian, outageMsMedian } of summaries) {
    const { total, ...rest } = downtimeMsMedian;
    const parts = Object.entries(rest).filter(([, value]) => value >= 0.05);
    process.stdout.write(
      `${strategy.padEnd(20)} ${`${consistent} of ${runs}`.padStart(11)} ${ms(outageMsMedian).padStart(11)} ` +
        `${ms(total ?? null).padStart(9)}   ${parts.map(([name, value]) => `${name} ${ms(value)}`).join(", ")}\n`,
    );
  }
}
const consistent = summaries.reduce((sum, one) => sum + one.consistent, 0);
const runs = summaries.reduce((sum, one) => sum + one.runs, 0);
if (consistent === runs) process.exitCode = 0;
else process.exitCode = consistent === 0 ? 2 : 1;
