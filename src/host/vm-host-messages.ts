// What a host process can be asked and what it tells: one process has one VM, as the source or as the destination.
import type { ErrorFacts } from "../base/errors.ts";
import type { Mapping } from "../iommu/domain.ts";
import type { VfState } from "../nic/state.ts";
import type { MigrationEvent } from "../migration/events.ts";
import type { GuestKind } from "./guests.ts";
import type { FrameDrops } from "../audit/frame-drops.ts";
import type { TcpAddress } from "./tcp-transport.ts";

export interface VmSettings {
  readonly memoryBytes: number;
  readonly guest: GuestKind;
  readonly cacheDirectory: string;
  readonly mac: string;
  /** The fabric's socket to plug into. */
  readonly cable: string;
  readonly seed: number;
  /** A folder of this run, with a path short enough for sockets. */
  readonly directory: string;
}

export interface MoveSettings {
  readonly to: TcpAddress;
  readonly strategy: string;
  readonly bandwidthBytesPerSecond?: number;
  readonly downtimeLimitMs: number;
  readonly roundsMax: number;
  readonly ifNotConverging: "switch-over" | "give-up";
}

/** What a shell in the guest made of a command. */
export interface GuestCommandResult {
  readonly output: string;
  readonly exitStatus: number;
}

export interface SerializedFailure {
  readonly code: string;
  readonly message: string;
  readonly advice: string;
  readonly facts: ErrorFacts;
}

export type MoveResult =
  | { readonly kind: "completed"; readonly bytesSent: number }
  /** The guest runs on the source. */
  | { readonly kind: "resumed"; readonly failure: SerializedFailure }
  /** Nobody could be asked what became of it; the guest stands still on the source. */
  | { readonly kind: "outcome-unknown"; readonly failure: SerializedFailure };

/** A receive descriptor written back, as the bench sees it. */
export interface Delivery {
  readonly queue: number;
  readonly atMs: number;
}

/** What the source's host knows for the audit. Files are in the run's folder. */
export interface SourceEvidence {
  readonly memoryFile: string;
  readonly ledgerFile: string;
  readonly vfAtPause: VfState;
  /** What the addresses that the VF used meant at the pause, by rising iova; undefined: guest physical ones. */
  readonly mappingsAtPause: readonly Mapping[] | undefined;
  readonly vfAtEnd: VfState;
  /** Last write-back before the vCPUs paused. */
  readonly lastDeliveryBeforePauseMs: number | null;
  /** Write-backs after the pause, in order. */
  readonly deliveriesAfterPause: readonly Delivery[];
  /** Frames completed before the first round. */
  readonly framesBeforeMove: number;
  /** Frames that came from the fabric since the ledger began, and what became of those not written, by cause. */
  readonly framesOffered: number;
  readonly framesDropped: Readonly<Record<string, number>>;
  readonly framesHeld: number;
  /** Frames not written to memory since the first round. */
  readonly framesLostInMove: number;
}

export interface DestinationEvidence {
  readonly memoryFile: string;
  readonly vfAtResume: VfState;
  readonly raisedEveryVector: boolean;
  readonly firstDeliveryMs: number | null;
  /** Frames that its VF could not take since the guest runs here. */
  readonly framesLost: number;
}

export type VmHostMethods = {
  /** Source: boots the guest or starts it from a snapshot, and plugs in its cable. */
  startGuest(settings: VmSettings): Promise<{ cpuDirtyLog: string; tracker: string }>;
  /** Runs a shell command in the guest. */
  runCommand(parameters: { command: string; timeoutMs: number }): Promise<GuestCommandResult>;
  /** Frames from the network that the VF did not write to the guest's memory, by cause, as counted until now. */
  framesDropped(parameters: null): Promise<FrameDrops>;
  /** Source: moves the guest out. Resolves with what became of it; rejects only if it could not begin. */
  moveOut(parameters: MoveSettings): Promise<MoveResult>;
  /** Source: cancels the move under way, if it still can be. */
  cancel(parameters: null): Promise<null>;
  /** Source, after a completed move: the device stops for good. */
  stopDevice(parameters: null): Promise<null>;
  sourceEvidence(parameters: { directory: string }): Promise<SourceEvidence>;
  /** Destination: waits for a source. */
  listen(settings: VmSettings): Promise<TcpAddress>;
  destinationEvidence(parameters: { directory: string }): Promise<DestinationEvidence>;
};

export type VmHostEvent =
  | { readonly kind: "migration"; readonly event: MigrationEvent }
  | { readonly kind: "progress"; readonly text: string };
