// Decides a strategy: explores every schedule within bounds, judges every end, and says safe or unsafe, with the schedule.
import { assert } from "../base/assert.ts";
import { Judge, type Violation } from "./judge.ts";
import { Move } from "./move.ts";
import { MoveSystem } from "./move-system.ts";
import { Reduction } from "./reduction.ts";
import { PreemptionBound } from "./search-preemptions.ts";
import { Search, type SearchOptions, type SearchOrder } from "./search.ts";
import { encodeSchedule, experimentOf, type Question } from "./schedule.ts";
import type { Experiment } from "./experiment.ts";
import type { System } from "./search-system.ts";
import type { Situation } from "./situations.ts";
import { SourceGraph } from "./source-graph.ts";
import { Actor, ACTORS_MAX, ENGINE } from "./steps.ts";

export interface Progress {
  readonly states: number;
  /** States whose steps have not been followed yet. */
  readonly waiting: number;
  readonly transitions: number;
  readonly ends: number;
  readonly sourceStates: number;
  readonly bytes: number;
}

export interface ExploreOptions {
  /** Leaves out what makes no difference; false follows every order. Default true. */
  readonly reduced?: boolean;
  /** Called now and then; true ends the search early. */
  readonly onProgress?: (progress: Progress) => boolean;
  /** Default: breadth-first, which finds the shortest schedule. At random nothing is ever decided to be safe. */
  readonly search?: SearchOrder;
  /** Follows only schedules that take the turn from the guest's CPU so often while it could go on; see PreemptionBound. */
  readonly preemptions?: number;
  /** Most memory for the search's tables; beyond it `explore` throws OperationError `explore-memory`. */
  readonly bytesMax?: number;
  /** Called with the progress of a breadth-first search; `save` makes bytes that `resumeFrom` takes later. */
  readonly onCheckpoint?: (save: () => Uint8Array<ArrayBuffer>) => void;
  /** A checkpoint of the same question and options. Throws OperationError `checkpoint-invalid` for any other. */
  readonly resumeFrom?: Uint8Array;
  /** Changes the experiment: to break it, for the tests. */
  readonly change?: (experiment: Experiment) => Experiment;
  /**
   * Looks only for a violation by this hazard of the audit, and goes on past all others. Some hazards have their name from
   * where the guest's driver was, so paused guests are told apart.
   */
  readonly hazard?: string;
  /** Hazards that are no violation if the guest takes no harm by them, to ask whether it does. */
  readonly excuses?: readonly string[];
  /** Paused guests that differ in anything are different states; otherwise they are judged together. Default false. */
  readonly tellsGuestsApart?: boolean;
}

export interface Explored extends Progress {
  /** `undecided`: the search ended before it had seen everything, and found nothing wrong until then. */
  readonly verdict: "safe" | "unsafe" | "undecided";
  readonly violation?: Violation;
  /** The schedule that breaks a property with the fewest steps of guest and device, as one string. */
  readonly schedule?: string;
  readonly situations: ReadonlyMap<Situation, number>;
}

/** Throws OperationError `explore-memory` when the bound on states is too small to decide. */
export function explore(question: Question, options: ExploreOptions = {}): Explored {
  const base = experimentOf(question);
  const experiment = options.change?.(base) ?? base;
  const reduced = options.reduced ?? true;
  const explored = search(question, experiment, options, reduced);
  if (explored !== "forgetful") return explored;
  // A page was to be sent and was not: what it would have shown makes a difference after all.
  const { resumeFrom: _, ...anew } = options;
  const whole = search(question, experiment, anew, false);
  assert(whole !== "forgetful", "a search that forgets nothing misses nothing");
  return whole;
}

function search(
  question: Question,
  experiment: Experiment,
  options: ExploreOptions,
  reduced: boolean,
): Explored | "forgetful" {
  const { onProgress, onCheckpoint, hazard, excuses, tellsGuestsApart = hazard !== undefined } = options;
  const source = new SourceGraph(experiment, { tellsGuestsApart });
  const move = new Move({ experiment, source, forgets: reduced });
  const judge = new Judge(experiment, move, { excuses, hazard });
  let violation: Violation | undefined;
  let isForgetful = false;
  const progress = (): Progress => ({
    states: searching.states,
    waiting: searching.waiting,
    transitions: searching.transitions,
    ends: searching.ends,
    sourceStates: source.size,
    bytes: searching.bytes + move.bytes,
  });
  const searching = new Search({
    ...searchOptions(question, { ...options, reduced, tellsGuestsApart }),
    system: systemOf(move, reduced ? new Reduction(move, experiment.strategy) : undefined, options),
    onEnd: (state, found) => {
      violation = judge.judge(state, found);
      isForgetful = violation === undefined && judge.hasForgottenPages(found.engineOf(state));
      return violation !== undefined || isForgetful;
    },
    onProgress: (found) => {
      onCheckpoint?.(() => found.checkpoint());
      return onProgress?.(progress()) ?? false;
    },
  });
  searching.run();
  if (isForgetful) return "forgetful";
  if (hazard === undefined) violation ??= wildWrite(source);
  violation ??= judge.judgeOtherGuests(searching, () => void onProgress?.(progress()));
  return {
    ...progress(),
    verdict: violation !== undefined ? "unsafe" : searching.isExhausted ? "safe" : "undecided",
    situations: judge.situations.seen,
    ...(violation === undefined ? {} : { violation, schedule: encodeSchedule(question, violation.schedule) }),
  };
}

/** Whether the device ever wrote where it may not; the schedule has the source's steps up to that write. */
function wildWrite(source: SourceGraph): Violation | undefined {
  if (source.wildWrite === undefined) return undefined;
  const { state, step, page } = source.wildWrite;
  const sentence = `the device wrote page ${page}, which is not mapped and no ring's`;
  const path = [...source.path(state), step].filter((taken) => taken < ACTORS_MAX);
  return { property: "mapped-writes", sentence, hazards: [], schedule: path };
}

function systemOf(move: Move, reduction: Reduction | undefined, { preemptions }: ExploreOptions): System {
  const system = new MoveSystem(move, reduction);
  if (preemptions === undefined) return system;
  return new PreemptionBound(system, {
    max: preemptions,
    isCpu: (step) => step === Actor.driver || step === Actor.application,
  });
}

/** What the search is told of the options; the identity says all that makes two searches differ. */
function searchOptions(
  question: Question,
  options: ExploreOptions,
): Pick<SearchOptions, "order" | "freeStep" | "statesMax" | "bytesMax" | "identity" | "resumeFrom"> {
  const { search: order = "breadth-first", bytesMax, resumeFrom, reduced, preemptions, hazard, excuses } = options;
  const { tellsGuestsApart } = options;
  return {
    order,
    freeStep: ENGINE,
    statesMax: question.bounds.states,
    identity: JSON.stringify({ question, reduced, preemptions, hazard, excuses, tellsGuestsApart }),
    ...(bytesMax === undefined ? {} : { bytesMax }),
    ...(resumeFrom === undefined ? {} : { resumeFrom }),
  };
}
