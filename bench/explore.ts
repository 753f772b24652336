// Exhaustive search, side by side with Spin and rumur on the common model: states, speed, time to the verdict, memory.
//
//   bin/underway-node bench/explore.ts [--runs 3] [--only WORD] [--json]
//
// The model: three queues of three packets, each queue's ring one page, each buffer one page, a device that writes buffer
// and descriptor of one packet after the other, and copies of all pages, rings before buffers, in any order inside a
// class. The others are given it in their own languages (bench/explore/common.pml, common.m). Underway runs the shipping
// VFs, trackers and switchover, and at every end carries the schedule out once more for real and looks at the image's
// bytes. All three know the same 12,175,071 states. Every search is a process of its own with one thread that searches;
// start, end and, with Underway, what the runtime's other threads do are part of its time. Times of compiling (the others'
// C, of which the table has nothing) are left out. Spin is compiled with -DSAFETY, and with its partial order reduction
// unless -DNOREDUCE says otherwise (which finds nothing to reduce: what a device writes is what a copy reads); of rumur
// a queue is a range of numbers, or a scalarset, whose symmetry it uses. Since others may use the machine, too, states per second are those of
// processor time, user and system; all figures are medians of the runs, which take turns.
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, cpus, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { Checkers, isSafeIn, statesIn } from "./explore/checkers.ts";
import { measure, type Measured } from "./explore/measure.ts";
import type { OrderName } from "./explore/orders.ts";
import type { OurResult, OurTask } from "./explore/ours.ts";

interface Contender {
  readonly tool: "spin" | "rumur" | "underway";
  readonly options: string;
  readonly order: OrderName;
  readonly reduces: boolean;
  readonly run: (directory: string) => Promise<Measured>;
}

interface Row extends Omit<Contender, "run"> {
  readonly states: number;
  readonly verdict: "safe" | "unsafe";
  readonly statesPerSecond: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly bytesPerState: number;
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >>> 1] ?? 0;

function underway(options: string, task: OurTask): Contender {
  const script = path.join(import.meta.dirname, "explore/ours.ts");
  return {
    tool: "underway",
    options,
    order: task.order,
    reduces: task.symmetry || task.partialOrder,
    run: async (directory) => {
      const measured = await measure(process.execPath, [script, JSON.stringify(task)], directory);
      if (measured.status !== 0) throw new Error(`Underway's search failed: ${measured.output}`);
      return measured;
    },
  };
}

/** Each made when its turn comes: a verifier that is not wanted is not compiled. */
function contenders(checkers: Checkers): Contender[] {
  const spin = (order: OrderName, options: string, reduces = false): Contender => ({
    tool: "spin",
    options,
    order,
    reduces,
    run: async (directory) => {
      const { program, args } = await checkers.spin(`spin ${order} ${options}`, order, options.split(" "));
      return measure(program, args, directory);
    },
  });
  const rumur = (order: OrderName, queueType: "0..2" | "scalarset(3)"): Contender => ({
    tool: "rumur",
    options: queueType,
    order,
    reduces: queueType !== "0..2",
    run: async (directory) => {
      const { program, args } = await checkers.rumur(`rumur ${order} ${queueType}`, order, queueType);
      return measure(program, args, directory);
    },
  });
  const none = { symmetry: false, partialOrder: false };
  const both = { symmetry: true, partialOrder: true };
  const order = "rings first";
  const wrong = "buffers first";
  return [
    spin(order, "-DNOREDUCE"),
    rumur(order, "0..2"),
    underway("none", { order, ...none }),
    spin(order, "-DSAFETY", true),
    rumur(order, "scalarset(3)"),
    underway("symmetry", { order, ...none, symmetry: true }),
    underway("partial order", { order, ...none, partialOrder: true }),
    underway("both", { order, ...both }),
    spin(wrong, "-DNOREDUCE"),
    spin(wrong, "-DNOREDUCE -DBFS"),
    rumur(wrong, "0..2"),
    underway("none", { order: wrong, ...none }),
    rumur(wrong, "scalarset(3)"),
    underway("both", { order: wrong, ...both }),
  ];
}

