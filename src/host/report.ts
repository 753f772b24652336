// The report of a migration: what was asked for, what was measured, and what the audit and the guest say about it.
import type { Corruption, ReceiveCut, TransmitCut, Verdict } from "../audit/verdict.ts";
import type { VIommu } from "../machine/qemu/qemu-command-line.ts";
import type { MachineKind } from "../machine/machine.ts";
import { downtimeParts, type DowntimePart, type MigrationEvent } from "../migration/events.ts";
import type { AssetOverrides } from "./assets.ts";
import { MoveTimes, type Downtime, type ReportedRound } from "./move-times.ts";
import type { LoadOptions } from "./model/network-load.ts";

export const trafficKinds = [
  /** The guest downloads a file over TCP from a server on this host, checks its SHA-256 itself, and answers pings. */
  "download",
  /** The built-in peer sends frames with payloads that both ends verify, and pings. */
  "echo",
  /** Frames at a rate, numbered and proven byte by byte, for a guest that checks each of them: the machine model. */
  "frames",
  /** A link, and nothing on it but what the guest sends by itself. */
  "none",
] as const;
export type TrafficKind = (typeof trafficKinds)[number];

/** What to do when the last allowed round ends and the expected downtime is still above the limit. */
export const notConvergingChoices = ["switch-over", "give-up"] as const;

/** One migration as it was asked for. Every value is checked where it enters; see the command line for the bounds. */
export interface MigrateOptions {
  readonly machine: MachineKind;
  /** Name of a strategy. */
  readonly strategy: string;
  readonly memoryBytes: number;
  readonly traffic: TrafficKind;
  /** With the traffic `frames`: at which rate they come, and of which size. */
  readonly load?: Pick<LoadOptions, "bitsPerSecond" | "frameBytes">;
  /** The switchover begins once it is expected to take no longer than this. */
  readonly downtimeLimitMs: number;
  /** Left out: as fast as it goes. */
  readonly bandwidthBytesPerSecond?: number;
  /** 0 to 2^32 - 1. */
  readonly seed: number;
  /** Where the frames of the run go, as pcapng. */
  readonly captureFile?: string;
  /** Of the machine `qemu`. */
  readonly qemu?: QemuOptions;
  /** Files by hand instead of the fetched ones; kernel and initrd come together. */
  readonly assets: AssetOverrides;
  /** Pre-copy rounds at most, the one that sends all of RAM included. */
  readonly roundsMax: number;
  readonly ifNotConverging: (typeof notConvergingChoices)[number];
}

export interface QemuOptions {
  /** qemu-system-x86_64, instead of the machine's own or the fetched one. */
  readonly program?: string;
  /** The IOMMU that the guest has in front of its VF. */
  readonly iommu: VIommu;
}

/** An event and the side that saw it. Both sides' `atMs` are of one clock. */
export type SidedEvent = MigrationEvent & { readonly side: "source" | "destination" };

/** Frames on their way to the guest, from the first round until the guest ran on the destination. */
export interface FrameCounts {
  /** Reached the guest's driver, on either side. */
  readonly delivered: number;
  /** Never written to memory: no VF was listening, or it had no descriptor. */
  readonly lost: number;
  /** Written to the source's memory, but behind the cut: the guest never sees them. */
  readonly discarded: number;
}

/** What the guest noticed. Null where the traffic asked for has no such thing, or no answer came. */
export interface GuestObservations {
  /** Whether the guest got all of its download. Only then are the two checksums of the same bytes. */
  readonly downloadFinished: boolean | null;
  readonly sha256Expected: string | null;
  /** As computed inside the guest, of what it got. */
  readonly sha256Actual: string | null;
  readonly pingsSent: number | null;
  readonly pingsLost: number | null;
  /** Of a guest that checks every frame. */
  readonly frames: GuestFrames | null;
  /** Why the guest died, if it did. */
  readonly panic: string | null;
  /** Whole sentences. */
  readonly noticed: readonly string[];
}

/** Frames that the guest read since the first round. */
export interface GuestFrames {
  /** Every byte was right. */
  readonly verified: number;
  /** Some byte was wrong. */
  readonly corrupt: number;
  /** Not newer than the newest of their flow. */
  readonly repeated: number;
  /** Left out of the numbers: lost, discarded, never sent, or dropped by the guest's own socket. */
  readonly missing: number;
  /** Those of all that it read on the destination. */
  readonly readAfterMove: number;
}

/** What the network sent of what was asked, while the guest was moved. */
export interface LoadReport {
  readonly askedBitsPerSecond: number;
  readonly reachedBitsPerSecond: number;
  readonly framesSent: number;
  /** Frames that were due and never sent: the sender, which shares this computer with the guest, had no time for them. */
  readonly framesNotSent: number;
}

export const reportVerdicts = [
  "consistent",
  /** Bytes are wrong: in memory, or in what the guest downloaded. */
  "corrupt",
  /** No byte is known to be wrong, but the guest's download never came to its end, or no frame reached it any more. */
  "stalled",
] as const;

