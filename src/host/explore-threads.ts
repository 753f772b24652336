// Decides several strategies side by side, each in a thread of its own.
import { totalmem } from "node:os";
import { Worker } from "node:worker_threads";
import { OperationError } from "../base/errors.ts";
import type { Explored, Progress } from "../explore/explore.ts";
import type { Question } from "../explore/schedule.ts";
import type { Checkpoints, ExploreThreadMessage, ExploreThreadSetup, SearchWay } from "./explore-thread.ts";

export interface Decided {
  readonly question: Question;
  readonly explored: Explored;
  readonly seconds: number;
  /** Why it was not decided, if it was not: the bound on states, or memory. */
  readonly reason?: string;
}

export interface ExploreSinks {
  readonly onBegin: (question: Question) => void;
  readonly onProgress: (question: Question, progress: Progress) => void;
  readonly onDecided: (decided: Decided) => void;
  /** Aborting ends every thread. */
  readonly signal: AbortSignal;
}

/** What all heaps together may take of the machine's memory by default; the states themselves lie outside of them. */
const HEAP_SHARE = 0.5;

/**
 * Begins the questions in their order, so many at once, and resolves with the answers in that same order. Rejects with the
 * first failure, all threads being ended: OperationError `cancelled`, or what `explore` throws. That there was no room to go
 * on is no failure: the verdict is then `undecided`.
 */
export async function exploreInThreads(
  questions: readonly Question[],
  options: {
    readonly way: SearchWay;
    readonly threads: number;
    readonly heapMb?: number;
    readonly checkpoints?: Checkpoints;
  },
  sinks: ExploreSinks,
): Promise<Decided[]> {
  const { checkpoints } = options;
  const ending = new AbortController();
  const signal = AbortSignal.any([sinks.signal, ending.signal]);
  const answers = new Map<Question, Decided>();
  const left = [...questions];
  const heapMb = options.heapMb ?? Math.floor((totalmem() * HEAP_SHARE) / options.threads / 2 ** 20);
  const decideOneAfterTheOther = async (): Promise<void> => {
    for (let question = left.shift(); question !== undefined; question = left.shift()) {
      sinks.onBegin(question);
      const setup = { question, way: options.way, ...(checkpoints === undefined ? {} : { checkpoints }) };
      const decided = await decide(setup, { heapMb, signal, onProgress: sinks.onProgress });
      answers.set(question, decided);
      sinks.onDecided(decided);
    }
  };
  const turns = Array.from({ length: options.threads }, decideOneAfterTheOther);
  try {
    await Promise.all(turns);
  } finally {
    left.length = 0;
    ending.abort();
    await Promise.allSettled(turns);
  }
  return questions.flatMap((question) => answers.get(question) ?? []);
}

async function decide(
  setup: ExploreThreadSetup,
  { heapMb, signal, onProgress }: { heapMb: number; signal: AbortSignal; onProgress: ExploreSinks["onProgress"] },
): Promise<Decided> {
  const { question } = setup;
  if (signal.aborted) throw cancelled();
  const worker = new Worker(new URL("./explore-thread.ts", import.meta.url), {
    workerData: setup,
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  });
  const beganAtMs = performance.now();
  let latest: Progress = { states: 0, waiting: 0, transitions: 0, ends: 0, sourceStates: 0, bytes: 0 };
  try {
    return await new Promise<Decided>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(cancelled()), { once: true });
      worker.on("error", (error: NodeJS.ErrnoException) => {
        const reason = `The search needed more than ${heapMb} MiB for what it looks things up in.`;
        if (error.code !== "ERR_WORKER_OUT_OF_MEMORY") reject(error);
        else
          resolve(undecided(question, { reason, progress: latest, seconds: (performance.now() - beganAtMs) / 1000 }));
      });
      worker.on("exit", () => reject(new Error(`the thread that explored ${question.strategy} gave no answer`)));
      worker.on("message", (message: ExploreThreadMessage) => {
        switch (message.kind) {
          case "progress":
            latest = message.progress;
            onProgress(question, latest);
            return;
          case "explored":
            resolve({ question, explored: message.explored, seconds: message.seconds });
            return;
          case "undecided":
            resolve(undecided(question, message));
            return;
          case "failed":
            reject(failure(question, message.error));
        }
      });
    });
  } finally {
    await worker.terminate();
  }
}

function undecided(
  question: Question,
  { reason, progress, seconds }: { reason: string; progress: Progress; seconds: number },
): Decided {
  return { question, explored: { ...progress, verdict: "undecided", situations: new Map() }, seconds, reason };
}

function failure({ strategy }: Question, error: Pick<OperationError, "code" | "message" | "advice" | "facts">): Error {
  return new OperationError({ ...error, facts: { ...error.facts, strategy } });
}

const cancelled = (): OperationError =>
  new OperationError({
    code: "cancelled",
    message: "The search was cancelled.",
    advice: "Nothing was decided; run it again, with smaller bounds if it took too long.",
  });
