// What a switchover now would cost, from the rate that rounds really reached.

/** Everything of a switchover that is not page bytes: state saved, sent and loaded. Measured on the embedded PC. */
const FIXED_MS = 8;

const LARGE_ROUND_BYTES = 4 << 20;

export class DowntimeForecast {
  readonly #pageBytes: number;
  #bytesPerMs = 0;
  #largestRoundBytes = 0;

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes;
  }

  /**
   * The last large round counts: bandwidth changes. A small one is over before the link is full, and counts only until
   * a larger one was seen.
   */
  observeRound(bytes: number, durationMs: number): void {
    if (durationMs <= 0 || bytes < Math.min(LARGE_ROUND_BYTES, this.#largestRoundBytes + 1)) return;
    this.#bytesPerMs = bytes / durationMs;
    this.#largestRoundBytes = Math.max(this.#largestRoundBytes, bytes);
  }

  expectedDowntimeMs(pages: number): number {
    if (pages > 0 && this.#bytesPerMs === 0) return Infinity;
    return FIXED_MS + (pages === 0 ? 0 : (pages * this.#pageBytes) / this.#bytesPerMs);
  }
}