function rowOf(contender: Contender, runs: readonly Measured[]): Row {
  const { tool, options, order, reduces } = contender;
  const outputs = runs.map(({ output }) => output.trim());
  const ours = tool === "underway" ? outputs.map(resultIn) : [];
  const states = median(ours.length > 0 ? ours.map((one) => one.states) : outputs.map(statesIn));
  if (!Number.isFinite(states)) throw new Error(`${tool} ${options} failed: ${outputs.join()}`);
  const isSafe = ours.length > 0 ? ours.every((one) => one.isSafe) : outputs.every(isSafeIn);
  const cpuSeconds = median(runs.map((one) => one.cpuSeconds));
  const residentBytes = median(runs.map((one) => one.residentBytes));
  return {
    tool,
    options,
    order,
    reduces,
    states,
    verdict: isSafe ? "safe" : "unsafe",
    statesPerSecond: Math.round(states / cpuSeconds),
    seconds: median(runs.map((one) => one.seconds)),
    cpuSeconds,
    residentBytes,
    bytesPerState: residentBytes / states,
  };
}

function resultIn(output: string): OurResult {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- printed by ours.ts
  return JSON.parse(output) as OurResult;
}

function print(rows: readonly Row[]): void {
  for (const order of ["rings first", "buffers first"] as const) {
    console.log(`\n${order}`);
    console.log(
      "tool      reductions and options      states  verdict    k states/s  cpu seconds  seconds     MB  bytes/state",
    );
    for (const row of rows.filter((one) => one.order === order)) {
      const name = `${row.tool.padEnd(9)} ${row.options.padEnd(22)}`;
      const numbers = [
        row.states.toLocaleString("en").padStart(11),
        row.verdict.padEnd(7).padStart(9),
        (row.statesPerSecond / 1000).toFixed(0).padStart(13),
        row.cpuSeconds.toFixed(2).padStart(12),
        row.seconds.toFixed(2).padStart(8),
        (row.residentBytes / 1e6).toFixed(0).padStart(6),
        row.bytesPerState.toFixed(1).padStart(12),
      ];
      console.log(name + numbers.join(" "));
    }
  }
  for (const sentence of verdicts(rows)) console.log(`\n${sentence}`);
}

/** How Underway stands to the others, where all were run. */
function verdicts(rows: readonly Row[]): string[] {
  const safe = rows.filter(({ order }) => order === "rings first");
  const best = (isOurs: boolean, reduces: readonly boolean[], figure: (row: Row) => number): number =>
    Math.min(
      ...safe.filter((row) => (row.tool === "underway") === isOurs && reduces.includes(row.reduces)).map(figure),
    );
  const rate = best(false, [false], ({ statesPerSecond }) => -statesPerSecond);
  const ourRate = best(true, [false], ({ statesPerSecond }) => -statesPerSecond);
  const cpu = best(false, [false, true], ({ cpuSeconds }) => cpuSeconds);
  const ourCpu = best(true, [false, true], ({ cpuSeconds }) => cpuSeconds);
  const sentences = [
    `Without reductions Underway sees ${(ourRate / rate).toFixed(1)} times as many states per second as the faster of the others.`,
    `With reductions its verdict comes ${(cpu / ourCpu).toFixed(1)} times sooner than the soonest of the others, with theirs.`,
  ];
  return [rate, ourRate, cpu, ourCpu].every(Number.isFinite) ? sentences : [];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      json: { type: "boolean", default: false },
    },
  });
  const directory = await mkdtemp(path.join(tmpdir(), "underway-bench-"));
  try {
    const chosen = contenders(await Checkers.obtain(directory)).filter(({ tool, options, order }) =>
      `${tool} ${options} ${order}`.includes(values.only),
    );
    const measured = chosen.map((): Measured[] => []);
    for (let run = 0; run < Number(values.runs); run++) {
      for (const [index, contender] of chosen.entries()) measured[index]?.push(await contender.run(directory));
    }
    const rows = chosen.map((contender, index) => rowOf(contender, measured[index] ?? []));
    const machine = { cpu: cpus()[0]?.model, cpus: availableParallelism(), node: process.version };
    if (values.json) console.log(JSON.stringify({ ...machine, rows }));
    else print(rows);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

await main();
