// Tells a schedule in words while it is carried out: whose turn it was, and what that came to.
import { harmTo } from "./harm.ts";
import { assert } from "../base/assert.ts";
import { DeviceWords } from "./device-words.ts";
import { EngineWatch, type EngineDeed } from "./engine-watch.ts";
import { copiesInWords, deedsInWords, readsInWords, type CopiedPart } from "./engine-words.ts";
import type { EngineParts } from "./experiment.ts";
import { GuestWords } from "./guest-words.ts";
import { MemoryMap } from "./memory-map.ts";
import { LandingWatch, sight, type DeviceWrite, type Sighting } from "./sighting.ts";
import { Actor, ENGINE } from "./steps.ts";
import type { Trial, Witness } from "./trial.ts";

/** `bus`: a write of the device that was on its way lands. */
export type Who = "driver" | "application" | "device" | "bus" | "engine";

/** One sentence of a story, without its subject. */
export interface Scene {
  /** Numbers of the steps that it is about; the first of a schedule is 1. */
  readonly first: number;
  readonly last: number;
  readonly who: Who;
  readonly sentence: string;
}

/** Steps of the engine that are told as one: parts of pages that were copied, or words of rings that were read. */
interface Gathered {
  readonly first: number;
  last: number;
  readonly parts: CopiedPart[];
  readonly reads: Extract<EngineDeed, { kind: "word" }>[];
}

/**
 * Sees all from outside: the device's writes as an observer of DMA, the engine's deeds through EngineWatch, the guest and
 * the VF by their states before and after a step. So nothing is told but what the shipping code did.
 */
export class Storyteller implements Witness {
  readonly #watch = new EngineWatch();
  #scenes: Scene[] = [];
  #steps = 0;
  #trial: Trial | undefined;
  #landings: LandingWatch | undefined;
  #before: Sighting | undefined;
  /** The destination's memory before the step. */
  #image = new Uint8Array();
  #gathered: Gathered | undefined;
  /** What the guest on the source noticed, and after which step. */
  troubleAt: { readonly step: number; readonly scenes: number } | undefined;

  /** To be put around the engine's parts; see Experiment.change. */
  watch(parts: EngineParts): EngineParts {
    return this.#watch.watch(parts);
  }

  /** Steps that were carried out. */
  get steps(): number {
    return this.#steps;
  }

  /** The story so far. */
  get scenes(): readonly Scene[] {
    this.#tellGathered();
    return this.#scenes;
  }

  began(trial: Trial): void {
    assert(this.#trial === undefined, "a storyteller tells one story");
    this.#trial = trial;
    this.#landings = new LandingWatch(trial.source.host);
    this.#watch.take();
    this.#image = trial.image.bytes.slice();
    this.#before = sight(trial.source.host);
  }

  stepped(step: number, trial: Trial): void {
    const before = this.#before;
    assert(before !== undefined, "a story has a beginning");
    this.#steps++;
    const after = sight(trial.source.host);
    const landed = this.#landings?.take() ?? [];
    this.#before = after;
    if (step === ENGINE) this.#engine(trial, landed);
    else this.#source(step, { before, after, landed }, trial);
    if (this.troubleAt === undefined && harmTo(trial.source.host.machine) !== undefined) {
      this.troubleAt = { step: this.#steps, scenes: this.scenes.length };
    }
  }

  #source(
    actor: number,
    { before, after, landed }: { before: Sighting; after: Sighting; landed: readonly DeviceWrite[] },
    trial: Trial,
  ): void {
    const guest = new GuestWords(trial.source.host.machine.layout);
    const device = new DeviceWords(trial.source.host.machine.layout.queuePairs);
    if (actor === Actor.driver) this.#tell("driver", guest.driver(before.guest, after.guest));
    else if (actor === Actor.application) this.#tell("application", guest.application(before.guest, after.guest));
    else if (actor < Actor.land) this.#tell("device", device.turn(before, after, landed));
    else this.#tell("bus", device.landing(landed));
  }

  #tell(who: Who, sentence: string): void {
    this.#tellGathered();
    this.#scenes.push({ first: this.#steps, last: this.#steps, who, sentence });
  }

  #engine(trial: Trial, landed: readonly DeviceWrite[]): void {
    const deeds = this.#watch.take();
    const { engine } = trial;
    const sentences = deedsInWords(deeds, engine.cuts);
    const reads = deeds.filter((deed) => deed.kind === "word");
    const parts = deeds.flatMap((deed) => (deed.kind === "copy" ? [this.#part(deed, trial)] : []));
    for (const { page } of deeds.filter((deed) => deed.kind === "give")) this.#part({ page, start: 0 }, trial);
    if (landed.length > 0) {
      const device = new DeviceWords(trial.source.host.machine.layout.queuePairs);
      sentences.push(`meanwhile the bus ${device.landing(landed)}`);
    }
    if (deeds.length === 0)
      sentences.push(engine.phase === "round" ? "begins another round" : "has nothing more to copy");
    if (deeds.some(({ kind }) => kind === "fetch") && engine.commandsDone === 0)
      sentences.push("the switchover begins");
    if (sentences.length > 0) this.#tell("engine", sentences.join("; "));
    if (parts.length > 0 || reads.length > 0) this.#gather(parts, reads);
  }

  /** A part of a page as the image has it now, and whether that is news. */
  #part({ page, start, lengthBytes }: { page: number; start: number; lengthBytes?: number }, trial: Trial): CopiedPart {
    const { bytes: image, pages } = trial.image;
    const length = lengthBytes ?? pages.sizeBytes;
    const address = page * pages.sizeBytes + start;
    const bytes = image.slice(address, address + length);
    const isNews = bytes.some((byte, i) => byte !== this.#image[address + i]);
    this.#image.set(bytes, address);
    return { page, start, lengthBytes: length, isNews, bytes };
  }

  #gather(parts: readonly CopiedPart[], reads: Gathered["reads"]): void {
    const isOther = this.#gathered !== undefined && this.#gathered.parts.length > 0 !== parts.length > 0;
    if (isOther) this.#tellGathered();
    this.#gathered ??= { first: this.#steps, last: this.#steps, parts: [], reads: [] };
    this.#gathered.last = this.#steps;
    this.#gathered.parts.push(...parts);
    this.#gathered.reads.push(...reads);
  }

  #tellGathered(): void {
    const gathered = this.#gathered;
    const trial = this.#trial;
    this.#gathered = undefined;
    if (gathered === undefined || trial === undefined) return;
    const guest = this.#before?.guest;
    assert(guest !== undefined, "a story has a beginning");
    const map = new MemoryMap(trial.source.host.machine.layout, guest);
    const { first, last, parts, reads } = gathered;
    const sentence = parts.length > 0 ? copiesInWords(parts, map) : readsInWords(reads, map);
    this.#scenes.push({ first, last, who: "engine", sentence });
  }
}
