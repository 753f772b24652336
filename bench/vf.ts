// The VF alone: frames per second in and out through rings, DMA port and write-backs, on one core.
//
//   bin/underway-node bench/vf.ts [--rounds 3] [--runs 400] [--milliseconds 1] [--json]
//
// Frames are TCP over IPv4 with right checksums, which receive verifies in full. The driver is as little as one can do
// and keep the rings going: it looks at each descriptor once and posts it again; tails move every 16 frames. Its time is
// part of the rate and printed beside it. Each row has threads of its own, one at a time, since a compiler that has seen
// one card makes slower code for the next; every round measures every row, so that all see the same weather. A run is
// shorter than the time a scheduler gives, so that on a machine that others use, too, most runs have their core to
// themselves. The table shows the median of all runs and the best.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { datapath, wholeVf, type Setup } from "./vf-cards.ts";
import { BURST, lineRate, receiving, transmitting, type Work } from "./vf-work.ts";

const cards = { datapath, "whole VF": wholeVf } as const;

interface Task {
  readonly direction: "receive" | "transmit";
  readonly frameBytes: number;
  readonly card: keyof typeof cards;
  readonly setup: Setup;
  readonly runs: number;
  readonly runMs: number;
}

/** What a thread found: one number a run. */
interface Found {
  readonly rates: readonly number[];
  readonly driverNs: readonly number[];
}

interface Row extends Omit<Task, "runs" | "runMs"> {
  readonly framesPerSecond: number;
  readonly framesPerSecondBest: number;
  /** Median rate over 10 GbE line rate. */
  readonly lineRateShare: number;
  readonly nanosecondsPerFrame: number;
  readonly driverNanosecondsPerFrame: number;
}

/** Long enough for the compiler to be done. */
const WARM_UP_MS = 1000;

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >>> 1] ?? 0;

function measure(work: Work, { runs, runMs }: Task): Found {
  const batch = 10 * BURST;
  for (const untilMs = performance.now() + WARM_UP_MS; performance.now() < untilMs;) work(batch);
  const rates: number[] = [];
  const driverNs: number[] = [];
  for (let run = 0; run < runs; run++) {
    let frames = 0;
    let driverMs = 0;
    let elapsedMs = 0;
    for (const startMs = performance.now(); elapsedMs < runMs; elapsedMs = performance.now() - startMs) {
      driverMs += work(batch);
      frames += batch;
    }
    rates.push((frames / elapsedMs) * 1000);
    driverNs.push((driverMs / frames) * 1e6);
  }
  return { rates, driverNs };
}

function perform(task: Task): Found {
  const traffic = task.direction === "receive" ? receiving : transmitting;
  return measure(traffic(cards[task.card](task.setup), task.frameBytes), task);
}

function performApart(task: Task): Promise<Found> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: task });
    worker.once("message", ({ found }: { found: Found }) => resolve(found));
    worker.once("error", reject);
  });
}

function rowOf({ direction, frameBytes, card, setup }: Task, founds: readonly Found[]): Row {
  const rates = founds.flatMap((found) => found.rates);
  const framesPerSecond = median(rates);
  return {
    direction,
    frameBytes,
    card,
    setup,
    framesPerSecond: Math.round(framesPerSecond),
    framesPerSecondBest: Math.round(Math.max(...rates)),
    lineRateShare: framesPerSecond / lineRate(frameBytes),
    nanosecondsPerFrame: 1e9 / framesPerSecond,
    driverNanosecondsPerFrame: median(founds.flatMap((found) => found.driverNs)),
  };
}

function describe({ card, setup }: Pick<Row, "card" | "setup">): string {
  const extras = [
    setup.watched === true ? "DMA log and tracker" : "",
    setup.prefetchDescriptors === undefined ? "" : `${setup.prefetchDescriptors} prefetched`,
  ];
  return [card, ...extras.filter((extra) => extra !== "")].join(", ");
}

function print(rows: readonly Row[]): void {
  console.log(
    "direction  bytes  what                                         M frames/s   best  of 10 GbE  ns/frame  driver ns",
  );
  for (const row of rows) {
    const rate = (row.framesPerSecond / 1e6).toFixed(2).padStart(10);
    const best = (row.framesPerSecondBest / 1e6).toFixed(2).padStart(6);
    const share = `${(row.lineRateShare * 100).toFixed(0)} %`.padStart(10);
    const ns = row.nanosecondsPerFrame.toFixed(0).padStart(9);
    const driver = row.driverNanosecondsPerFrame.toFixed(0).padStart(10);
    const name = `${row.direction.padEnd(9)}  ${String(row.frameBytes).padStart(5)}  ${describe(row).padEnd(44)}`;
    console.log(`${name} ${rate} ${best} ${share} ${ns} ${driver}`);
  }
  for (const direction of ["receive", "transmit"] as const) console.log(`\n${verdict(rows, direction)}`);
}

/** How far the whole VF is from line rate at 64 bytes, and which part of it takes how long: the rows' differences. */
function verdict(rows: readonly Row[], direction: Row["direction"]): string {
  // Of the best runs: what disturbs a run is more than what tells these rows apart.
  const bestNs = (card: Row["card"], watched: boolean): number => {
    const isMeant = (row: Row): boolean =>
      row.card === card && (row.setup.watched === true) === watched && row.setup.prefetchDescriptors === undefined;
    const row = rows.find((one) => one.direction === direction && one.frameBytes === 64 && isMeant(one));
    return 1e9 / (row?.framesPerSecondBest ?? 0);
  };
  const [bare, watched, whole] = [bestNs("datapath", false), bestNs("datapath", true), bestNs("whole VF", true)];
  const lineNs = 1e9 / lineRate(64);
  return (
    `At its best the whole VF ${direction}s a 64-byte frame in ${whole.toFixed(0)} ns; line rate leaves ` +
    `${lineNs.toFixed(0)}, so it takes ${(whole / lineNs).toFixed(1)} times as long: ${bare.toFixed(0)} ns for the datapath ` +
    `with its driver, ${(watched - bare).toFixed(0)} for DMA log and tracker, ${(whole - watched).toFixed(0)} for turns ` +
    `of the units, PF filter and interrupts.`
  );
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      runs: { type: "string", default: "400" },
      milliseconds: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
    },
  });
  const runs = Number(values.runs);
  const runMs = Number(values.milliseconds);
  const measured: { card: Task["card"]; setup: Setup; directions: Task["direction"][] }[] = [
    { card: "datapath", setup: {}, directions: ["receive", "transmit"] },
    { card: "datapath", setup: { watched: true }, directions: ["receive", "transmit"] },
    { card: "whole VF", setup: { watched: true }, directions: ["receive", "transmit"] },
    { card: "whole VF", setup: { watched: true, prefetchDescriptors: 0 }, directions: ["receive"] },
  ];
  const tasks = measured.flatMap(({ card, setup, directions }) =>
    directions.flatMap((direction) =>
      [64, 1518].map((frameBytes): Task => ({ direction, frameBytes, card, setup, runs, runMs })),
    ),
  );
  const founds = tasks.map((): Found[] => []);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [index, task] of tasks.entries()) founds[index]?.push(await performApart(task));
  }
  const rows = tasks.map((task, index) => rowOf(task, founds[index] ?? []));
  if (values.json)
    console.log(JSON.stringify({ cpu: cpus()[0]?.model, cpus: availableParallelism(), node: process.version, rows }));
  else print(rows);
}

if (isMainThread) await main();
else {
  const found = perform(workerData as Task);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is the browser's, not a thread's
  parentPort?.postMessage({ found });
}
