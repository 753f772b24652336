// Two hosts, a network and a link between them, where one seed decides who does the next small thing.
import { ManualClock } from "../../src/base/clock.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { tagRelaxedOrdering } from "../../src/iommu/dma-port.ts";
import type { LandingChooser } from "../../src/iommu/posted-writes.ts";
import { PROVEN_FRAME_BYTES_MIN } from "../../src/machine/model/frames.ts";
import { ModelHost, type ModelHostOptions } from "../../src/machine/model/host.ts";

const FLOWS = 4;
/** A move takes some thousands of turns; who has not come to an end after this many never will. */
const TURNS_MAX = 200_000;

/** How the turns are shared out: bigger is more often. */
interface Shares {
  readonly frame: number;
  readonly device: number;
  readonly driver: number;
  readonly application: number;
  readonly landing: number;
  readonly delivery: number;
}

type Action = keyof Shares;
const actions: readonly Action[] = ["frame", "device", "driver", "application", "landing", "delivery"];

/** The next write to land: the oldest, or now and then one that may overtake (PCIe relaxed ordering). */
export function landingBy(random: SeededRandom): LandingChooser {
  return (inFlight) => {
    const index = random.below(inFlight.length);
    return tagRelaxedOrdering(inFlight[index]?.tag ?? 0) ? index : 0;
  };
}

/**
 * Hosts are added as they come into being; the network sends frames for the guest to `receiver`. Guests that are paused
 * and devices that are stopped let their turns pass. Nothing here knows of migrations.
 */
export class World {
  readonly seed: number;
  readonly random: SeededRandom;
  readonly clock = new ManualClock(1000);
  readonly hostOptions: ModelHostOptions;
  readonly hosts: ModelHost[] = [];
  receiver: ModelHost;
  /** Frames offered to each host. */
  readonly offered = new Map<ModelHost, number>();
  /** Chunks on their way from one end of a link to the other. */
  readonly #deliveries: (() => void)[] = [];
  readonly #sequences: number[] = Array.from({ length: FLOWS }, () => 0);
  readonly #frameBytesMax: number;
  #shares: Shares;

  constructor(seed: number, hostOptions: ModelHostOptions) {
    this.seed = seed;
    this.random = new SeededRandom(Math.imul(seed, 0x9e37_79b1) ^ 0x5bd1_e995);
    this.random.u32();
    this.hostOptions = { ...hostOptions, clock: this.clock, seed };
    this.receiver = this.addHost();
    this.#frameBytesMax = Math.min(1500, 5 * this.receiver.machine.layout.bufferBytes);
    this.#shares = this.#drawShares();
  }

  addHost(): ModelHost {
    const host = new ModelHost(this.hostOptions);
    this.hosts.push(host);
    return host;
  }

  /** Sometimes the device is far ahead of the driver, sometimes the application leaves everything lying about. */
  #drawShares(): Shares {
    const { random } = this;
    return {
      frame: 1 + random.below(4),
      device: 4 + random.below(16),
      driver: 2 + random.below(16),
      application: 1 + random.below(6),
      landing: 1 + random.below(12),
      delivery: 1 + random.below(8),
    };
  }

  /** A delivery of a memory transport, for when its turn comes. */
  readonly defer = (deliver: () => void): void => {
    this.#deliveries.push(deliver);
  };

  /** One small thing. False when whoever's turn it was had nothing to do. */
  turn(): boolean {
    this.clock.advance(0.01);
    return this.#do(this.#draw());
  }

  /** Something happens everywhere but on the link, up to so many times: the device and the guest race the engine. */
  race(turnsMax: number): void {
    for (let left = this.random.below(turnsMax + 1); left > 0; left--) {
      const action = this.#draw();
      if (action !== "delivery") this.#do(action);
    }
  }

  #draw(): Action {
    const shares = this.#shares;
    let dice = this.random.below(actions.reduce((sum, action) => sum + shares[action], 0));
    for (const action of actions) {
      dice -= shares[action];
      if (dice < 0) return action;
    }
    return "delivery";
  }

  #do(action: Action): boolean {
    switch (action) {
      case "frame":
        return this.#sendFrame();
      case "device":
        return this.#each((host) => host.vf.step());
      case "driver":
        return this.#each((host) => !host.machine.isPaused && host.machine.step("driver"));
      case "application":
        return this.#each((host) => !host.machine.isPaused && host.machine.step("application"));
      case "landing":
        return this.#each((host) => host.posted?.step() ?? false);
      case "delivery":
        return this.#deliver();
      default:
        return action satisfies never;
    }
  }

  #each(act: (host: ModelHost) => boolean): boolean {
    let hasActed = false;
    for (const host of this.hosts) if (act(host)) hasActed = true;
    return hasActed;
  }

  #deliver(): boolean {
    const deliver = this.#deliveries.shift();
    deliver?.();
    return deliver !== undefined;
  }

  #sendFrame(): boolean {
    this.offerFrame(this.random.below(FLOWS));
    return true;
  }

  /** The next frame of a flow, of any length. */
  offerFrame(flow: number): void {
    const sequence = this.#sequences[flow] ?? 0;
    this.#sequences[flow] = sequence + 1;
    const span = this.#frameBytesMax - PROVEN_FRAME_BYTES_MIN;
    const lengthBytes =
      PROVEN_FRAME_BYTES_MIN + this.random.below(1 + (this.random.chance(0.3) ? span : Math.min(span, 40)));
    this.offered.set(this.receiver, (this.offered.get(this.receiver) ?? 0) + 1);
    this.receiver.offer({ flow, sequence }, lengthBytes);
  }

  get flows(): number {
    return FLOWS;
  }

  /** Takes turns until the promise has settled. */
  async until<Result>(promise: Promise<Result>): Promise<Result> {
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      await reactionsRun();
      if (isSettled) return await promise;
      this.turn();
    }
    throw new Error(`seed ${this.seed}: somebody waits for ever`);
  }

  /** Delivers what is on the links, and lets everybody finish what they began. */
  async settle(): Promise<void> {
    do {
      while (this.#deliver()) await reactionsRun();
      for (const host of this.hosts) this.#settleHost(host);
      await reactionsRun();
    } while (this.#deliveries.length > 0);
  }

  #settleHost(host: ModelHost): void {
    if (!host.machine.isPaused) host.settle();
    else host.vf.run();
    host.posted?.flush();
  }
}

/** Every promise that can react now has reacted. */
function reactionsRun(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
