// Liveness: when to break one's own silence, and when the peer's silence means that it is gone.

export interface LivenessLimits {
  /** After this long without a byte sent, a keepalive is due. */
  readonly keepaliveMs: number;
  /** After this long without a byte received, the peer counts as gone; several times keepaliveMs. */
  readonly silenceMs: number;
}

const defaultLiveness: LivenessLimits = { keepaliveMs: 5000, silenceMs: 20_000 };

/** Looks at byte counters now and then, so that the data path pays nothing for it. */
export class Liveness {
  readonly limits: LivenessLimits;
  #sent = { bytes: -1, atMs: 0 };
  #received = { bytes: -1, atMs: 0 };

  constructor(limits: LivenessLimits = defaultLiveness) {
    this.limits = limits;
  }

  /** Takes both counters at a moment of the caller's clock; the first call starts the time. */
  observe(nowMs: number, bytesSent: number, bytesReceived: number): "fine" | "keepalive-due" | "peer-silent" {
    if (bytesSent !== this.#sent.bytes) this.#sent = { bytes: bytesSent, atMs: nowMs };
    if (bytesReceived !== this.#received.bytes) this.#received = { bytes: bytesReceived, atMs: nowMs };
    if (nowMs - this.#received.atMs >= this.limits.silenceMs) return "peer-silent";
    return nowMs - this.#sent.atMs >= this.limits.keepaliveMs ? "keepalive-due" : "fine";
  }
}
