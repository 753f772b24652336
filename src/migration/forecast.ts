// What a switchover now would cost, from the rate that rounds really reached.

/** Everything of a switchover that is not page bytes: state saved, sent and loaded. Measured on the embedded PC. */
const FIXED_MS = 8;

export class DowntimeForecast {
  readonly #pageBytes: number;
  #bytesPerMs = 0;

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes;
  }

  /** The last round that sent something counts: bandwidth changes. A round below 64 KiB says nothing about the rate. */
  observeRound(bytes: number, durationMs: number): void {
    if (bytes >= 65_536 && durationMs > 0) this.#bytesPerMs = bytes / durationMs;
  }

  expectedDowntimeMs(pages: number): number {
    if (this.#bytesPerMs === 0) return Infinity;
    return FIXED_MS + (pages * this.#pageBytes) / this.#bytesPerMs;
  }
}
