// A thread that decides one strategy: explores, tells how far it is, and gives back the result as plain data.
import { parentPort, workerData } from "node:worker_threads";
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { explore, type Explored, type ExploreOptions, type Progress } from "../explore/explore.ts";
import type { Question } from "../explore/schedule.ts";
import { CheckpointFile } from "./explore-checkpoint.ts";

/** How to search: what of the explorer's options is plain data. */
export type SearchWay = Pick<ExploreOptions, "reduced" | "search" | "preemptions" | "bytesMax" | "hazard">;

export interface ExploreThreadSetup {
  readonly question: Question;
  readonly way: SearchWay;
  readonly checkpoints?: Checkpoints;
}

/** Where searches are put aside, breadth-first ones, and how long it is from one time to the next. */
export interface Checkpoints {
  readonly directory: string;
  readonly everyMs: number;
}

export type ExploreThreadMessage =
  | { readonly kind: "progress"; readonly progress: Progress }
  | { readonly kind: "explored"; readonly explored: Explored; readonly seconds: number }
  /** The bound on states was reached, or memory ran out. */
  | { readonly kind: "undecided"; readonly reason: string; readonly progress: Progress; readonly seconds: number }
  | {
      readonly kind: "failed";
      readonly error: Pick<OperationError, "code" | "message" | "advice" | "facts">;
    };

const PROGRESS_MS = 200;

const nothingYet: Progress = { states: 0, waiting: 0, transitions: 0, ends: 0, sourceStates: 0, bytes: 0 };

/** Why there was no room to go on, if it was that: a bound, or memory outside the heap, where the states are. */
function wantOfRoom(thrown: unknown): { reason: string; statesSeen: number } | undefined {
  if (thrown instanceof OperationError && thrown.code === "explore-memory") {
    const { what, bound } = thrown.facts;
    return { reason: thrown.message, statesSeen: what === "states" ? Number(bound) : 0 };
  }
  const isAllocation = thrown instanceof RangeError && /allocation|Invalid typed array length/i.test(thrown.message);
  return isAllocation
    ? { reason: `There was no memory for more states: ${thrown.message}.`, statesSeen: 0 }
    : undefined;
}

function run({ question, way, checkpoints }: ExploreThreadSetup): ExploreThreadMessage {
  const beganAtMs = performance.now();
  const seconds = (): number => (performance.now() - beganAtMs) / 1000;
  let toldAtMs = beganAtMs;
  let progress: Progress = nothingYet;
  try {
    const aside = checkpoints === undefined ? undefined : putAside(checkpoints, question);
    const explored = explore(question, {
      ...way,
      ...aside?.options,
      onProgress: (now) => {
        progress = now;
        const nowMs = performance.now();
        if (nowMs - toldAtMs < PROGRESS_MS) return false;
        toldAtMs = nowMs;
        tell({ kind: "progress", progress });
        return false;
      },
    });
    aside?.file.remove();
    return { kind: "explored", explored, seconds: seconds() };
  } catch (thrown) {
    const want = wantOfRoom(thrown);
    if (want !== undefined) {
      // What was told last is some thousand states old.
      const states = Math.max(progress.states, want.statesSeen);
      return { kind: "undecided", reason: want.reason, progress: { ...progress, states }, seconds: seconds() };
    }
    if (!(thrown instanceof OperationError)) throw thrown;
    const { code, message, advice, facts } = thrown;
    return { kind: "failed", error: { code, message, advice, facts } };
  }
}

function putAside(
  { directory, everyMs }: Checkpoints,
  { strategy }: Question,
): { file: CheckpointFile; options: Pick<ExploreOptions, "resumeFrom" | "onCheckpoint"> } {
  const file = new CheckpointFile(directory, strategy);
  const resumeFrom = file.read();
  let keptAtMs = performance.now();
  const onCheckpoint: ExploreOptions["onCheckpoint"] = (save) => {
    if (performance.now() - keptAtMs < everyMs) return;
    file.write(save());
    keptAtMs = performance.now();
  };
  return { file, options: { onCheckpoint, ...(resumeFrom === undefined ? {} : { resumeFrom }) } };
}

function tell(message: ExploreThreadMessage): void {
  const port = parentPort;
  assert(port !== null, "a strategy is explored in a thread of its own");
  port.postMessage(message);
}

tell(run(workerData as ExploreThreadSetup));
