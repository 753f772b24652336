// A guest as a host has it, whatever machine it runs in: the parts that move, the console, and what a move begins with.
import type { Clock } from "../base/clock.ts";
import type { Mapping } from "../iommu/domain.ts";
import type { GuestDma } from "../iommu/guest-dma.ts";
import type { Console } from "../machine/machine.ts";
import type { PreparedVm } from "../migration/destination.ts";
import type { ArrivingVf, MigratableVm, RingTracker } from "../migration/parts.ts";
import type { FrameSink } from "../nic/ports.ts";
import type { Vf82599 } from "../nic/vf82599.ts";

/** What every kind of guest is made with. */
export interface HostedGuestOptions {
  readonly memoryBytes: number;
  readonly cacheDirectory: string;
  /** The VF's address, given by its PF. */
  readonly mac: string;
  readonly seed: number;
  /** A folder of this run, with a path short enough for sockets. */
  readonly directory: string;
  /** Where the VF's frames go. */
  readonly uplink: FrameSink;
  readonly clock: Clock;
  readonly onProgress?: (text: string) => void;
}

export interface HostedGuest extends MigratableVm {
  readonly machine: MigratableVm["machine"] & PreparedVm["machine"] & { readonly isPaused: boolean };
  readonly vf: Vf82599;
  /** The same VF, for who restores it. */
  readonly arriving: ArrivingVf;
  /** What its VF writes memory through. */
  readonly dma: Pick<GuestDma, "addObserver">;
  readonly tracker: RingTracker;
  readonly console: Console;
  /** What the addresses that the VF uses mean now; left out where they are guest physical ones. */
  readonly mappings?: () => readonly Mapping[];
  readonly machineStateVersion: number;
  /** Aborted, with an OperationError, when the guest has died under us. */
  readonly lost?: AbortSignal;
  /** On the source, while the guest runs: what takes too long for a guest that stands still. Gives an offer's hint. */
  prepareMove(): Promise<string | undefined>;
  /** On the destination, with that hint, before the source sends anything. */
  prepareArrival(machineHint: string | undefined): Promise<void>;
  /** On the source: the guest runs elsewhere, and never again here. */
  finishMove(): Promise<void>;
  /** Ends the guest. */
  close(): Promise<void>;
}
