// The switch's memory of which station is behind which port, bounded and aging.
import { assert } from "../base/assert.ts";
import type { MacAddress } from "./mac.ts";

interface Entry {
  port: number;
  seenAtMs: number;
}

export interface MacTableOptions {
  readonly capacity: number;
  /** An address not seen for longer than this is forgotten (IEEE 802.1D recommends 300 s). */
  readonly ageMs: number;
}

const SWEEPS_PER_AGE = 16;

export class MacTable {
  readonly #options: MacTableOptions;
  readonly #entries = new Map<MacAddress, Entry>();
  #sweepAgainAtMs = -Infinity;

  constructor(options: MacTableOptions) {
    assert(options.capacity > 0 && options.ageMs > 0, "a MAC table needs room and time");
    this.#options = options;
  }

  /** Addresses held, including those that have aged but were not swept yet. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Notes that `mac` was seen behind `port`. Returns the port it was behind until now (`port` itself when it did not
   * move or was not known), or -1 when it could not be learnt because the table is full.
   */
  learn(mac: MacAddress, port: number, nowMs: number): number {
    const entry = this.#entries.get(mac);
    if (entry !== undefined) {
      const before = this.#isAged(entry, nowMs) ? port : entry.port;
      entry.port = port;
      entry.seenAtMs = nowMs;
      return before;
    }
    if (this.#entries.size >= this.#options.capacity) {
      this.#sweep(nowMs);
      if (this.#entries.size >= this.#options.capacity) return -1;
    }
    this.#entries.set(mac, { port, seenAtMs: nowMs });
    return port;
  }

  /** The port behind which `mac` was last seen, or -1. */
  lookUp(mac: MacAddress, nowMs: number): number {
    const entry = this.#entries.get(mac);
    return entry === undefined || this.#isAged(entry, nowMs) ? -1 : entry.port;
  }

  /** Forgets every address behind a port, as when its link goes down. */
  forgetPort(port: number): void {
    for (const [mac, entry] of this.#entries) if (entry.port === port) this.#entries.delete(mac);
  }

  #isAged(entry: Entry, nowMs: number): boolean {
    return nowMs - entry.seenAtMs > this.#options.ageMs;
  }

  /** Runs a few times per aging time at most, so that a flood of new addresses into a full table stays cheap. */
  #sweep(nowMs: number): void {
    if (nowMs < this.#sweepAgainAtMs) return;
    for (const [mac, entry] of this.#entries) if (this.#isAged(entry, nowMs)) this.#entries.delete(mac);
    this.#sweepAgainAtMs = nowMs + this.#options.ageMs / SWEEPS_PER_AGE;
  }
}
