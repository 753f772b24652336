// Judges every end that a search comes to: by the audit, on a real run of its schedule, and by the guest's life after it.
import { assert } from "../base/assert.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import type { VfState } from "../nic/state.ts";
import { Afterlife } from "./afterlife.ts";
import type { Experiment } from "./experiment.ts";
import { bytesKey, Interner } from "./interner.ts";
import { FORGOTTEN, type Move } from "./move.ts";
import type { Search } from "./search.ts";
import { Situations } from "./situations.ts";
import { ENGINE } from "./steps.ts";
import { Trial, type Outcome } from "./trial.ts";

/** A schedule that breaks a property. */
export interface Violation {
  readonly property: "legal-cut" | "guest-unharmed" | "mapped-writes" | "progress";
  /** What is wrong, in words. */
  readonly sentence: string;
  /** Names of the audit's hazards, if the audit found them. */
  readonly hazards: readonly string[];
  readonly schedule: readonly number[];
}

/** An end that the audit had nothing against: what the guest lives on with. */
interface LegalEnd {
  readonly state: number;
  readonly pausedAt: number;
  /** Interrupts that wait for the guest. */
  readonly pending: number;
  readonly image: Uint8Array;
  readonly imageNumber: number;
  readonly resumedWith: VfState;
  readonly resumedNumber: number;
}

export interface JudgeOptions {
  readonly excuses?: readonly string[] | undefined;
  readonly hazard?: string | undefined;
}

export class Judge {
  readonly situations = new Situations();
  readonly #move: Move;
  readonly #trial: Trial;
  readonly #afterlife: Afterlife;
  readonly #excuses: readonly string[];
  readonly #hazard: string | undefined;
  readonly #images = new Interner<Uint8Array>();
  readonly #vfStates = new Interner<VfState>();
  readonly #legalEnds: LegalEnd[] = [];
  /** Guest, image and VF of lives that went well. */
  readonly #goodLives = new Set<string>();

  /**
   * `excuses`: hazards that the audit may find without an end being wrong, if the guest takes no harm by them. `hazard`:
   * the only one that counts, if one is named.
   */
  constructor(experiment: Experiment, move: Move, options: JudgeOptions = {}) {
    this.#move = move;
    this.#excuses = options.excuses ?? [];
    this.#hazard = options.hazard;
    this.#trial = new Trial(experiment);
    this.#afterlife = new Afterlife(experiment);
  }

