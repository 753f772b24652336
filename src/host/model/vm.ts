// A model guest with its VF at full speed: who gets the thread when, and what the guest does with its own time.
import type { Clock } from "../../base/clock.ts";
import { SeededRandom } from "../../base/random.ts";
import type { Cooperation } from "../../machine/model/cooperation.ts";
import { hasRightChecksums, readFrame } from "../../machine/model/frames.ts";
import { ModelHost } from "../../machine/model/host.ts";
import { NetworkLoad, type LoadOptions } from "./network-load.ts";

/** What both hosts of a move have to agree on. */
export interface ModelVmSettings {
  readonly memoryBytes: number;
  /** Of payloads and of the order in which the parts get their turns. */
  readonly seed: number;
  /** What the guest's driver does for the strategy. */
  readonly cooperation: Cooperation;
  /** What the network sends; left out, nothing. */
  readonly load?: Pick<LoadOptions, "bitsPerSecond" | "frameBytes">;
  /** When the network's first frame was due, on the clock of all hosts. */
  readonly epochMs: number;
}

const PAGE_BYTES = 4096;
/** As ixgbevf has them: rings of two pages each. */
const DESCRIPTORS = 512;
export const QUEUE_PAIRS = 2;
const SOCKET_FRAMES = 256;
const SENT_FRAME_BYTES = 600;

/** What a turn does at most, so that whoever asks for something is heard soon. */
const FRAMES_PER_TURN = 64;
const BATCHES_PER_TURN = 16;
const BEATS_PER_BATCH_MAX = 48;
const STEPS_PER_BATCH_MAX = 96;
/** Apart from reading, the application does so much: one write to a page of its own, and one frame sent, every 4 steps. */
const APPLICATION_STEPS_PER_MS = 8;
const APPLICATION_DEBT_MAX = 64;
/** Shorter than that, the host's own timers are of no use. */
const SLEEP_MS_MIN = 0.05;
const SLEEP_MS_MAX = 1;

/** The time of the current turn: asked for with every write-back, and none of them wants it to the microsecond. */
class TurnClock implements Clock {
  readonly #clock: Clock;
  #nowMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#nowMs = clock.nowMs();
  }

  nowMs(): number {
    return this.#nowMs;
  }

  tick(): number {
    this.#nowMs = this.#clock.nowMs();
    return this.#nowMs;
  }
}

/**
 * Network, device, driver and application of one VM, turn about on one thread, in batches of random length: so a frame
 * may arrive, or a descriptor be written back, between any two steps of the driver. Whoever copies the memory meanwhile
 * does so on another thread, and is waited for by nobody.
 */
export class ModelVm {
  readonly host: ModelHost;
  readonly load: NetworkLoad;
  readonly clock: TurnClock;
  /** Frames that the guest sent, and those of them that were not as the guest had made them. */
  readonly outgoing = { frames: 0, wrong: 0 };
  readonly #random: SeededRandom;
  readonly #take = (frame: Uint8Array): void => this.host.vf.receiveFrame(frame);
  #applicationSinceMs = 0;

  constructor(settings: ModelVmSettings, memory: SharedArrayBuffer, clock: Clock) {
    const { memoryBytes, seed, cooperation, epochMs, load } = settings;
    this.clock = new TurnClock(clock);
    this.#random = new SeededRandom(seed);
    this.load = new NetworkLoad({ bitsPerSecond: 0, frameBytes: "64", ...load, seed, epochMs });
    this.host = new ModelHost({
      memoryBytes,
      buffer: memory,
      clock: this.clock,
      pageBytes: PAGE_BYTES,
      queuePairs: QUEUE_PAIRS,
      receiveDescriptors: DESCRIPTORS,
      transmitDescriptors: DESCRIPTORS,
      socketFrames: SOCKET_FRAMES,
      sentFrameBytes: SENT_FRAME_BYTES,
      applicationPages: memoryBytes / PAGE_BYTES / 4,
      cooperation,
      seed,
      uplink: { frame: (bytes) => this.#sent(bytes) },
    });
  }

  #sent(bytes: Uint8Array): void {
    this.outgoing.frames++;
    const isRight = hasRightChecksums(bytes) && readFrame(bytes, this.host.machine.layout.seed) !== undefined;
    if (!isRight) this.outgoing.wrong++;
  }

  /** Boots a guest whose application has its memory full of something, and lets the network in. */
  boot(): void {
    const { machine } = this.host;
    const { applicationStart, applicationBytes } = machine.layout;
    const words = machine.memory.words().subarray(applicationStart >>> 2, (applicationStart + applicationBytes) >>> 2);
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e37_79b1);
    void machine.resume();
    this.host.settle();
    this.load.start(this.clock.tick());
  }

  /** Everybody does a little, less if somebody is waiting. False when there was nothing to do. */
  turn(isAwaited: () => boolean): boolean {
    const nowMs = this.clock.tick();
    let isBusy = this.load.offer(nowMs, FRAMES_PER_TURN, this.#take) > 0;
    for (let batch = 0; batch < BATCHES_PER_TURN && !isAwaited(); batch++) {
      const device = this.#runDevice(1 + this.#random.below(BEATS_PER_BATCH_MAX));
      const guest = this.#runGuest(1 + this.#random.below(STEPS_PER_BATCH_MAX));
      if (!device && !guest) break;
      isBusy = true;
    }
    return this.#runApplication(nowMs) || isBusy;
  }

  #runDevice(beats: number): boolean {
    const { vf } = this.host;
    if (!vf.hasWork) return false;
    for (let i = 0; i < beats && vf.step(); i++);
    return true;
  }

  /** The application reads whatever the driver gives it, at once. */
  #runGuest(steps: number): boolean {
    const { machine } = this.host;
    if (machine.isPaused) return false;
    let i = 0;
    while (i < steps && machine.step("driver")) i++;
    while (machine.readSocket());
    return i > 0;
  }

  #runApplication(nowMs: number): boolean {
    const { machine } = this.host;
    const due = Math.floor((nowMs - this.#applicationSinceMs) * APPLICATION_STEPS_PER_MS);
    if (due <= 0 || machine.isPaused) return false;
    this.#applicationSinceMs = nowMs;
    for (let i = Math.min(due, APPLICATION_DEBT_MAX); i > 0; i--) machine.step("application");
    return true;
  }

  /** How long nobody wants a turn. */
  get restMs(): number {
    const wakeMs = Math.min(this.load.dueMs, this.host.vf.deadlineMs()) - this.clock.nowMs();
    return Math.max(SLEEP_MS_MIN, Math.min(SLEEP_MS_MAX, wakeMs));
  }
}
