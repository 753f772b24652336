// Bandwidth limiting: a transport around a transport, with a token bucket and the caller's clock.
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { Transport, TransportHandlers } from "./transport.ts";

export interface RateLimitOptions {
  /** Undefined means no limit until `setRate` sets one. */
  readonly bytesPerSecond: number | undefined;
  /** What may go at once after a silence. Default: what the rate gives in 50 ms. */
  readonly burstBytes?: number;
  readonly clock: Clock;
  readonly sleep: (ms: number) => Promise<void>;
}

interface Waiting {
  readonly bytes: Uint8Array;
  readonly resolve: () => void;
}

const defaultBurstMs = 50;

/**
 * Sends while the bucket is not empty and lets the last send overdraw it, so that a frame larger than the burst passes
 * and the mean rate is kept all the same. Order is kept; `close` sends what waits without regard to the rate.
 */
export class RateLimitedTransport implements Transport {
  readonly #inner: Transport;
  readonly #options: RateLimitOptions;
  readonly #waiting: Waiting[] = [];
  #bytesPerSecond: number | undefined;
  #tokens: number;
  #filledAtMs: number;
  #pumping = false;
  #closing = false;
  #ended = false;
  #rateChanged: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #bytesSent = 0;

  constructor(inner: Transport, options: RateLimitOptions) {
    this.#inner = inner;
    this.#options = options;
    this.#bytesPerSecond = options.bytesPerSecond;
    this.#filledAtMs = options.clock.nowMs();
    this.#tokens = this.#burstBytes();
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  get bytesReceived(): number {
    return this.#inner.bytesReceived;
  }

  start(handlers: TransportHandlers): void {
    this.#inner.start({
      onData: (chunk) => handlers.onData(chunk),
      onClose: (error) => {
        this.#ended = true;
        this.#wake();
        for (const waiting of this.#waiting.splice(0)) waiting.resolve();
        handlers.onClose(error);
      },
    });
  }

  send(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#ended || this.#closing) return undefined;
    this.#bytesSent += bytes.length;
    if (!this.#pumping && this.#spend(bytes.length)) return this.#inner.send(bytes);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ bytes, resolve });
    if (!this.#pumping) void this.#pump();
    return promise;
  }

  /** Takes effect at once, for what waits as well; undefined lifts the limit. */
  setRate(bytesPerSecond: number | undefined): void {
    assert(bytesPerSecond === undefined || bytesPerSecond > 0, `a rate of ${bytesPerSecond} bytes per second`);
    this.#fill();
    this.#bytesPerSecond = bytesPerSecond;
    this.#wake();
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#wake();
    if (!this.#pumping) this.#inner.close();
  }

  #wake(): void {
    this.#rateChanged.resolve();
    this.#rateChanged = Promise.withResolvers<void>();
  }

  #burstBytes(): number {
    return this.#options.burstBytes ?? ((this.#bytesPerSecond ?? 0) * defaultBurstMs) / 1000;
  }

  #fill(): void {
    const nowMs = this.#options.clock.nowMs();
    const earned = ((this.#bytesPerSecond ?? 0) * (nowMs - this.#filledAtMs)) / 1000;
    this.#tokens = Math.min(this.#burstBytes(), this.#tokens + earned);
    this.#filledAtMs = nowMs;
  }

  #spend(bytes: number): boolean {
    if (this.#bytesPerSecond === undefined || this.#closing) return true;
    this.#fill();
    // A debt smaller than a byte is rounding: waiting for it would be a sleep of no length.
    if (this.#tokens <= -1) return false;
    this.#tokens -= bytes;
    return true;
  }

  /** Sends what waits, in order, each when the bucket allows it. */
  async #pump(): Promise<void> {
    this.#pumping = true;
    for (let next = this.#waiting[0]; next !== undefined && !this.#ended; next = this.#waiting[0]) {
      if (!this.#spend(next.bytes.length)) {
        const waitMs = (-this.#tokens / (this.#bytesPerSecond ?? 1)) * 1000;
        await Promise.race([this.#options.sleep(waitMs), this.#rateChanged.promise]);
        continue;
      }
      await this.#inner.send(next.bytes);
      this.#waiting.shift();
      next.resolve();
    }
    this.#pumping = false;
    if (this.#closing && !this.#ended) this.#inner.close();
  }
}
