// The engine as an automaton that is learned as it is explored: the shipping code runs once for each new answer it gets.
import { assert } from "../base/assert.ts";
import type { PageGeometry } from "../memory/geometry.ts";
import type { PageOrder } from "../migration/switchover.ts";
import type { QueueCut } from "../migration/events.ts";
import type { VfState } from "../nic/state.ts";
import { EngineRun } from "./engine-run.ts";
import { engineView, type Effect, type Query, type Respondent } from "./engine-view.ts";
import type { Experiment } from "./experiment.ts";

/** What comes next at a place of the automaton. */
export type Place =
  /** The engine wants to know something; where it goes on depends on the answer. */
  | { readonly kind: "ask"; readonly question: Query; readonly answers: Map<number, number> }
  | { readonly kind: "do"; readonly effect: Effect; next: number }
  /** Between two atomic steps: others may run. */
  | {
      readonly kind: "yield";
      /** Commands of the switchover that are carried out; -1 before it. */
      readonly command: number;
      /** The next command has had its first step. */
      readonly hasBegun: boolean;
      /** Pages that are sent again in any case. */
      readonly due: readonly number[];
      /** Pages of rings that were given as they were cut, and that no copy sends any more. */
      readonly given: readonly number[];
      next: number;
    }
  | { readonly kind: "finished"; readonly cuts: readonly QueueCut[]; readonly deviceSave: number };

/** What an engine is made of. */
export type EngineExperiment = Pick<Experiment, "strategy" | "roundsMax" | "change" | "anyOrder"> & {
  readonly assumptions: Pick<Experiment["assumptions"], "atomicBytes">;
};

/** Thrown out of the engine when it asks something that has no answer yet on the path that is run. */
class Unanswered extends Error {}

const UNKNOWN = -1;

/**
 * The engine is deterministic: what it does next follows from the answers it got. So a place is known by the answers that
 * lead to it, and to learn where an answer leads the engine is made afresh and given the answers of the path again. Two
 * paths meet again where a command ends: what the engine then carries along is compared (`#meetingPoint`).
 */
export class EngineAutomaton {
  readonly places: Place[] = [];
  readonly start: number;
  readonly #experiment: EngineExperiment;
  readonly #geometry: PageGeometry;
  readonly #queuePairs: number;
  readonly #meanings: Pick<Respondent, "content" | "pages" | "posting" | "ringView">;
  /** Where a place was first come from, and with which answer; for running up to it again. */
  readonly #cameFrom: number[] = [];
  readonly #cameWith: number[] = [];
  readonly #meetings = new Map<string, number>();

  constructor(options: {
    readonly experiment: EngineExperiment;
    readonly geometry: PageGeometry;
    readonly queuePairs: number;
    readonly meanings: Pick<Respondent, "content" | "pages" | "posting" | "ringView">;
  }) {
    this.#experiment = options.experiment;
    this.#geometry = options.geometry;
    this.#queuePairs = options.queuePairs;
    this.#meanings = options.meanings;
    this.start = this.#run(-1, 0);
  }

  /** Where the answer to the question at `place` leads. */
  answer(place: number, answer: number): number {
    const asking = this.places[place];
    assert(asking?.kind === "ask", `nothing is asked at ${place}`);
    return asking.answers.get(answer) ?? this.#learn(place, asking.answers, answer);
  }

