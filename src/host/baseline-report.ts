// The report of a baseline: the same as of a strategy, with what the guest saw in place of an audit of its memory.
import { assert } from "../base/assert.ts";
import type { Verdict } from "../audit/verdict.ts";
import type { MigrationPass, PlainMigration } from "../machine/qemu/plain-migration.ts";
import type { PingReport } from "../network/ping-log.ts";
import { hostClock } from "./clock.ts";
import type { Fabric } from "./fabric.ts";
import type { MigrationSinks } from "./hosts.ts";
import type { PairedVf } from "./paired-vf.ts";
import {
  ReportBuilder,
  type BaselineMeasures,
  type GuestObservations,
  type MigrateOptions,
  type MigrationReport,
  type SidedEvent,
} from "./report.ts";
import { PING } from "./traffic.ts";

export interface BaselineOutcome {
  readonly guest: GuestObservations;
  readonly fabric: Fabric;
  readonly source: PairedVf | undefined;
  readonly destination: PairedVf | undefined;
}

/** So much of the time before is looked at with what follows: a gap has two ends. */
const BEFORE_MS = 100;

/** QEMU's events carry the time of day; all others here the host's monotonic clock. */
const fromTimeOfDay = (atMs: number): number => atMs + hostClock.nowMs() - (performance.timeOrigin + performance.now());

/** A sink of what QEMU says of its migration, which it passes on as the events of any other, that ends in a report. */
export class BaselineReport {
  readonly #builder: ReportBuilder;
  readonly #sinks: MigrationSinks;
  #beganAtMs = 0;
  #passBeganAtMs = 0;
  #moved: { readonly stoppedAtMs: number; readonly resumedAtMs: number; readonly by: PlainMigration } | undefined;

  constructor(options: MigrateOptions, sinks: MigrationSinks) {
    this.#builder = new ReportBuilder(options);
    this.#sinks = sinks;
  }

  begins(): void {
    const atMs = hostClock.nowMs();
    this.#beganAtMs = atMs;
    this.#passBeganAtMs = atMs;
    this.#event({ kind: "phase", phase: "negotiate", side: "source", atMs });
    this.#event({ kind: "phase", phase: "pre-copy", side: "source", atMs });
  }

  pass({ pass, expectedDowntimeMs, ...sent }: MigrationPass): void {
    const atMs = hostClock.nowMs();
    const durationMs = atMs - this.#passBeganAtMs;
    this.#passBeganAtMs = atMs;
    const summary = {
      round: pass,
      ...sent,
      durationMs,
      bytesPerSecond: (sent.bytes * 1000) / Math.max(1, durationMs),
      expectedDowntimeMs: expectedDowntimeMs ?? Infinity,
    };
    this.#event({ kind: "round", summary, side: "source", atMs });
  }

  moved(by: PlainMigration): void {
    const stoppedAtMs = fromTimeOfDay(by.stoppedAtMs);
    const resumedAtMs = fromTimeOfDay(by.resumedAtMs);
    this.#moved = { stoppedAtMs, resumedAtMs, by };
    this.#event({ kind: "vcpus-paused", side: "source", atMs: stoppedAtMs });
    this.#event({ kind: "running", side: "destination", atMs: resumedAtMs });
    this.#event({ kind: "phase", phase: "completed", side: "source", atMs: this.#beganAtMs + by.totalMs });
  }

  /** Once the traffic has ended, pings and all. */
  async build(outcome: BaselineOutcome): Promise<MigrationReport> {
    const moved = this.#moved;
    assert(moved !== undefined, "there is a report only of a guest that moved");
    const pings = (sentFromMs: number, sentBeforeMs?: number): Promise<PingReport> =>
      outcome.fabric.call("pingReport", {
        name: PING.name,
        sentFromMs,
        ...(sentBeforeMs === undefined ? {} : { sentBeforeMs }),
      });
    const baseline = await this.#measures(outcome, pings, moved.stoppedAtMs);
    const report = this.#builder.build({
      audit: notAudited,
      outageMs: (await pings(this.#beganAtMs - BEFORE_MS)).longestGapMs,
      bytesSent: moved.by.bytesSent,
      frames: { delivered: 0, lost: 0, discarded: 0 },
      guest: outcome.guest,
      load: null,
      methods: { cpuDirtyLog: "QEMU's own", tracker: "none" },
    });
    const answersAfter = (await pings(moved.resumedAtMs)).answered;
    const lacksVf = outcome.destination?.deliveries.firstMs === null;
    return { ...report, ...verdictOf(report, { answersAfter, lacksVf }), baseline };
  }

  async #measures(
    { source, destination }: BaselineOutcome,
    pings: (fromMs: number, beforeMs?: number) => Promise<PingReport>,
    stoppedAtMs: number,
  ): Promise<BaselineMeasures> {
    const lastMs = source?.deliveries.lastMs ?? null;
    const firstMs = destination?.deliveries.firstMs ?? null;
    const takenAtMs = destination?.takesFramesFromMs;
    const unplug = await pings(this.#beganAtMs - BEFORE_MS, stoppedAtMs);
    const pause = await pings(stoppedAtMs - BEFORE_MS, takenAtMs);
    const plugIn = takenAtMs === undefined ? null : await pings(takenAtMs - BEFORE_MS);
    return {
      qemuDowntimeMs: this.#moved?.by.downtimeMs ?? 0,
      withoutVfMs: lastMs === null || firstMs === null ? null : firstMs - lastMs,
      pingGapsMs: {
        unplug: source === undefined ? null : unplug.longestGapMs,
        pause: pause.longestGapMs,
        plugIn: plugIn?.longestGapMs ?? null,
      },
    };
  }

  #event(event: SidedEvent): void {
    this.#builder.event(event);
    this.#sinks.onEvent(event);
  }
}

/** Nobody looked at memory; a guest that the network does not reach any more, or not by its VF, has not arrived. */
export function verdictOf(
  { verdict, reasons }: Pick<MigrationReport, "verdict" | "reasons">,
  seen: { readonly answersAfter: number; readonly lacksVf: boolean },
): Pick<MigrationReport, "verdict" | "reasons"> {
  const stalled = [
    ...(seen.answersAfter === 0 ? ["The guest answered no ping after the move."] : []),
    ...(seen.lacksVf ? ["No frame came to the guest through a VF after the move."] : []),
  ];
  const isStalled = verdict === "consistent" && stalled.length > 0;
  return { verdict: isStalled ? "stalled" : verdict, reasons: [...reasons, ...stalled] };
}

const notAudited: Verdict = {
  outcome: "consistent",
  points: [],
  receive: [],
  transmit: [],
  frames: { delivered: 0, discarded: 0, unfinished: 0, dropped: {}, sentTwice: 0, stale: 0 },
  corruptions: [],
  totals: { corruptions: 0, frames: 0, pages: 0, bytes: 0 },
  hazards: {},
  excusedBytes: 0,
  verifies: [
    "What the guest downloaded while it was moved, by a checksum computed inside; or its echoes, byte by byte.",
    "That the guest answers pings after the move.",
  ],
  doesNotVerify: [
    "Memory: QEMU moved all of it by itself, and nobody compared a byte of it.",
    "Rings and the VF: there was no VF to move.",
    "Frames one by one: nobody counted them. The outage is the longest time without an answer to a ping, 10 ms apart.",
  ],
};
