// Decides several strategies side by side, each in a thread of its own.
import { totalmem } from "node:os";
import { Worker } from "node:worker_threads";
import { OperationError } from "../base/errors.ts";
import type { Explored, Progress } from "../explore/explore.ts";
import type { Question } from "../explore/schedule.ts";
import type { ExploreThreadMessage, ExploreThreadSetup } from "./explore-thread.ts";

export interface Decided {
  readonly question: Question;
  readonly explored: Explored;
  readonly seconds: number;
}

export interface ExploreSinks {
  readonly onBegin: (question: Question) => void;
  readonly onProgress: (question: Question, progress: Progress) => void;
  readonly onDecided: (decided: Decided) => void;
  /** Aborting ends every thread. */
  readonly signal: AbortSignal;
}

/** What all heaps together may take of the machine's memory; the states themselves lie outside of them. */
const HEAP_SHARE = 0.5;

/**
 * Begins the questions in their order, so many at once, and resolves with the answers in that same order. Rejects with the
 * first failure, all threads being ended: OperationError `explore-memory`, `cancelled`, or what `explore` throws.
 */
export async function exploreInThreads(
  questions: readonly Question[],
  options: { readonly reduced: boolean; readonly threads: number },
  sinks: ExploreSinks,
): Promise<Decided[]> {
  const ending = new AbortController();
  const signal = AbortSignal.any([sinks.signal, ending.signal]);
  const answers = new Map<Question, Decided>();
  const left = [...questions];
  const heapMb = Math.floor((totalmem() * HEAP_SHARE) / options.threads / 2 ** 20);
  const decideOneAfterTheOther = async (): Promise<void> => {
    for (let question = left.shift(); question !== undefined; question = left.shift()) {
      sinks.onBegin(question);
      const setup = { question, reduced: options.reduced };
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
  try {
    return await new Promise<Decided>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(cancelled()), { once: true });
      worker.on("error", (error: NodeJS.ErrnoException) => reject(heapError(question, error) ?? error));
      worker.on("exit", () =>
        reject(new Error(`the thread that explored ${question.strategy} ended without an answer`)),
      );
      worker.on("message", (message: ExploreThreadMessage) => {
        if (message.kind === "progress") onProgress(question, message.progress);
        else if (message.kind === "explored")
          resolve({ question, explored: message.explored, seconds: message.seconds });
        else
          reject(
            new OperationError({ ...message.error, facts: { ...message.error.facts, strategy: question.strategy } }),
          );
      });
    });
  } finally {
    await worker.terminate();
  }
}

function heapError({ strategy }: Question, error: NodeJS.ErrnoException): OperationError | undefined {
  if (error.code !== "ERR_WORKER_OUT_OF_MEMORY") return undefined;
  return new OperationError({
    code: "explore-memory",
    message: `The search of ${strategy} needs more memory than its thread may take.`,
    advice: "Use smaller bounds, or fewer threads at once.",
    facts: { strategy },
    cause: error,
  });
}

const cancelled = (): OperationError =>
  new OperationError({
    code: "cancelled",
    message: "The search was cancelled.",
    advice: "Nothing was decided; run it again, with smaller bounds if it took too long.",
  });
