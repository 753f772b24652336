// Fuzzes the wire: `node test/fuzz/wire.ts [--inputs 100000] [--seed N] [--target NAME] [--first INPUT]`.
//
// The work is done in a worker thread and the main thread watches it, so that an endless loop is noticed as well.
import { parseArgs } from "node:util";
import { Worker, isMainThread, workerData } from "node:worker_threads";
import { fuzzConsumer } from "./fuzz-consumer.ts";
import { wireHeldBytesMax, wireTargetNames, wireTargets, type WireTargetName } from "./wire-consumers.ts";

interface Work {
  readonly inputs: number;
  readonly seed: number;
  readonly targets: readonly WireTargetName[];
  readonly firstInput: number;
  /** [0] is the input that is being fed, for the watchdog. */
  readonly progress: Int32Array;
}

const stallMs = 20_000;

async function work({ inputs, seed, targets, firstInput, progress }: Work): Promise<void> {
  const all = await wireTargets(seed);
  for (const name of targets) {
    const target = all[name];
    const startMs = performance.now();
    const report = await fuzzConsumer(target.make, target.streams, {
      seed,
      firstInput,
      inputs: Math.ceil(inputs * (targets.length === 1 ? 1 : target.share)),
      heldBytesMax: wireHeldBytesMax,
      onInput: (input) => void Atomics.store(progress, 0, input),
    }).catch((thrown: unknown) => {
      console.error(
        `${name} broke a promise; play it again with --target ${name} --seed ${seed} --inputs 1 --first INPUT`,
      );
      throw thrown;
    });
    const seconds = (performance.now() - startMs) / 1000;
    const rate = Math.round(report.inputs / seconds);
    console.log(
      `${name}: ${report.inputs} inputs, ${(report.bytes / 1e6).toFixed(0)} MB, ${rate} inputs/s, ` +
        `at most ${report.heldBytesMax} bytes held`,
    );
    const tally = [...report.outcomes].toSorted((a, b) => b[1] - a[1]);
    for (const [outcome, count] of tally) console.log(`  ${String(count).padStart(8)}  ${outcome}`);
  }
}

function watch(progress: Int32Array, worker: Worker): void {
  let last = -1;
  const timer = setInterval(() => {
    const now = Atomics.load(progress, 0);
    if (now === last) {
      console.error(`no progress in ${stallMs} ms: input ${now} of the last target hangs`);
      process.exit(1);
    }
    last = now;
  }, stallMs);
  worker.once("exit", (code) => {
    clearInterval(timer);
    process.exitCode = code;
  });
}

function main(): void {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string", default: "100000" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      target: { type: "string" },
      first: { type: "string", default: "0" },
    },
  });
  const targets = wireTargetNames.filter((name) => values.target === undefined || values.target === name);
  if (targets.length === 0) {
    console.error(`no target is called ${values.target}; there are ${wireTargetNames.join(", ")}`);
    process.exit(64);
  }
  console.log(`seed ${values.seed}`);
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const task: Work = {
    inputs: Number(values.inputs),
    seed: Number(values.seed),
    targets,
    firstInput: Number(values.first),
    progress,
  };
  watch(progress, new Worker(new URL(import.meta.url), { workerData: task }));
}

await (isMainThread ? main() : work(workerData as Work));
