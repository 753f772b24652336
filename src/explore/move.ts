// A move as a system of states: a source, an engine, the logs between them, and the image that comes to be.
import { assert, unreachable } from "../base/assert.ts";
import { pageGeometry } from "../memory/geometry.ts";
import type { PageSource, Strategy } from "../strategy/strategy.ts";
import { EngineAutomaton, type Place } from "./engine-automaton.ts";
import type { Effect, Query } from "./engine-view.ts";
import type { Experiment } from "./experiment.ts";
import { doubled } from "./growing.ts";
import { Images } from "./images.ts";
import { bytesKey, Interner, numbersKey } from "./interner.ts";
import { Logs } from "./logs.ts";
import { PairTable } from "./pair-table.ts";
import type { SourceGraph } from "./source-graph.ts";

/** The engine's side of a state. */
export interface EngineSide {
  readonly place: number;
  readonly logs: number;
  readonly image: number;
  /** Source states at which the VF was saved, first one first; the first is that of the pause, if the CPUs are paused. */
  readonly saves: readonly number[];
}

const UNKNOWN = 0xffff_ffff;
/** In place of the content of a page that is still going to be sent. */
export const FORGOTTEN = 0x7fff_ffff;
type Yield = Extract<Place, { kind: "yield" }>;

/**
 * A state is a pair: what the source is, and where the engine is with what it has sent and kept. Both are numbers. Steps
 * on either side are done by the shipping code once and remembered: on the source's side by what it is, on the engine's by
 * what it was answered. Nothing here decides what a step does.
 */
export class Move {
  readonly source: SourceGraph;
  readonly automaton: EngineAutomaton;
  readonly images: Images;
  readonly logs: Logs;
  readonly startSource: number;
  readonly startEngine: number;
  readonly #words: Interner<Uint32Array> = new Interner();
  readonly #pageSets: Interner<readonly number[]> = new Interner();
  /** place and logs; saves and image; both. */
  readonly #controls = new PairTable();
  readonly #holdings = new PairTable();
  readonly #engines = new PairTable();
  readonly #saveLists: Interner<readonly number[]> = new Interner();
  readonly #saveListNumbers = new Map<readonly number[], number>();
  /** Remembered: engine side and all that its step was answered, to engine side. */
  readonly #steps = new PairTable();
  #stepTo = new Uint32Array(1024);
  /** Sequences of answers: the number of the sequence before, and one answer. Number 0 is none. */
  readonly #answers = new PairTable();
  /** Remembered: engine side and delta of a source step with what is mapped, to engine side. */
  readonly #drifts = new PairTable();
  #driftTo = new Uint32Array(1024);
  readonly #deltaKinds = new PairTable();
  /** Remembered: a content and the one that is copied into it; both and where the copied part begins, to content. */
  readonly #mixtures = new PairTable();
  readonly #mixes = new PairTable();
  #mixedTo = new Uint32Array(1024);
  readonly #liveAt: number[] = [];
  /** Remembered: place with logs and what is tracked, to the pages that are due. */
  readonly #dues = new PairTable();
  readonly #pagesOfDue: (readonly number[])[] = [];
  /** Engine sides right after the pause, by what makes a difference from there on. */
  readonly #paused = new Interner<number>();

  readonly #strategy: Strategy;
  readonly #forgets: boolean;

  constructor(options: {
    readonly experiment: Experiment;
    readonly source: SourceGraph;
    /** Forgets what makes no difference any more; see `#pagesDue`. */
    readonly forgets: boolean;
  }) {
    const { source, experiment } = options;
    const { strategy } = experiment;
    this.source = source;
    this.#strategy = strategy;
    this.#forgets = options.forgets;
    this.images = new Images(source.pageCount);
    this.logs = new Logs(strategy);
    this.automaton = new EngineAutomaton({
      experiment,
      geometry: pageGeometry(source.pageCount * source.pageBytes, source.pageBytes),
      queuePairs: source.queuePairs,
      meanings: {
        content: (number) => source.contents.value(number),
        pages: (number) => this.#pageSets.value(number),
        posting: (number) => this.#words.value(number),
        ringView: (number) => source.ringView(number),
      },
    });
    const image = this.images.of(source.memories.value(source.memory(0)));
    this.#answers.add(UNKNOWN, UNKNOWN);
    this.startSource = 0;
    this.startEngine = this.#carryOut(0, { place: 0, logs: 0, image, saves: [] }, this.automaton.start);
  }

