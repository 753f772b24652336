// The network's load on a model guest: proven frames, each at its time on the clock that all hosts share.
import { assert } from "../../base/assert.ts";
import { guestMac } from "../../machine/model/host.ts";
import { peerMac } from "../../machine/model/application.ts";
import { composeFrame } from "../../machine/model/frames.ts";

/** Sizes on the wire, FCS included. `mix` is the simple IMIX: seven short frames to four middling and one long. */
export const frameSizes = ["64", "1518", "mix"] as const;
export type FrameSize = (typeof frameSizes)[number];

export interface LoadOptions {
  /** On the wire: frames with their FCS, preamble and gap. 0 for silence. */
  readonly bitsPerSecond: number;
  readonly frameBytes: FrameSize;
  /** Of the payloads. */
  readonly seed: number;
  /** When frame 0 was due, on the clock of all hosts. */
  readonly epochMs: number;
}

const FCS_BYTES = 4;
/** Preamble, start of frame and the gap between two frames. */
const GAP_BYTES = 20;
const sizesOnWire: Readonly<Record<FrameSize, readonly number[]>> = {
  "64": [64],
  "1518": [1518],
  mix: [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518],
};
const FLOWS = 4;
/**
 * A sender that fell behind by more than this (the host had no core for it) lets go of what it missed. A card has room
 * for less than that of a full link, so what is let go would have been lost.
 */
const DEBT_MS = 2;
const DEBT_FRAMES_MIN = 32;
/** Turns remembered: some hundred milliseconds of them. */
const TURNS_KEPT = 4096;

function framesPerSecond({ bitsPerSecond, frameBytes }: Pick<LoadOptions, "bitsPerSecond" | "frameBytes">): number {
  const sizes = sizesOnWire[frameBytes];
  const meanBytes = sizes.reduce((sum, bytes) => sum + bytes + GAP_BYTES, 0) / sizes.length;
  return bitsPerSecond / (8 * meanBytes);
}

/**
 * Frames are numbered by the time they are due, so that two hosts agree on them without a word: the source is sent those
 * until the guest's new place is announced, the destination those from then on. The number gives flow, sequence and
 * size; so the guest itself can tell what is missing over the whole move.
 */
export class NetworkLoad {
  /** Frames given to the card. */
  offered = 0;
  /** Frames that were due and never sent, because this sender had fallen behind. */
  skipped = 0;
  /** Number of the next frame. */
  next = 0;
  readonly #options: LoadOptions;
  readonly #framesPerMs: number;
  readonly #debtMax: number;
  readonly #stations = { destination: guestMac, source: peerMac };
  /** One frame of each size; `#order` says which size comes when. */
  readonly #frames: readonly Uint8Array[];
  readonly #order: Uint8Array;
  /** `next` and `offered` as the last turns left them, in rings. */
  readonly #nextAfter = new Float64Array(TURNS_KEPT);
  readonly #offeredAfter = new Float64Array(TURNS_KEPT);
  #turns = 0;
  #isOn = false;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#framesPerMs = framesPerSecond(options) / 1000;
    this.#debtMax = Math.max(DEBT_FRAMES_MIN, Math.ceil(this.#framesPerMs * DEBT_MS));
    const sizes = sizesOnWire[options.frameBytes];
    const distinct = [...new Set(sizes)];
    this.#frames = distinct.map((bytes) => new Uint8Array(bytes - FCS_BYTES));
    this.#order = Uint8Array.from(sizes, (bytes) => distinct.indexOf(bytes));
  }

  /** From here on frames come to this host; those that were due before went elsewhere. */
  start(nowMs: number): void {
    assert(!this.#isOn, "the network sends here already");
    this.#isOn = this.#framesPerMs > 0;
    this.next = Math.max(this.next, this.#due(nowMs));
  }

  stop(): void {
    this.#isOn = false;
  }

  /** Hands over the frames that are due, at most so many, and says how many. The bytes are good until `take` returns. */
  offer(nowMs: number, framesMax: number, take: (frame: Uint8Array) => void): number {
    if (!this.#isOn) return 0;
    let debt = this.#due(nowMs) - this.next;
    if (debt > this.#debtMax) {
      this.skipped += debt - this.#debtMax;
      this.next += debt - this.#debtMax;
      debt = this.#debtMax;
    }
    const count = Math.max(0, Math.min(debt, framesMax));
    if (count === 0) return 0;
    for (let i = 0; i < count; i++) take(this.#compose(this.next++));
    this.offered += count;
    const turn = this.#turns++ % TURNS_KEPT;
    this.#nextAfter[turn] = this.next;
    this.#offeredAfter[turn] = this.offered;
    return count;
  }

  /** How many of the frames from this number on were offered here, as far back as is remembered. */
  offeredFrom(number: number): number {
    let frames = 0;
    for (let turn = this.#turns - 1; turn > Math.max(0, this.#turns - TURNS_KEPT); turn--) {
      const next = this.#nextAfter[turn % TURNS_KEPT] ?? 0;
      if (next <= number) break;
      const offered = (this.#offeredAfter[turn % TURNS_KEPT] ?? 0) - (this.#offeredAfter[(turn - 1) % TURNS_KEPT] ?? 0);
      frames += Math.min(offered, next - number);
    }
    return frames;
  }

  /** When the next frame is due. */
  get dueMs(): number {
    return this.#isOn ? this.#options.epochMs + this.next / this.#framesPerMs : Infinity;
  }

  #due(nowMs: number): number {
    return Math.floor((nowMs - this.#options.epochMs) * this.#framesPerMs) + 1;
  }

  #compose(number: number): Uint8Array {
    const place = (Math.imul(number, 0x9e37_79b1) >>> 16) % this.#order.length;
    const frame = this.#frames[this.#order[place] as number] as Uint8Array;
    const sequence = Math.floor(number / FLOWS) >>> 0;
    composeFrame(frame, this.#stations, { flow: number % FLOWS, sequence }, this.#options.seed);
    return frame;
  }
}
