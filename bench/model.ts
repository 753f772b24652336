// The traffic machine: how fast VF and model driver are together on one thread, and moves under 1, 5 and 10 Gbit/s.
//
//   bin/underway-node bench/model.ts [--runs 300] [--moves 3] [--memory-mib 128] [--strategy rings-first] [--json]
//
// The first part has no migration in it and no sender: frames lie ready, 4096 different ones, and come in bursts as long
// as NAPI's budget. Each burst is timed in four parts: the card takes the frames in, its DMA writes them, the driver takes
// them (with the registers it writes), the application checks every byte. Runs are short, so that on a machine that others
// use, too, most have their core to themselves; the table shows medians. The application is not the card's nor the
// driver's, and its time is left out of the rate. A thread for each row, since a compiler that has seen one makes slower
// code for the next.
//
// The second part moves a guest under load through the program's own processes, threads and TCP. Sender, both guests and
// both engines share this machine's cores, so at high rates the sender falls behind what is asked; the rate that it
// reached is in the table. The table shows medians of the moves, and each verdict.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { FrameSize } from "../src/host/model/network-load.ts";
import type { MigrateOptions, MigrationReport } from "../src/host/report.ts";
import { runMigration } from "../src/host/run-migration.ts";
import { peerMac } from "../src/machine/model/application.ts";
import { composeFrame } from "../src/machine/model/frames.ts";
import { guestMac, ModelHost } from "../src/machine/model/host.ts";

const FRAMES = 4096;
const BURST = 64;
const RUN_MS = 1;
const WARM_UP_MS = 1500;
const FCS_AND_GAP_BYTES = 24;
const LINE_BITS_PER_SECOND = 1e10;
const SEED = 1;

const parts = ["taken in", "DMA", "driver", "application"] as const;
type Part = (typeof parts)[number];

interface Task {
  readonly frameBytes: number;
  readonly runs: number;
}

interface Together extends Task {
  readonly framesPerSecond: number;
  readonly framesPerSecondBest: number;
  /** Median rate over that of a full 10 Gbit/s. */
  readonly lineRateShare: number;
  readonly nanosecondsPerFrame: Readonly<Record<Part, number>>;
}

const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[list.length >>> 1] ?? Number.NaN;
const lineRate = (frameBytes: number): number => LINE_BITS_PER_SECOND / (8 * (frameBytes + FCS_AND_GAP_BYTES));

/** A guest with ixgbevf's rings, and the frames for it. */
class Bench {
  readonly host: ModelHost;
  readonly spentMs = { "taken in": 0, DMA: 0, driver: 0, application: 0 };
  readonly #frames: readonly Uint8Array[];
  #next = 0;

  constructor(frameBytes: number) {
    const descriptors = { receiveDescriptors: 512, transmitDescriptors: 512, queuePairs: 2 };
    this.host = new ModelHost({ memoryBytes: 64 << 20, socketFrames: 256, seed: SEED, ...descriptors });
    this.#frames = Array.from({ length: FRAMES }, (_, sequence) => {
      const frame = new Uint8Array(frameBytes);
      const stations = { destination: guestMac, source: peerMac };
      composeFrame(frame, stations, { flow: sequence % 4, sequence }, SEED);
      return frame;
    });
  }

  burst(): void {
    const { machine, vf } = this.host;
    const spent = this.spentMs;
    let sinceMs = performance.now();
    const lap = (part: Part): void => {
      const nowMs = performance.now();
      spent[part] += nowMs - sinceMs;
      sinceMs = nowMs;
    };
    for (let i = 0; i < BURST; i++) vf.receiveFrame(this.#frames[this.#next++ % FRAMES] as Uint8Array);
    lap("taken in");
    for (;;) {
      const isDeviceBusy = vf.hasWork;
      vf.run();
      lap("DMA");
      let isDriverBusy = false;
      while (machine.step("driver")) isDriverBusy = true;
      lap("driver");
      while (machine.readSocket());
      lap("application");
      if (!isDeviceBusy && !isDriverBusy) return;
    }
  }

  /** Nothing was lost, or the rate would be that of losing. */
  check(bursts: number): void {
    const { counters, panic } = this.host.machine;
    const read = counters.verified;
    if (read === bursts * BURST && counters.corrupt === 0 && panic === undefined) return;
    throw new Error(`${bursts * BURST} frames came, ${read} were read, ${counters.corrupt} corrupt, ${panic ?? ""}`);
  }
}

async function measure({ frameBytes, runs }: Task): Promise<Together> {
  const bench = new Bench(frameBytes);
  await bench.host.boot();
  let bursts = 0;
  const run = (ms: number): Record<Part, number> => {
    const before = { ...bench.spentMs };
    const first = bursts;
    for (const untilMs = performance.now() + ms; performance.now() < untilMs; bursts++) bench.burst();
    const perFrame = (part: Part): number => ((bench.spentMs[part] - before[part]) * 1e6) / ((bursts - first) * BURST);
    return Object.fromEntries(parts.map((part) => [part, perFrame(part)])) as Record<Part, number>;
  };
  run(WARM_UP_MS);
  const found = Array.from({ length: runs }, () => run(RUN_MS));
  bench.check(bursts);
  const rates = found.map((ns) => 1e9 / (ns["taken in"] + ns.DMA + ns.driver));
  const nanosecondsPerFrame = Object.fromEntries(
    parts.map((part) => [part, median(found.map((ns) => ns[part]))]),
  ) as Together["nanosecondsPerFrame"];
  const framesPerSecond = median(rates);
  return {
    frameBytes,
    runs,
    framesPerSecond,
    framesPerSecondBest: Math.max(...rates),
    lineRateShare: framesPerSecond / lineRate(frameBytes),
    nanosecondsPerFrame,
  };
}

