// The VF of a failover pair: served for a QEMU that takes it when the guest can do with two cards, and lets go of it.
import type { Native } from "../machine/qemu/native.ts";
import { ServedVm } from "../machine/qemu/served-vm.ts";
import { hostClock } from "./clock.ts";
import { DeliveryClock } from "./delivery-clock.ts";
import { DeviceRunner } from "./device-runner.ts";
import type { PairedUplink } from "./paired-uplink.ts";

export interface PairedVfOptions {
  readonly socketPath: string;
  readonly mac: string;
  readonly uplink: PairedUplink;
  readonly native: Native;
}

const LOOK_INTERVAL_MS = 5;

export class PairedVf {
  /** When frames reached the guest through it. */
  readonly deliveries: DeliveryClock;
  readonly #served: ServedVm;
  readonly #runner: DeviceRunner;
  readonly #looking = setInterval(() => this.#look(), LOOK_INTERVAL_MS);
  #takesFramesFromMs: number | undefined;

  /** Rejects as ServedVm. */
  static async serve({ socketPath, mac, uplink, native }: PairedVfOptions): Promise<PairedVf> {
    const deliveries = new DeliveryClock(hostClock);
    const served = await ServedVm.listen({
      socketPath,
      mac,
      uplink: uplink.fromVf,
      clock: hostClock,
      native,
      // Each client has memory of its own.
      onClient: ({ kind }) => {
        if (kind === "memory-shared") served.shared?.dma.addObserver(deliveries);
      },
    });
    const paired = new PairedVf(served, deliveries);
    uplink.vfTakesFrames = () => paired.#takesFrames;
    uplink.toVf = (frame) => served.vf.receiveFrame(frame);
    return paired;
  }

  private constructor(served: ServedVm, deliveries: DeliveryClock) {
    this.#served = served;
    this.deliveries = deliveries;
    this.#runner = new DeviceRunner(served.vf, hostClock);
  }

  /** When its driver first took frames, as seen every few milliseconds. */
  get takesFramesFromMs(): number | undefined {
    return this.#takesFramesFromMs;
  }

  get #takesFrames(): boolean {
    return this.#served.vf.rxRing(0).enabled;
  }

  #look(): void {
    if (!this.#takesFrames) return;
    this.#takesFramesFromMs = hostClock.nowMs();
    clearInterval(this.#looking);
  }

  async close(): Promise<void> {
    clearInterval(this.#looking);
    this.#runner.close();
    await this.#served.close();
  }
}
