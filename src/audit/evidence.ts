// What the audit is given: memory of both sides, the ledger, the VF's state, and what the bench knows besides.
import type { VfState } from "../nic/state.ts";
import type { LedgerRecord } from "./ledger-record.ts";
import { VfView } from "./vf-view.ts";

/** What a driver of our own knows about itself at P; a stock driver keeps it to itself. */
export interface DriverView {
  readonly receive: readonly {
    /** The first descriptor the driver has not taken. */
    readonly nextToClean: number;
    /** The driver has seen that descriptor done and has not written its dummy yet. */
    readonly isBetweenCheckAndWrite: boolean;
  }[];
}

/** Frames counted by others than the device, over the ledger's whole life, to hold the ledger against. */
export interface FrameCounters {
  /** Frames the fabric sent towards this VM, each once. */
  readonly offered: number;
  /** Frames that were not delivered, by cause. */
  readonly dropped: Readonly<Record<string, number>>;
  /** Frames the source's device took and has not begun to write, or not finished. */
  readonly heldBySource: number;
  /** Frames among the offered ones that the destination's device took. */
  readonly takenByDestination: number;
}

export interface Evidence {
  /** Bytes per page, a power of two. */
  readonly pageBytes: number;
  /** All of the source's memory after its device wrote last; the vCPUs have not run since P. On a 4-byte boundary. */
  readonly sourceMemory: Uint8Array;
  /** All of the destination's memory as its vCPUs first saw it. On a 4-byte boundary. */
  readonly destinationMemory: Uint8Array;
  readonly ledger: LedgerRecord;
  readonly vfAtPause: VfState;
  /** When the source's device had done its last write. */
  readonly vfAtSourceEnd: VfState;
  /** What the destination's device began with. */
  readonly vfAtResume: VfState;
  /** The destination raised every enabled vector once before or when its vCPUs ran. */
  readonly raisedEveryVector: boolean;
  /** The strategy carries no rings: the driver starts over and looks at no descriptor. */
  readonly droppedRings: boolean;
  /** Guest physical address of an address that the device used at P, or -1. Without it, addresses are the same. */
  readonly translate?: (iova: number) => number;
  /** Unit of SRRCTL.BSIZEPKT: 1024 on hardware and unless said otherwise, less at the explorer's toy scale. */
  readonly bufferUnitBytes?: number;
  readonly driver?: DriverView;
  readonly counters?: FrameCounters;
  /** Migrations of this guest that failed before this one. */
  readonly failedAttempts?: number;
}

/** Evidence with the registers of the three states at hand. */
export interface Examined extends Omit<Evidence, "vfAtPause" | "vfAtSourceEnd" | "vfAtResume"> {
  readonly vfAtPause: VfView;
  readonly vfAtSourceEnd: VfView;
  readonly vfAtResume: VfView;
}

export function examine(evidence: Evidence): Examined {
  return {
    ...evidence,
    vfAtPause: new VfView(evidence.vfAtPause),
    vfAtSourceEnd: new VfView(evidence.vfAtSourceEnd),
    vfAtResume: new VfView(evidence.vfAtResume),
  };
}
