// Carries a schedule out once more, for real, and tells what happens: its story, and what is wrong at the end.
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { Afterlife } from "./afterlife.ts";
import type { Experiment } from "./experiment.ts";
import { violationIn, type Violation } from "./judge.ts";
import { LifeTeller } from "./life-story.ts";
import { encodeSchedule, experimentOf, type Question } from "./schedule.ts";
import { Actor, ENGINE } from "./steps.ts";
import { Storyteller, type Scene } from "./story.ts";
import { Trial, type Outcome } from "./trial.ts";

export interface Replayed {
  readonly question: Question;
  /** The whole of it: the steps that were asked for, and those that the engine had still to do. */
  readonly schedule: string;
  readonly stepsAsked: number;
  readonly steps: number;
  /** Up to the fault, if the guest on the source notices one. */
  readonly scenes: readonly Scene[];
  readonly outcome: Outcome;
  readonly violation: Violation | undefined;
  /** The guest's last turns on the destination before it is seen that something is wrong there; empty if nothing is. */
  readonly afterwards: readonly Scene[];
}

/** An engine that is alone comes to its end in far fewer. */
const ENGINE_STEPS_MAX = 100_000;

/**
 * A schedule that ends before the move does is finished by the engine alone. Throws OperationError `schedule-impossible`
 * for one with a step that cannot be done when it is due.
 */
export function replay(question: Question, asked: readonly number[]): Replayed {
  const teller = new Storyteller();
  const experiment = experimentOf(question);
  const trial = new Trial({ ...experiment, change: (parts) => teller.watch(experiment.change?.(parts) ?? parts) });
  if (!trial.run(asked, teller)) throw impossible(question, asked, teller.steps);
  const steps = [...asked];
  for (; trial.engine.phase !== "finished"; steps.push(ENGINE)) {
    assert(steps.length - asked.length < ENGINE_STEPS_MAX, "an engine that is alone comes to its end");
    trial.engine.step();
    teller.stepped(ENGINE, trial);
  }
  const scenes = teller.scenes.slice(0, teller.troubleAt?.scenes);
  const outcome = trial.outcome();
  const found = violationIn(outcome, steps);
  return {
    question,
    schedule: encodeSchedule(question, steps),
    stepsAsked: asked.length,
    steps: steps.length,
    scenes,
    outcome,
    ...(found === undefined ? lifeAfter(experiment, outcome, steps) : { violation: found, afterwards: [] }),
  };
}

/** What the audit has nothing against may still harm the guest later on. */
export function lifeAfter(
  experiment: Experiment,
  { guest, image, resumedWith }: Outcome,
  schedule: readonly number[],
): Pick<Replayed, "violation" | "afterwards"> {
  const teller = new LifeTeller();
  const trouble = new Afterlife(experiment).trouble(guest, image, resumedWith, teller);
  if (trouble === undefined) return { violation: undefined, afterwards: [] };
  const sentence = `on the destination, ${trouble}`;
  return { violation: { property: "progress", sentence, hazards: [], schedule }, afterwards: teller.scenes };
}

function impossible(question: Question, asked: readonly number[], done: number): OperationError {
  return new OperationError({
    code: "schedule-impossible",
    message: `Step ${done + 1} of this schedule cannot be done: ${whyNot(asked[done])}.`,
    advice: `What can be done is ${encodeSchedule(question, asked.slice(0, done))}, which the engine then ends alone.`,
    facts: { step: done + 1, steps: asked.length },
  });
}

/** What keeps an actor from its turn. */
function whyNot(step: number | undefined): string {
  if (step === ENGINE) return "the move is over by then, and the engine has nothing to do";
  if (step === Actor.driver) return "the driver waits for an interrupt then, or the vCPUs are paused";
  if (step === Actor.application)
    return "the application has no frame to read and no step left, or the vCPUs are paused";
  if (step === Actor.receive) return "the device has no frame to receive then, or is stopped";
  if (step === Actor.transmit) return "the device has no frame to send then, or is stopped";
  return "no write is on its way then that may land";
}
