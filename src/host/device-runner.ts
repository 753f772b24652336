// Gives the VF its time: as much as it wants while all is quiet, seeded portions while a switchover is raced against.
import type { Clock } from "../base/clock.ts";
import type { SeededRandom } from "../base/random.ts";
import type { Vf82599 } from "../nic/vf82599.ts";

/** Most beats that are let through between two steps of a switchover. A frame of one descriptor takes three. */
const BEATS_BETWEEN_STEPS_MAX = 4;
/** Real networks do not wait for a step: every so often the device gets far ahead. */
const BURST_PROBABILITY = 1 / 64;
const BURST_BEATS_MAX = 200;
/**
 * The smallest step of a timer. Drivers ask for 8,000 to 100,000 interrupts a second, and an interrupt that came a whole step
 * late would leave the transmit ring unswept and acknowledgments unseen for that long. What is due sooner is looked for at
 * every turn of the event loop: through a vfio-user client a guest took in 1.2 times as much TCP so, for no more CPU time.
 */
const TIMER_STEP_MS = 1;

/**
 * Without races the device's work is done at the next turn of the event loop, all at once. With them (from `race` until
 * `free`) it is done beat by beat, a random few between any two steps of the switchover, so that copies really fall
 * between a buffer and its descriptor, or into the middle of a frame.
 */
export class DeviceRunner {
  readonly #vf: Vf82599;
  readonly #clock: Clock;
  #random: SeededRandom | undefined;
  #isScheduled = false;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #nextTurn: ReturnType<typeof setImmediate> | undefined;
  #deadlineMs = Infinity;

  constructor(vf: Vf82599, clock: Clock) {
    this.#vf = vf;
    this.#clock = clock;
    vf.onWork = () => this.#schedule();
    this.#schedule();
  }

  race(random: SeededRandom): void {
    this.#random = random;
  }

  free(): void {
    this.#random = undefined;
    this.#schedule();
  }

  /** Lets a random portion of device work happen; the race injector of a switchover. */
  betweenSteps(): void {
    const random = this.#random;
    if (random === undefined || !this.#vf.hasWork) return;
    const most = random.chance(BURST_PROBABILITY) ? BURST_BEATS_MAX : BEATS_BETWEEN_STEPS_MAX;
    for (let beats = random.below(most + 1); beats > 0 && this.#vf.step(); beats--);
  }

  close(): void {
    this.#vf.onWork = () => {};
    this.#disarm();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#run();
    });
  }

  #run(): void {
    if (this.#random !== undefined) return;
    this.#vf.run();
    this.#armDeadline();
  }

  /** Moderated interrupts are due at a time, not at an event. */
  #armDeadline(): void {
    const deadlineMs = this.#vf.deadlineMs();
    if (deadlineMs === this.#deadlineMs) return;
    this.#disarm();
    this.#deadlineMs = deadlineMs;
    if (deadlineMs === Infinity) return;
    const delayMs = deadlineMs - this.#clock.nowMs();
    if (delayMs < TIMER_STEP_MS) this.#nextTurn = setImmediate(() => this.#deadlineCame());
    else this.#deadline = setTimeout(() => this.#deadlineCame(), delayMs);
  }

  /** Or nearly: what is not due yet is waited for anew. */
  #deadlineCame(): void {
    this.#deadlineMs = Infinity;
    this.#vf.advance();
    this.#run();
  }

  #disarm(): void {
    clearTimeout(this.#deadline);
    clearImmediate(this.#nextTurn);
  }
}