  /** Of the tables that grow with the search. */
  get bytes(): number {
    const tables = [this.#controls, this.#holdings, this.#engines, this.#steps, this.#answers, this.#drifts];
    const valueBytes = this.#stepTo.byteLength + this.#driftTo.byteLength;
    return tables.reduce((sum, { bytes }) => sum + bytes, this.images.bytes + valueBytes);
  }

  engineSide(engine: number): EngineSide {
    const control = this.#engines.left(engine);
    const holding = this.#engines.right(engine);
    return {
      place: this.#controls.left(control),
      logs: this.#controls.right(control),
      saves: this.#saveLists.value(this.#holdings.left(holding)),
      image: this.#holdings.right(holding),
    };
  }

  #engine({ place, logs, image, saves }: EngineSide): number {
    return this.#engines.add(this.#controls.add(place, logs), this.#holdings.add(this.#saveList(saves), image));
  }

  #saveList(saves: readonly number[]): number {
    // Nearly always it is the very list that came out of `engineSide`.
    const known = this.#saveListNumbers.get(saves);
    if (known !== undefined) return known;
    const list = this.#saveLists.intern(numbersKey(saves), () => saves);
    this.#saveListNumbers.set(this.#saveLists.value(list), list);
    return list;
  }

  placeOf(engine: number): Place {
    return this.automaton.places[this.#controls.left(this.#engines.left(engine))] as Place;
  }

  /** The engine's side after a step of the source that changed the logs. */
  drift(engine: number, source: number, next: number, actor: number): number {
    const delta = this.source.delta(source, actor);
    const mapped = this.source.mappedSet(next);
    if (delta === 0 && mapped === this.source.mappedSet(source)) return engine;
    const kind = this.#deltaKinds.add(delta, mapped);
    const size = this.#drifts.size;
    const entry = this.#drifts.add(engine, kind);
    if (entry === size) this.#driftTo = remembered(this.#driftTo, entry, this.#driftNow(engine, delta, next));
    return this.#driftTo[entry] as number;
  }

  #driftNow(engine: number, delta: number, next: number): number {
    const side = this.engineSide(engine);
    const mapped = this.source.tracker(next).mapped;
    const added = this.logs.add(side.logs, this.source.deltas.value(delta), mapped);
    const logs = this.logs.keep(added, this.#live(side.place));
    if (logs === side.logs) return engine;
    const place = this.automaton.places[side.place] as Yield;
    return this.#rest(next, place, { ...side, logs });
  }

  #live(place: number): number {
    const known = this.#liveAt[place];
    if (known !== undefined) return known;
    const at = this.automaton.places[place];
    assert(at?.kind === "yield" || at?.kind === "finished", "logs change between the engine's steps");
    const live = at.kind === "finished" ? 0 : this.logs.live(at.command + (at.hasBegun ? 1 : 0));
    this.#liveAt[place] = live;
    return live;
  }

  /**
   * One atomic step of the engine: sets `nextSource` and `nextEngine`, and says in `stepReads` and `stepTouches` what it
   * looked at. False when the engine has finished.
   */
  step(source: number, engine: number): boolean {
    const control = this.#engines.left(engine);
    const begin = this.#controls.left(control);
    const place = this.automaton.places[begin] as Place;
    if (place.kind !== "yield") return false;
    this.#walk(source, engine, place.next);
    return true;
  }

  /** After `step`. */
  nextSource = 0;
  nextEngine = 0;
  /** Pages of the source's memory that the last step read. */
  readonly stepReads: number[] = [];
  /** The last step depended on the device, or did something to it, beyond reading memory. */
  stepTouches = false;

  /** From a place inside a step to the step's end; what was read on the way makes the step the same as one before. */
  #walk(from: number, engine: number, begin: number): void {
    let source = from;
    let at = begin;
    let answers = 0;
    this.stepReads.length = 0;
    this.stepTouches = false;
    const { places } = this.automaton;
    for (;;) {
      const place = places[at] as Place;
      if (place.kind === "yield" || place.kind === "finished") break;
      if (place.kind === "ask") {
        const answer = this.#answer(place.question, source, engine);
        answers = this.#answers.add(answers, answer);
        at = this.automaton.answer(at, answer);
      } else {
        const { effect } = place;
        if (effect.kind === "intervene") {
          this.stepTouches = true;
          source = this.source.after(source, effect.what);
          answers = this.#answers.add(answers, source);
        } else if (effect.kind === "copy") {
          this.stepReads.push(effect.page);
          answers = this.#answers.add(answers, this.source.content(source, effect.page));
        }
        at = place.next;
      }
    }
    this.nextSource = source;
    const size = this.#steps.size;
    const entry = this.#steps.add(engine, answers);
    if (entry === size)
      this.#stepTo = remembered(this.#stepTo, entry, this.#carryOut(from, this.engineSide(engine), begin));
    this.nextEngine = this.#stepTo[entry] as number;
  }

  /** The engine's side after a step, done in full. */
  #carryOut(from: number, side: EngineSide, begin: number): number {
    let source = from;
    let at = begin;
    let { logs, image, saves } = side;
    for (;;) {
      const place = this.automaton.places[at] as Place;
      switch (place.kind) {
        case "ask":
          at = this.automaton.answer(at, this.#answerWith(place.question, source, { logs, saves }));
          if (place.question.kind === "log") logs = this.logs.clear(logs, place.question.log);
          break;
        case "do":
          at = place.next;
          if (place.effect.kind !== "intervene") image = this.#change(image, source, place.effect);
          else {
            const next = this.source.after(source, place.effect.what);
            const delta = this.source.deltas.value(this.source.deltaOf(source, place.effect.what));
            logs = this.logs.add(logs, delta, this.source.tracker(next).mapped);
            source = next;
            if (place.effect.what === "save") saves = saves.concat(source);
          }
          break;
        case "yield":
          return this.#rest(source, place, { place: at, logs, image, saves });
        case "finished":
          return this.#engine({ place: at, logs: 0, image, saves });
        default:
          unreachable(place);
      }
    }
  }

  /** The engine's side at the end of a step. */
  #rest(source: number, place: Yield, side: EngineSide): number {
    const kept = { ...side, logs: this.logs.keep(side.logs, this.#live(side.place)) };
    if (!this.#forgets) return this.#engine(kept);
    const due = this.#pagesDueAt(source, place, kept);
    let { image } = side;
    for (const page of due) image = this.images.with(image, page, FORGOTTEN);
    const isJustPaused = this.#strategy.switchover[place.command - 1]?.kind === "pause-vcpus" && !place.hasBegun;
    if (!isJustPaused) return this.#engine({ ...kept, image });
    const key = [place.command, numbersKey(due), image, ...side.saves].join(" ");
    return this.#paused.value(this.#paused.intern(key, () => this.#engine({ ...kept, image })));
  }

  #pagesDueAt(source: number, place: Yield, side: EngineSide): readonly number[] {
    const tracked = this.source.isPaused(source) ? 1 + this.source.trackerNumber(source) : 0;
    const { size } = this.#dues;
    const entry = this.#dues.add(this.#controls.add(side.place, side.logs), tracked);
    if (entry === size) this.#pagesOfDue.push(this.#pagesDue(source, place, side.logs));
    return this.#pagesOfDue[entry] as readonly number[];
  }

  /**
   * Of some pages it is known that they are still going to be sent. What the image shows of them makes no difference and
   * is left out; and once the CPUs are paused it makes none either why they are due: states that differ in nothing else
   * are one. If the engine then does not send such a page, it is still missing from the final image, which says so.
   */
  #pagesDue(source: number, place: Yield, logs: number): readonly number[] {
    const contents = this.logs.contents(logs);
    const pages = new Set([...place.due, ...contents["cpu-dirty"], ...contents["device-dirty"], ...contents.released]);
    if (this.source.isPaused(source)) {
      for (const command of this.#strategy.switchover.slice(Math.max(0, place.command + (place.hasBegun ? 1 : 0)))) {
        if (command.kind !== "copy") continue;
        for (const from of command.pages) for (const page of this.#pagesFrom(from, source, logs)) pages.add(page);
      }
    }
    for (const page of place.given) pages.delete(page);
    return [...pages].toSorted((a, b) => a - b);
  }

  #pagesFrom(from: PageSource, source: number, logs: number): readonly number[] {
    if (from === "mapped") return this.source.tracker(source).mapped;
    if (from === "rings") return this.source.tracker(source).ringPages;
    return this.logs.contents(logs)[from];
  }

  #change(image: number, source: number, effect: Exclude<Effect, { kind: "intervene" }>): number {
    const { contents, pageBytes } = this.source;
    if (effect.kind === "give") {
      return this.images.with(
        image,
        effect.page,
        contents.intern(bytesKey(effect.bytes), () => effect.bytes),
      );
    }
    const { page, start, lengthBytes } = effect;
    const now = this.source.content(source, page);
    if (lengthBytes === pageBytes) return this.images.with(image, page, now);
    return this.images.with(image, page, this.#mixed(this.images.page(image, page), now, { start, lengthBytes }));
  }

  /** The content that one page has after so many bytes of another content were copied into it. */
  #mixed(before: number, now: number, { start, lengthBytes }: { start: number; lengthBytes: number }): number {
    const { size } = this.#mixes;
    const entry = this.#mixes.add(this.#mixtures.add(before, now), start);
    if (entry < size) return this.#mixedTo[entry] as number;
    const { contents, pageBytes } = this.source;
    const bytes = before === FORGOTTEN ? new Uint8Array(pageBytes) : contents.value(before).slice();
    bytes.set(contents.value(now).subarray(start, start + lengthBytes), start);
    const mixed = contents.intern(bytesKey(bytes), () => bytes);
    this.#mixedTo = remembered(this.#mixedTo, entry, mixed);
    return mixed;
  }

  /** The answer to the first questions of a step; after a log was fetched, `#carryOut` has it better. */
  #answer(question: Query, source: number, engine: number): number {
    if (question.kind === "word") {
      this.stepReads.push(Math.floor((question.index * 4) / this.source.pageBytes));
      return this.source.word(source, question.index);
    }
    if (question.kind === "page") {
      this.stepReads.push(question.page);
      return this.source.content(source, question.page);
    }
    if (question.kind === "log" && question.log === "device-dirty") this.stepTouches = true;
    return this.#answerWith(question, source, this.engineSide(engine));
  }

  #answerWith(question: Query, source: number, { logs, saves }: Pick<EngineSide, "logs" | "saves">): number {
    switch (question.kind) {
      case "word":
        return this.source.word(source, question.index);
      case "page":
        return this.source.content(source, question.page);
      case "log":
        return this.#pageSet(this.logs.contents(logs)[question.log]);
      case "mapped":
        return this.#pageSet(this.source.tracker(source).mapped);
      case "ring-pages":
        return this.#pageSet(this.source.tracker(source).ringPages);
      case "posting":
        return this.#posting(source, question.queue, question.slot);
      case "ring-view":
        return this.source.ringViewNumber(source, question.queue);
      case "choose":
        return question.pages[0] as number;
      case "saved":
        return savedField(this.source.vfState(saves[question.save] as number), question.path);
      default:
        return unreachable(question);
    }
  }

  #pageSet(pages: readonly number[]): number {
    return this.#pageSets.intern(numbersKey(pages), () => pages);
  }

  #posting(source: number, queue: number, slot: number): number {
    const { postings } = this.source.tracker(source);
    const at = (queue * this.source.slots + slot) * 5;
    if (postings[at] === 0) return -1;
    const words = postings.slice(at + 1, at + 5);
    return this.#words.intern(numbersKey(words), () => words);
  }
}

/** The same array, or a larger one, with the value in its place. */
function remembered(values: Uint32Array<ArrayBuffer>, place: number, value: number): Uint32Array<ArrayBuffer> {
  const room = place < values.length ? values : doubled(values);
  room[place] = value;
  return room;
}

/** A number or a flag somewhere in a VF's state. */
function savedField(state: object, path: readonly string[]): number {
  let at: unknown = state;
  for (const name of path) {
    at = Reflect.get(at as object, name);
  }
  return Number(at ?? 0);
}
