// What a switchover now would cost, from the rate that rounds really reached.

/** Everything of a switchover that is not page bytes: state saved, sent and loaded. Measured on the embedded PC. */
const FIXED_MS = 8;

export class DowntimeForecast {
  readonly #pageBytes: number;
  #bytesPerMs = 0;

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes;
  }

  /**
   * The last round that sent something counts: bandwidth changes. A round below 64 KiB says nearly nothing about the
   * rate, and counts only while nothing better is known.
   */
  observeRound(bytes: number, durationMs: number): void {
    if (bytes === 0 || durationMs <= 0) return;
    if (bytes >= 65_536 || this.#bytesPerMs === 0) this.#bytesPerMs = bytes / durationMs;
  }

  expectedDowntimeMs(pages: number): number {
    if (pages > 0 && this.#bytesPerMs === 0) return Infinity;
    return FIXED_MS + (pages === 0 ? 0 : (pages * this.#pageBytes) / this.#bytesPerMs);
  }
}
