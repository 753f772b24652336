// Clocks: time is always injected, so that a test or the explorer owns it.

export interface Clock {
  /** Milliseconds, monotonic, fractional. The origin is the clock's own; two processes on one host share it. */
  nowMs(): number;
}

/** A clock that stands still until it is told to move. */
export class ManualClock implements Clock {
  #nowMs: number;

  constructor(startMs = 0) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
  }
}
