// A thread that decides one strategy: explores, tells how far it is, and gives back the result as plain data.
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { explore, type Explored, type Progress } from "../explore/explore.ts";
import type { Question } from "../explore/schedule.ts";

export interface ExploreThreadSetup {
  readonly question: Question;
  readonly reduced: boolean;
}

export type ExploreThreadMessage =
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "explored"; readonly explored: Explored; readonly seconds: number }
  | {
      readonly kind: "failed";
      readonly error: Pick<OperationError, "code" | "message" | "advice" | "facts">;
    };

const PROGRESS_MS = 200;

/** What ran out is memory outside the heap, where the states are. */
function outOfMemory(thrown: unknown): OperationError | undefined {
  if (!(thrown instanceof RangeError && /allocation|Invalid typed array length/i.test(thrown.message)))
    return undefined;
  return new OperationError({
    code: "explore-memory",
    message: "There was no memory for more states.",
    advice: "Use smaller bounds, or fewer threads at once.",
    facts: { reason: thrown.message },
  });
}

function run({ question, reduced }: ExploreThreadSetup): ExploreThreadMessage {
  const beganAtMs = performance.now();
  let toldAtMs = beganAtMs;
  try {
    const explored = explore(question, {
      reduced,
      onProgress: (progress) => {
        const nowMs = performance.now();
        if (nowMs - toldAtMs < PROGRESS_MS) return false;
        toldAtMs = nowMs;
        tell({ kind: "progress", progress });
        return false;
      },
    });
    return { kind: "explored", explored, seconds: (performance.now() - beganAtMs) / 1000 };
  } catch (thrown) {
    const error = thrown instanceof OperationError ? thrown : outOfMemory(thrown);
    if (error === undefined) throw thrown;
    const { code, message, advice, facts } = error;
    return { kind: "failed", error: { code, message, advice, facts } };
  }
}

function tell(message: ExploreThreadMessage): void {
  const port = parentPort;
  assert(port !== null, "a strategy is explored in a thread of its own");
  port.postMessage(message);
}

tell(run(workerData as ExploreThreadSetup));
