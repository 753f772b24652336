// A long fuzz from the command line: `[--inputs 100000] [--seed N] [--target NAME] [--first INPUT]`.
//
// The work is done in a worker thread and the main thread watches it, so that an endless loop is noticed as well.
import { parseArgs } from "node:util";
import { Worker, isMainThread, workerData } from "node:worker_threads";
import { fuzzConsumer, type FuzzConsumer, type MemoryBounds } from "./fuzz-consumer.ts";
import type { Mutation } from "./mutate.ts";

export interface FuzzTarget {
  readonly make: () => FuzzConsumer;
  readonly streams: readonly Uint8Array[];
  readonly mutate?: Mutation;
  /** Share of a run's inputs. */
  readonly share: number;
}

export interface Campaign<Name extends string> {
  /** The script that calls `runCampaign`, to be run in the worker as well. */
  readonly script: string;
  readonly targetNames: readonly Name[];
  /** The targets with valid streams that depend on the seed. */
  readonly targets: (seed: number) => Promise<Record<Name, FuzzTarget>>;
  readonly heldBytesMax?: (pushedBytes: number) => number;
  readonly memory?: MemoryBounds;
}

interface Work {
  readonly inputs: number;
  readonly seed: number;
  readonly targets: readonly string[];
  readonly firstInput: number;
  /** [0] is the input that is being fed, for the watchdog. */
  readonly progress: Int32Array;
}

const stallMs = 20_000;

export async function runCampaign<Name extends string>(campaign: Campaign<Name>): Promise<void> {
  await (isMainThread ? supervise(campaign) : work(campaign, workerData as Work));
}

async function work<Name extends string>(campaign: Campaign<Name>, given: Work): Promise<void> {
  const { inputs, seed, targets, firstInput, progress } = given;
  const all = await campaign.targets(seed);
  for (const name of campaign.targetNames.filter((known) => targets.includes(known))) {
    const target = all[name];
    const startMs = performance.now();
    const report = await fuzzConsumer(target.make, target.streams, {
      seed,
      firstInput,
      inputs: Math.ceil(inputs * (targets.length === 1 ? 1 : target.share)),
      ...(target.mutate === undefined ? {} : { mutate: target.mutate }),
      ...(campaign.heldBytesMax === undefined ? {} : { heldBytesMax: campaign.heldBytesMax }),
      ...(campaign.memory === undefined ? {} : { memory: campaign.memory }),
      onInput: (input) => void Atomics.store(progress, 0, input),
    }).catch((thrown: unknown) => {
      console.error(
        `${name} broke a promise; play it again with --target ${name} --seed ${seed} --inputs 1 --first INPUT`,
      );
      throw thrown;
    });
    const seconds = (performance.now() - startMs) / 1000;
    const rate = Math.round(report.inputs / seconds);
    const { memory } = report;
    const { bufferBytes, heapBytes } = memory?.takenMax ?? {};
    const taken =
      memory && `at most ${bufferBytes} bytes of buffers and ${heapBytes} of heap, ${memory.keptBytes} kept`;
    console.log(
      `${name}: ${report.inputs} inputs, ${(report.bytes / 1e6).toFixed(0)} MB, ${rate} inputs/s, ` +
        (taken ?? `at most ${report.heldBytesMax} bytes held`),
    );
    const tally = [...report.outcomes].toSorted((a, b) => b[1] - a[1]);
    for (const [outcome, count] of tally) console.log(`  ${String(count).padStart(8)}  ${outcome}`);
  }
}

function supervise<Name extends string>({ script, targetNames }: Campaign<Name>): void {
  const { values } = parseArgs({
    options: {
      inputs: { type: "string", default: "100000" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      target: { type: "string" },
      first: { type: "string", default: "0" },
    },
  });
  const targets = targetNames.filter((name) => values.target === undefined || values.target === name);
  if (targets.length === 0) {
    console.error(`no target is called ${values.target}; there are ${targetNames.join(", ")}`);
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
  watch(progress, new Worker(new URL(script), { workerData: task }));
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
  // An error that nobody waited for ends the worker while some input is being fed, or just after.
  worker.once("error", (error) => {
    console.error(`input ${Atomics.load(progress, 0)} of the last target:`, error);
  });
  worker.once("exit", (code) => {
    clearInterval(timer);
    process.exitCode = code;
  });
}
