// A wire: one direction of a link, with a speed, a bounded queue before it, and seeded loss.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { SeededRandom } from "../base/random.ts";
import { wireBytes } from "./ethernet.ts";
import type { DropCause } from "./counters.ts";

/** What can be set on a link; it applies to each direction on its own. */
export interface LinkSettings {
  /** Bits per second on the wire (preamble, gap and FCS count); null is as fast as the host is. */
  readonly speedBitsPerSecond: number | null;
  /** Share of frames lost, 0 to 1. */
  readonly lossRate: number;
}

export const perfectLink: LinkSettings = { speedBitsPerSecond: null, lossRate: 0 };

export interface WireOptions {
  readonly clock: Clock;
  readonly random: SeededRandom;
  readonly queueBytesMax: number;
  /** A frame came out at the far end. The bytes are the callee's only until it returns. */
  readonly deliver: (frame: Uint8Array) => void;
  readonly drop: (frame: Uint8Array, cause: DropCause) => void;
}

/**
 * How long a wire may run ahead of its speed after it was idle. It bridges the granularity of the timer that calls
 * `service()`, so that the average speed is met.
 */
export const BURST_MS = 2;
/** Rounding of the clock must not leave a frame that is due now waiting for another timer. */
const TOKEN_ROUNDING_BYTES = 1e-3;

/**
 * A token bucket that may go into debt: a frame goes when the bucket is not negative and takes its whole size, so
 * over time t no more than speed * (t + BURST_MS) and one frame pass. Order is kept. Without a speed limit frames
 * pass straight through, uncopied.
 */
export class Wire {
  readonly #options: WireOptions;
  #bytesPerMs = Infinity;
  #lossRate = 0;
  #tokens = 0;
  #refilledAtMs = 0;
  #queue: Uint8Array[] = [];
  #head = 0;
  #queuedBytes = 0;

  constructor(options: WireOptions) {
    this.#options = options;
  }

  get queuedFrames(): number {
    return this.#queue.length - this.#head;
  }

  set(settings: LinkSettings): void {
    const { speedBitsPerSecond: speed, lossRate } = settings;
    assert(speed === null || speed > 0, `link speed ${speed}`);
    assert(lossRate >= 0 && lossRate <= 1, `loss rate ${lossRate}`);
    this.#bytesPerMs = speed === null ? Infinity : speed / 8000;
    this.#lossRate = lossRate;
    this.#tokens = 0;
    this.#refilledAtMs = this.#options.clock.nowMs();
  }

  offer(frame: Uint8Array): void {
    if (this.#lossRate > 0 && this.#options.random.chance(this.#lossRate)) {
      this.#options.drop(frame, "loss");
    } else if (this.#bytesPerMs === Infinity && this.queuedFrames === 0) {
      this.#options.deliver(frame);
    } else if (this.queuedFrames === 0 && this.#mayGo()) {
      this.#send(frame);
    } else if (this.#queuedBytes + frame.length > this.#options.queueBytesMax) {
      this.#options.drop(frame, "queue-full");
    } else {
      this.#queue.push(new Uint8Array(frame));
      this.#queuedBytes += frame.length;
    }
  }

  /** Sends what is due by now. */
  service(): void {
    while (this.queuedFrames > 0 && this.#mayGo()) this.#send(this.#take());
  }

  /** When `service()` has something to do, on the injected clock; Infinity when nothing is queued. */
  nextDueMs(): number {
    if (this.queuedFrames === 0) return Infinity;
    return this.#bytesPerMs === Infinity
      ? -Infinity
      : this.#refilledAtMs + Math.max(0, -this.#tokens / this.#bytesPerMs);
  }

  /** Drops everything queued. */
  cut(): void {
    while (this.queuedFrames > 0) this.#options.drop(this.#take(), "link-down");
  }

  #mayGo(): boolean {
    if (this.#bytesPerMs === Infinity) return true;
    const nowMs = this.#options.clock.nowMs();
    const earned = (nowMs - this.#refilledAtMs) * this.#bytesPerMs;
    this.#tokens = Math.min(this.#tokens + earned, BURST_MS * this.#bytesPerMs);
    this.#refilledAtMs = nowMs;
    return this.#tokens >= -TOKEN_ROUNDING_BYTES;
  }

  #send(frame: Uint8Array): void {
    this.#tokens -= wireBytes(frame.length);
    this.#options.deliver(frame);
  }

  #take(): Uint8Array {
    const frame = this.#queue[this.#head] as Uint8Array;
    this.#head++;
    this.#queuedBytes -= frame.length;
    if (this.#head === this.#queue.length || this.#head >= 1024) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return frame;
  }
}