  /** Judges one end, with the guest that its schedule pauses. */
  judge(state: number, search: Search): Violation | undefined {
    const schedule = search.path(state);
    const outcome = this.#carryOut(schedule);
    this.#compare(search.engineOf(state), outcome, schedule);
    this.situations.note(outcome);
    const violation = violationIn(outcome, schedule);
    if (this.#hazard !== undefined) return violation?.hazards.includes(this.#hazard) === true ? violation : undefined;
    if (violation !== undefined && !this.#isExcused(violation)) return violation;
    const end = this.#legalEnd(state, search, outcome);
    this.#legalEnds.push(end);
    return this.#live(end, outcome.guest, () => schedule);
  }

  #isExcused({ property, hazards }: Violation): boolean {
    return property === "legal-cut" && hazards.every((hazard) => this.#excuses.includes(hazard));
  }

  /** Judges the other guests that could have been paused at the ends that were judged. */
  judgeOtherGuests(search: Search, onProgress: (done: number, of: number) => void): Violation | undefined {
    const { source } = this.#move;
    for (const [index, end] of this.#legalEnds.entries()) {
      onProgress(index, this.#legalEnds.length);
      for (const guest of source.guestsAtPause(end.pausedAt)) {
        const handedOver = source.withPending(guest, end.pending);
        const violation = this.#live(end, handedOver, () => this.#pathWithGuest(search, end, guest));
        if (violation !== undefined) return violation;
      }
    }
    return undefined;
  }

  #carryOut(schedule: readonly number[]): Outcome {
    const isPossible = this.#trial.run(schedule);
    assert(isPossible, "a schedule that the search found can be carried out");
    return this.#trial.outcome();
  }

  /** The real run and the search must have come to the same image. */
  #compare(engine: number, outcome: Outcome, schedule: readonly number[]): void {
    const { images, source } = this.#move;
    const contents = images.contents(this.#move.engineSide(engine).image);
    for (const [page, content] of contents.entries()) {
      if (content === FORGOTTEN) continue;
      const real = outcome.image.subarray(page * source.pageBytes, (page + 1) * source.pageBytes);
      if (isSame(source.contents.value(content), real)) continue;
      assert(false, `page ${page} differs between search and run of ${schedule.join(".")}`);
    }
  }

  /** Whether pages that were to be sent were not; see Move. */
  hasForgottenPages(engine: number): boolean {
    return this.#move.images.contents(this.#move.engineSide(engine).image).includes(FORGOTTEN);
  }

  #legalEnd(state: number, search: Search, { image, resumedWith }: Outcome): LegalEnd {
    const { saves } = this.#move.engineSide(search.engineOf(state));
    const canonical = this.#withoutPostedBuffers(image, resumedWith);
    return {
      state,
      pausedAt: saves[0] as number,
      pending: this.#move.source.pendingIn(search.sourceOf(state)),
      image: canonical,
      imageNumber: this.#images.intern(bytesKey(canonical), () => canonical),
      resumedWith,
      resumedNumber: this.#vfStates.intern(JSON.stringify(resumedWith), () => resumedWith),
    };
  }

  /** The device writes these before anybody looks, so what they hold now makes no difference. */
  #withoutPostedBuffers(image: Uint8Array, { registers }: VfState): Uint8Array {
    const { receiveDescriptors, bufferBytes } = this.#trial.source.host.machine.layout;
    const canonical = image.slice();
    const words = new DataView(image.buffer, image.byteOffset);
    for (let queue = 0; queue < this.#move.source.queuePairs; queue++) {
      const base = registers["VFRDBAL"]?.[queue] ?? 0;
      const tail = registers["VFRDT"]?.[queue] ?? 0;
      for (let slot = registers["VFRDH"]?.[queue] ?? 0; slot !== tail; slot = (slot + 1) % receiveDescriptors) {
        const address = words.getUint32(base + slot * DESCRIPTOR_BYTES, true);
        canonical.fill(0, address, address + bufferBytes);
      }
    }
    return canonical;
  }

  #live(end: LegalEnd, guest: Uint8Array, schedule: () => readonly number[]): Violation | undefined {
    const life = `${end.imageNumber} ${end.resumedNumber} ${bytesKey(guest)}`;
    if (this.#goodLives.has(life)) return undefined;
    const sentence = this.#afterlife.trouble(guest, end.image, end.resumedWith);
    if (sentence !== undefined) {
      return { property: "progress", sentence: `on the destination, ${sentence}`, hazards: [], schedule: schedule() };
    }
    this.#goodLives.add(life);
    return undefined;
  }

  /** The schedule to an end, with another guest paused there: after the pause all of them go the same way. */
  #pathWithGuest(search: Search, end: LegalEnd, guest: number): readonly number[] {
    const path = search.statesTo(end.state);
    const { source } = this.#move;
    const paused = path.findIndex((state) => source.isPaused(search.sourceOf(state)));
    const target = path[paused] as number;
    for (let state = 0; state < search.states; state++) {
      if (source.guestOf(search.sourceOf(state)) !== guest || source.isPaused(search.sourceOf(state))) continue;
      if (!this.#move.step(search.sourceOf(state), search.engineOf(state))) continue;
      const isThere =
        this.#move.nextSource === search.sourceOf(target) && this.#move.nextEngine === search.engineOf(target);
      if (isThere) return [...search.path(state), ENGINE, ...search.path(end.state, target)];
    }
    return search.path(end.state);
  }
}

/** What the guest on the source or the audit has against an outcome. */
export function violationIn({ verdict, troubleOnSource }: Outcome, schedule: readonly number[]): Violation | undefined {
  if (troubleOnSource !== undefined) {
    return { property: "guest-unharmed", sentence: `on the source, ${troubleOnSource}`, hazards: [], schedule };
  }
  if (verdict.outcome === "consistent") return undefined;
  const sentence = verdict.corruptions[0]?.sentence ?? "the audit says corrupt";
  return { property: "legal-cut", sentence, hazards: Object.keys(verdict.hazards), schedule };
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return left.every((byte, i) => byte === right[i]);
}
