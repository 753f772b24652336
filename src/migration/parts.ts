// What the engine needs of a source VM: the machine, its VF, and those who know what the device writes.
import type { DmaDirtyLog } from "../memory/dirty-log.ts";
import type { PageSet } from "../memory/page-set.ts";
import type { MappedPageTracker } from "../iommu/tracker.ts";
import type { Machine } from "../machine/machine.ts";
import type { Vf82599 } from "../nic/vf82599.ts";
import type { Postings } from "./cut.ts";

/** A tracker that also knows where the rings are and what was posted in them. */
export interface RingTracker extends MappedPageTracker, Postings {
  /** Adds the pages of all enabled descriptor rings and head write-backs. */
  ringPagesInto(into: PageSet): void;
}

/** What the switchover does with the source's VF, and what it asks of it. */
export type MigratableVf = Pick<
  Vf82599,
  "queuePairs" | "rxRing" | "save" | "stop" | "stopTransmit" | "start" | "raiseAllEnabled"
>;

/** What becomes of the destination's VF. */
export type ArrivingVf = Pick<Vf82599, "save" | "restore" | "stop" | "start" | "pfReset" | "raiseAllEnabled">;

export interface MigratableVm {
  readonly machine: Pick<Machine, "kind" | "memory" | "cpuDirtyLog" | "pause" | "resume" | "saveState">;
  readonly vf: MigratableVf;
  readonly tracker: RingTracker;
  readonly deviceLog: Pick<DmaDirtyLog, "fetchAndClear" | "putBack">;
  /** Guest physical address behind an address the device uses, or -1 if the device may not use it. */
  translate(iova: number): number;
}
