// The guest's clock: machine time, which runs with the host's clock while the guest runs and stands while it is paused.
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";

/*
 * One number for all timers
 *
 * v86's devices keep absolute times in the state that is saved: the APIC timer its last tick, the PIT the start of
 * each counter, the time stamp counter an offset. Against the host's own clock these would be wrong in another process,
 * on another host, or a day later from a snapshot: a burst of stale ticks at best, a timer that waits for a clock that
 * has been set back at worst. So a machine has a clock of its own. It starts at zero, stands still while the guest is
 * paused, is part of the saved state, and goes on from there wherever that state is restored. The guest notices
 * neither the pause nor the days: the interval is missing from its time, as it is under any hypervisor that stops the
 * guest's clock with the guest. Only the real-time clock chip shows the host's time of day (timers.ts).
 *
 * Each reading is later than the one before by at least one tick of the guest's 1 GHz time stamp counter, so that no
 * coarse host clock can make guest time stand still between two readings. (v86 has a guess of its own for that case,
 * which depends on hidden statistics and would differ after a restore.)
 */

/** Milliseconds of one tick of the guest's time stamp counter. */
const tickMs = 1e-6;

export class MachineClock implements Clock {
  readonly #host: Clock;
  /** The last reading, which is the machine time while the clock stands. */
  #lastMs = 0;
  /** Machine time minus host time while running, undefined while standing. */
  #offsetMs: number | undefined;

  constructor(host: Clock) {
    this.#host = host;
  }

  /** What the last reading was. */
  get lastMs(): number {
    return this.#lastMs;
  }

  /** Machine time; strictly later at each reading, also while the clock stands. */
  nowMs(): number {
    const least = this.#lastMs + tickMs;
    const now = this.#offsetMs === undefined ? least : this.#host.nowMs() + this.#offsetMs;
    this.#lastMs = now > least ? now : least;
    return this.#lastMs;
  }

  start(): void {
    this.#offsetMs ??= this.#lastMs - this.#host.nowMs();
  }

  stop(): void {
    if (this.#offsetMs === undefined) return;
    this.nowMs();
    this.#offsetMs = undefined;
  }

  /** Lets a running clock jump ahead, over time in which the guest would only wait. */
  skip(byMs: number): void {
    assert(byMs >= 0, "the machine's clock never goes back");
    if (this.#offsetMs === undefined) this.#lastMs += byMs;
    else this.#offsetMs += byMs;
  }

  /** Puts a standing clock to a saved time. */
  restore(timeMs: number): void {
    assert(this.#offsetMs === undefined, "the machine's clock is restored while the guest runs");
    this.#lastMs = timeMs;
  }
}
