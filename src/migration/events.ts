// The one event stream of a migration: log, progress line, JSON report, recording and page are all sinks of it.
import type { ErrorFacts } from "../base/errors.ts";

export type MigrationPhase =
  /** Hello, offer, accept. */
  | "negotiate"
  /** Rounds while the guest runs. */
  | "pre-copy"
  /** From the strategy's first command to the last byte of state handed to the transport. */
  | "switchover"
  /** The destination loads, says ready, is told to go, and says running. */
  | "hand-over"
  /** The destination runs; the source never will again. */
  | "completed"
  /** The source runs on, with a working NIC. */
  | "resumed"
  /** The link broke after `go`: the source stays paused until the destination's outcome is known. */
  | "outcome-unknown";

/** Where downtime goes. All in milliseconds; the names are the keys of the report's `downtimeMs`. */
export const downtimeParts = [
  /** From the pause command until no vCPU runs. */
  "pause",
  /** Reading and cutting the rings. */
  "rings",
  /** Reading and handing over pages. */
  "pages",
  /** CPU, platform and VF state saved on the source. */
  "saveState",
  /** Until the destination has everything loaded and says so; what it did is in the three below. */
  "transfer",
  /** Destination: machine state loaded. */
  "loadMachine",
  /** Destination: VF state loaded. */
  "loadDevice",
  /** From `go` until the destination's vCPUs run. */
  "resume",
] as const;
export type DowntimePart = (typeof downtimeParts)[number];

export interface RoundSummary {
  /** 1 sends all of RAM. */
  readonly round: number;
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytes: number;
  readonly durationMs: number;
  /** Pages known dirty when the round ended. */
  readonly dirtyAfter: number;
  readonly bytesPerSecond: number;
  /** What a switchover now is expected to cost. */
  readonly expectedDowntimeMs: number;
}

/** One receive queue at switchover. Descriptors are indices into the ring. */
export interface QueueCut {
  readonly queue: number;
  /** The head at the pause. */
  readonly headAtPause: number;
  /** Where the destination's device goes on. */
  readonly head: number;
  readonly tail: number;
  /** Descriptors that the image shows as done although the CPUs had paused: frames that came along. */
  readonly carried: number;
  /** Done descriptors that were turned back into posted ones. */
  readonly turnedBack: number;
  /** The destination's device owes the driver the end of a frame that it had begun before the pause. */
  readonly frameInProgress: boolean;
}

export type MigrationEvent = { readonly atMs: number } & (
  | { readonly kind: "phase"; readonly phase: MigrationPhase }
  | {
      readonly kind: "round-progress";
      readonly round: number;
      readonly pagesDone: number;
      readonly pagesTotal: number;
      readonly bytes: number;
    }
  | { readonly kind: "round"; readonly summary: RoundSummary }
  /** No vCPU of the source runs from here on. */
  | { readonly kind: "vcpus-paused" }
  | { readonly kind: "device-stopped" }
  | { readonly kind: "cut"; readonly queues: readonly QueueCut[] }
  | { readonly kind: "downtime-part"; readonly part: DowntimePart; readonly durationMs: number }
  /** The destination's vCPUs run (on the destination: before its last word; on the source: on hearing it). */
  | { readonly kind: "running" }
  | { readonly kind: "failed"; readonly code: string; readonly message: string; readonly facts: ErrorFacts }
);

export type MigrationEventSink = (event: MigrationEvent) => void;
