// What must have happened somewhere in a search for its verdict to mean anything: a model in which nothing happens is safe.
import type { Outcome } from "./trial.ts";

export const situations = {
  "frame-discarded": "a frame that the source's device received after the cut is lost and counted",
  "frame-carried": "a frame that became whole after the pause travels",
  "frame-waiting": "a frame is done and not taken when the CPUs pause",
  "pause-inside-frame": "the CPUs pause between the descriptors of one frame",
  "cut-inside-frame": "a copied ring ends inside a frame",
  "descriptor-turned-back": "a descriptor that was read as done goes back to posted",
  "ring-wrapped": "posted descriptors reach over the end of the ring",
  "buffer-excused": "the image holds a buffer that is newer than its descriptor",
} as const;
export type Situation = keyof typeof situations;

export class Situations {
  readonly seen = new Map<Situation, number>();

  note({ verdict, cuts, vfAtPause, nextToClean }: Outcome): void {
    const isInside = vfAtPause.receive.queues.some(({ frameInProgress }) => frameInProgress);
    const heads = vfAtPause.registers["VFRDH"] ?? [];
    if (nextToClean.some((next, queue) => next !== heads[queue])) this.#add("frame-waiting");
    if (verdict.frames.discarded > 0) this.#add("frame-discarded");
    if (verdict.receive.some(({ framesCarried }) => framesCarried > 0)) this.#add("frame-carried");
    if (isInside) this.#add("pause-inside-frame");
    if (verdict.receive.some(({ isInsideFrame }) => isInsideFrame)) this.#add("cut-inside-frame");
    if (cuts.some(({ turnedBack }) => turnedBack > 0)) this.#add("descriptor-turned-back");
    if (verdict.receive.some(({ cut, tail }) => tail < cut)) this.#add("ring-wrapped");
    if (verdict.excusedBytes > 0) this.#add("buffer-excused");
  }

  #add(situation: Situation): void {
    this.seen.set(situation, (this.seen.get(situation) ?? 0) + 1);
  }
}