/** Keys are stable within a format version. Times are milliseconds, sizes bytes. */
export interface MigrationReport {
  readonly formatVersion: typeof REPORT_FORMAT_VERSION;
  readonly verdict: (typeof reportVerdicts)[number];
  /** Why the verdict is not `consistent`, as sentences; empty if it is. */
  readonly reasons: readonly string[];
  readonly strategy: string;
  readonly machine: MachineKind;
  readonly seed: number;
  readonly memoryBytes: number;
  readonly options: MigrateOptions;
  readonly rounds: readonly ReportedRound[];
  /** The expected downtime came within the limit. Otherwise the last allowed round was followed by a switchover anyway. */
  readonly converged: boolean;
  readonly downtimeMs: Downtime;
  /** Last frame delivered on the source to first on the destination; null if either never was. */
  readonly outageMs: number | null;
  /** First word to the destination until the source let go. */
  readonly totalMs: number;
  readonly bytesSent: number;
  readonly frames: FrameCounts & {
    /** Delivered, and some byte of them is wrong on the destination. */
    readonly stale: number;
    /** Sent by the source's device, and once more by the destination's. */
    readonly sentTwice: number;
  };
  readonly guest: GuestObservations;
  /** Null without the traffic `frames`. */
  readonly load: LoadReport | null;
  /** The first of them; `corruptionTotals` and `hazards` count all. */
  readonly corruptions: readonly Corruption[];
  readonly corruptionTotals: Verdict["totals"];
  /** How often each hazard was found. */
  readonly hazards: Verdict["hazards"];
  /** The points of a legal cut, and how often each is broken. */
  readonly points: Verdict["points"];
  readonly cuts: { readonly receive: readonly ReceiveCut[]; readonly transmit: readonly TransmitCut[] };
  /** How CPU writes were known, and how the device's pages were. */
  readonly methods: { readonly cpuDirtyLog: string; readonly tracker: string };
  readonly verifies: readonly string[];
  readonly doesNotVerify: readonly string[];
  /** Only of a baseline, whose guest QEMU moved alone: nothing of its memory and its frames was audited. */
  readonly baseline?: BaselineMeasures;
}

/** What is measured of a baseline beside the rest, in milliseconds. */
export interface BaselineMeasures {
  /** What QEMU itself calls the downtime (`query-migrate`); `downtimeMs` is from its event STOP to the other's RESUME. */
  readonly qemuDowntimeMs: number;
  /** From the last frame that came through the source's VF to the first through the destination's. Null without VFs. */
  readonly withoutVfMs: number | null;
  /**
   * The longest time without an answer to a ping: before the guest stood still (its VF is unplugged there), around that, and
   * after it from when the VF was there again. Null where there is no VF.
   */
  readonly pingGapsMs: { readonly unplug: number | null; readonly pause: number; readonly plugIn: number | null };
}

export const REPORT_FORMAT_VERSION = 1;

/** What the events do not tell. */
export interface MigrationOutcome {
  readonly audit: Verdict;
  readonly outageMs: number | null;
  readonly bytesSent: number;
  readonly frames: FrameCounts;
  readonly guest: GuestObservations;
  readonly load: LoadReport | null;
  readonly methods: MigrationReport["methods"];
}

const noParts = Object.fromEntries(downtimeParts.map((name) => [name, 0])) as Record<DowntimePart, number>;
const neverDark: Downtime = { total: 0, ...noParts, other: 0 };

/** A sink of the event stream of both sides that ends in a report. */
export class ReportBuilder {
  readonly #options: MigrateOptions;
  readonly #times = new MoveTimes();

  constructor(options: MigrateOptions) {
    this.#options = options;
  }

  event(event: SidedEvent): void {
    if (event.side === "source") this.#times.event(event);
    else if (event.kind === "running") this.#times.ranAt(event.atMs);
  }

  /** The report of a migration that was completed. */
  build(outcome: MigrationOutcome): MigrationReport {
    const { audit, ...measured } = outcome;
    const wrong = whatIsWrong(outcome);
    const stalled = whatStalled(outcome);
    const { strategy, machine, seed, memoryBytes } = this.#options;
    const { rounds, downtimeMs, totalMs } = this.#times;
    return {
      formatVersion: REPORT_FORMAT_VERSION,
      verdict: wrong.length > 0 ? "corrupt" : stalled.length > 0 ? "stalled" : "consistent",
      reasons: [...wrong, ...stalled],
      strategy,
      machine,
      seed,
      memoryBytes,
      options: this.#options,
      rounds,
      converged: (rounds.at(-1)?.expectedDowntimeMs ?? Infinity) <= this.#options.downtimeLimitMs,
      downtimeMs: downtimeMs ?? neverDark,
      outageMs: measured.outageMs,
      totalMs,
      bytesSent: measured.bytesSent,
      frames: { ...measured.frames, stale: audit.frames.stale, sentTwice: audit.frames.sentTwice },
      guest: measured.guest,
      load: measured.load,
      corruptions: audit.corruptions,
      corruptionTotals: audit.totals,
      hazards: audit.hazards,
      points: audit.points,
      cuts: { receive: audit.receive, transmit: audit.transmit },
      methods: measured.methods,
      verifies: audit.verifies,
      doesNotVerify: audit.doesNotVerify,
    };
  }
}

function whatStalled({ guest, load }: MigrationOutcome): string[] {
  const reasons: string[] = [];
  if (guest.downloadFinished === false) reasons.push("The download inside the guest never finished.");
  if (guest.frames?.readAfterMove === 0 && (load?.framesSent ?? 0) > 0) {
    reasons.push("The guest read not one frame on the destination.");
  }
  return reasons;
}

/** The audit has the first word; a guest that found its own data damaged is believed as well. */
function whatIsWrong({ audit, guest }: MigrationOutcome): string[] {
  const reasons: string[] = [];
  if (audit.outcome === "corrupt") {
    reasons.push("The audit found bytes in the destination's memory that are not what the guest has to see.");
  }
  if (guest.downloadFinished === true && guest.sha256Actual !== guest.sha256Expected) {
    reasons.push("The download inside the guest ended with a checksum that is not the file's.");
  }
  if ((guest.frames?.corrupt ?? 0) > 0) reasons.push("The guest read frames with wrong bytes.");
  if ((guest.frames?.repeated ?? 0) > 0) reasons.push("The guest read frames twice, or out of their order.");
  if (guest.panic !== null) reasons.push(`The guest died: ${guest.panic}.`);
  return reasons;
}
