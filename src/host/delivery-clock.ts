// When receive descriptors were written back: for the outage, which is about frames and not about CPUs.
import type { Clock } from "../base/clock.ts";
import { DmaPurpose, tagPurpose, tagQueue, type DmaObserver } from "../iommu/dma-port.ts";
import type { Delivery } from "./vm-host-messages.ts";

/** After a pause the driver posts nothing, so the rings bound what is kept; this is above any ring. */
const DELIVERIES_MAX = 8 * 4096;

export class DeliveryClock implements DmaObserver {
  /** The first and the last write-back outside a pause. */
  firstMs: number | null = null;
  lastMs: number | null = null;
  readonly #clock: Clock;
  #sincePause: Delivery[] | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get sincePause(): readonly Delivery[] {
    return this.#sincePause ?? [];
  }

  markVcpusPaused(): void {
    this.#sincePause = [];
  }

  /** The vCPUs run on: what came during the pause counts like anything else. */
  markVcpusResumed(): void {
    this.lastMs = this.#sincePause?.at(-1)?.atMs ?? this.lastMs;
    this.#sincePause = undefined;
  }

  after(_address: number, _length: number, tag: number): void {
    if (tagPurpose(tag) !== DmaPurpose.rxWriteBack) return;
    const atMs = this.#clock.nowMs();
    if (this.#sincePause === undefined) {
      this.firstMs ??= atMs;
      this.lastMs = atMs;
    } else if (this.#sincePause.length < DELIVERIES_MAX) {
      this.#sincePause.push({ queue: tagQueue(tag), atMs });
    }
  }
}