function onThread(task: Task): Promise<Together> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: task });
    worker.once("message", resolve);
    worker.once("error", reject);
  });
}

interface Move {
  readonly load: NonNullable<MigrateOptions["load"]>;
  readonly reports: readonly MigrationReport[];
}

async function moves(
  load: Move["load"],
  options: { runs: number; memoryMib: number; strategy: string },
): Promise<Move> {
  const reports: MigrationReport[] = [];
  for (let seed = 1; seed <= options.runs; seed++) {
    const asked: MigrateOptions = {
      machine: "model",
      strategy: options.strategy,
      memoryBytes: options.memoryMib << 20,
      traffic: "frames",
      load,
      downtimeLimitMs: 100,
      seed,
      assets: {},
      roundsMax: 20,
      ifNotConverging: "switch-over",
    };
    const { signal } = new AbortController();
    reports.push(await runMigration(asked, { onEvent: () => {}, onStage: () => {}, signal }));
  }
  return { load, reports };
}

const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

function rowOfTogether(row: Together): Record<string, string> {
  const ns = row.nanosecondsPerFrame;
  return {
    bytes: String(row.frameBytes + 4),
    "M frames/s": (row.framesPerSecond / 1e6).toFixed(2),
    best: (row.framesPerSecondBest / 1e6).toFixed(2),
    "of 10 Gbit/s": `${Math.round(row.lineRateShare * 100)} %`,
    ...Object.fromEntries(parts.map((part) => [`${part}, ns`, ns[part].toFixed(0)])),
  };
}

function rowOfMoves({ load, reports }: Move): Record<string, string> {
  const middle = (of: (report: MigrationReport) => number): number => median(reports.map(of));
  const converged = reports.filter((report) => report.converged).length;
  return {
    asked: `${load.bitsPerSecond / 1e9} Gbit/s`,
    bytes: load.frameBytes,
    reached: `${(middle((report) => report.load?.reachedBitsPerSecond ?? 0) / 1e9).toFixed(2)} Gbit/s`,
    rounds: whole(middle((report) => report.rounds.length)),
    converged: `${converged} of ${reports.length}`,
    "dark, ms": middle((report) => report.downtimeMs.total).toFixed(1),
    "outage, ms": middle((report) => report.outageMs ?? Number.NaN).toFixed(1),
    delivered: whole(middle((report) => report.frames.delivered)),
    lost: whole(middle((report) => report.frames.lost)),
    discarded: whole(middle((report) => report.frames.discarded)),
    verdicts: [...new Set(reports.map((report) => report.verdict))].join(", "),
  };
}

/** Rows under their titles, right-aligned. */
function tableOf(rows: readonly Readonly<Record<string, string>>[]): string {
  const titles = Object.keys(rows[0] ?? {});
  const widths = titles.map((title) => Math.max(title.length, ...rows.map((row) => row[title]?.length ?? 0)));
  const line = (cells: readonly string[]): string => cells.map((cell, i) => cell.padStart(widths[i] ?? 0)).join("  ");
  return [line(titles), ...rows.map((row) => line(titles.map((title) => row[title] ?? "")))].join("\n");
}

/** The largest part first. */
function whereTimeGoes({ frameBytes, nanosecondsPerFrame: ns }: Together): string {
  const sum = ns["taken in"] + ns.DMA + ns.driver;
  const shares = (["taken in", "DMA", "driver"] as const)
    .toSorted((a, b) => ns[b] - ns[a])
    .map((part) => `${part} ${Math.round((ns[part] / sum) * 100)} %`);
  return `${frameBytes + 4} bytes: ${sum.toFixed(0)} ns a frame, where a full link leaves ${(1e9 / lineRate(frameBytes)).toFixed(0)}: ${shares.join(", ")}.`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "300" },
      moves: { type: "string", default: "3" },
      "memory-mib": { type: "string", default: "128" },
      strategy: { type: "string", default: "rings-first" },
      json: { type: "boolean", default: false },
    },
  });
  const together: Together[] = [];
  for (const frameBytes of [60, 1514]) together.push(await onThread({ frameBytes, runs: Number(values.runs) }));
  const how = { runs: Number(values.moves), memoryMib: Number(values["memory-mib"]), strategy: values.strategy };
  const moved: Move[] = [];
  for (const frameBytes of ["1518", "64"] satisfies FrameSize[]) {
    for (const gbit of [1, 5, 10]) moved.push(await moves({ bitsPerSecond: gbit * 1e9, frameBytes }, how));
  }
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ cpu: cpus()[0]?.model, together, moved }, undefined, 2)}\n`);
    return;
  }
  process.stdout.write(
    `${cpus()[0]?.model ?? "a processor"}, ${availableParallelism()} of it\n\n` +
      `VF and driver on one thread, receiving, no migration\n${tableOf(together.map(rowOfTogether))}\n` +
      `${together.map(whereTimeGoes).join("\n")}\n\n` +
      `Moves of ${how.memoryMib} MiB with ${how.strategy}, medians of ${how.runs}\n${tableOf(moved.map(rowOfMoves))}\n`,
  );
}

if (isMainThread) {
  await main();
} else {
  const found = await measure(workerData as Task);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is the browser's, not a thread's
  parentPort?.postMessage(found);
}
