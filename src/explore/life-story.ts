// Tells how a guest lives on at the destination, as far as it is of interest: the turns before something is wrong.
import { assert } from "../base/assert.ts";
import type { ModelHost } from "../machine/model/host.ts";
import type { LifeWitness } from "./afterlife.ts";
import { DeviceWords } from "./device-words.ts";
import { GuestWords } from "./guest-words.ts";
import { LandingWatch, sight, type Sighting } from "./sighting.ts";
import type { Scene } from "./story.ts";

/** Older ones are forgotten. */
const SCENES_MAX = 20;

/** Who takes which turn there is not a choice: guest and device take theirs by turns. */
export class LifeTeller implements LifeWitness {
  readonly scenes: Scene[] = [];
  turns = 0;
  #before: Sighting | undefined;
  #landings: LandingWatch | undefined;

  began(host: ModelHost): void {
    assert(this.#before === undefined, "a teller tells one life");
    this.#before = sight(host);
    this.#landings = new LandingWatch(host);
  }

  turned(who: "driver" | "device" | "application", host: ModelHost): void {
    const before = this.#before;
    const landed = this.#landings?.take() ?? [];
    assert(before !== undefined, "a life begins before its first turn");
    const after = sight(host);
    const { layout } = host.machine;
    const guest = new GuestWords(layout);
    this.#before = after;
    this.turns++;
    const sentence = {
      driver: () => guest.driver(before.guest, after.guest),
      application: () => guest.application(before.guest, after.guest),
      device: () => new DeviceWords(layout.queuePairs).turn(before, after, landed),
    }[who]();
    this.scenes.push({ first: this.turns, last: this.turns, who, sentence });
    if (this.scenes.length > SCENES_MAX) this.scenes.shift();
  }
}