  #learn(place: number, answers: Map<number, number>, answer: number): number {
    const next = this.#run(place, answer);
    answers.set(answer, next);
    return next;
  }

  /** Answers on the way to `place`, first one first. */
  #answersTo(place: number): number[] {
    const answers: number[] = [];
    for (let at = place; at >= 0; at = this.#cameFrom[at] as number) {
      const before = this.#cameFrom[at] as number;
      if (before >= 0 && this.places[before]?.kind === "ask") answers.push(this.#cameWith[at] as number);
    }
    return answers.toReversed();
  }

  /** Runs the engine up to `from`, answers what is asked there, and notes what follows up to the next question. */
  #run(from: number, answer: number): number {
    const given = from < 0 ? [] : [...this.#answersTo(from), answer];
    const notes = new Notes(this, given, from);
    const view = engineView(this.#geometry, this.#queuePairs, {
      ...this.#meanings,
      ask: notes.ask,
      effect: notes.effect,
    });
    try {
      const { strategy, roundsMax, change, assumptions, anyOrder = false } = this.#experiment;
      const { atomicBytes } = assumptions;
      const parts = { vm: view.vm, target: view.target };
      const order: PageOrder = (left) => notes.ask({ kind: "choose", pages: left.toArray() });
      const run = new EngineRun({
        strategy,
        roundsMax,
        atomicBytes,
        ...(change?.(parts) ?? parts),
        ...(anyOrder ? { order } : {}),
      });
      for (;;) {
        const hasEnded = notes.commandEnded(run.commandsDone);
        if (notes.isNew && !this.#noteYield(notes, run, { hasEnded, saveOf: (state) => view.saveOf(state) })) break;
        run.step();
      }
    } catch (thrown) {
      if (!(thrown instanceof Unanswered)) throw thrown;
    }
    return notes.first;
  }

  /** False when the engine is finished, or when it has come to a place that is known already. */
  #noteYield(
    notes: Notes,
    run: EngineRun,
    { hasEnded, saveOf }: { hasEnded: boolean; saveOf: (state: VfState) => number },
  ): boolean {
    const { deviceState, cuts } = run;
    const deviceSave = deviceState === undefined ? -1 : saveOf(deviceState);
    if (run.phase === "finished") {
      notes.meet(
        `finished ${deviceSave} ${JSON.stringify(cuts)}`,
        { kind: "finished", cuts, deviceSave },
        this.#meetings,
      );
      return false;
    }
    const { commandsDone, pagesLeft, pagesDue } = run;
    const hasBegun = !hasEnded && commandsDone >= 0;
    const place: Place = {
      kind: "yield",
      command: commandsDone,
      hasBegun,
      due: pagesDue,
      given: [...notes.given],
      next: UNKNOWN,
    };
    // In the middle of a copy the pages that are left say all; in the middle of anything else nothing does.
    if (!hasEnded && pagesLeft.length === 0) {
      notes.add(place);
      return true;
    }
    const key = [
      commandsDone,
      hasBegun,
      deviceSave,
      notes.saves,
      run.partDue,
      pagesDue,
      notes.given,
      JSON.stringify(cuts),
    ].join(" ");
    return notes.meet(key, place, this.#meetings);
  }

  /** For Notes. */
  append(place: Place, cameFrom: number, cameWith: number): number {
    this.places.push(place);
    this.#cameFrom.push(cameFrom);
    this.#cameWith.push(cameWith);
    return this.places.length - 1;
  }
}

/** Takes down what the engine asks and does once it has gone past the answers it was given. */
class Notes {
  first = UNKNOWN;
  /** VF states saved so far on this path. */
  saves = 0;
  /** Pages given so far, in order. */
  readonly given: number[] = [];
  readonly #automaton: EngineAutomaton;
  readonly #answers: readonly number[];
  #answered = 0;
  #last: number;
  #commandsDone = -2;

  constructor(automaton: EngineAutomaton, answers: readonly number[], from: number) {
    this.#automaton = automaton;
    this.#answers = answers;
    this.#last = from;
  }

  /** What follows was not run before. */
  get isNew(): boolean {
    return this.#answered === this.#answers.length;
  }

  readonly ask = (question: Query): number => {
    if (!this.isNew) return this.#answers[this.#answered++] as number;
    this.add({ kind: "ask", question, answers: new Map() });
    throw new Unanswered();
  };

  readonly effect = (effect: Effect): void => {
    if (effect.kind === "intervene" && effect.what === "save") this.saves++;
    if (effect.kind === "give") this.given.push(effect.page);
    if (this.isNew) this.add({ kind: "do", effect, next: UNKNOWN });
  };

  commandEnded(commandsDone: number): boolean {
    const hasEnded = commandsDone !== this.#commandsDone;
    this.#commandsDone = commandsDone;
    return hasEnded && commandsDone >= 0;
  }

  add(place: Place): void {
    const { places } = this.#automaton;
    const before = this.#last < 0 ? undefined : places[this.#last];
    const answer = before?.kind === "ask" ? (this.#answers.at(-1) ?? 0) : 0;
    this.#goTo(this.#automaton.append(place, this.#last, answer));
  }

  /** Goes on at the place that has this key, and makes it if there is none; false if there was. */
  meet(key: string, place: Place, meetings: Map<string, number>): boolean {
    const known = meetings.get(key);
    if (known !== undefined) {
      this.#goTo(known);
      return false;
    }
    this.add(place);
    meetings.set(key, this.#last);
    return true;
  }

  #goTo(place: number): void {
    const before = this.#last < 0 ? undefined : this.#automaton.places[this.#last];
    if (before?.kind === "do" || before?.kind === "yield") before.next = place;
    if (this.first === UNKNOWN) this.first = place;
    this.#last = place;
  }
}
