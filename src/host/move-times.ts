// How a move went as the source's events tell it: its rounds, how long the guest stood still, and where that time went.
import {
  downtimeParts,
  type DowntimePart,
  type MigrationEvent,
  type QueueCut,
  type RoundSummary,
} from "../migration/events.ts";

export interface ReportedRound extends Omit<RoundSummary, "expectedDowntimeMs"> {
  /** Null while too little was sent to tell. */
  readonly expectedDowntimeMs: number | null;
}

/**
 * From the pause command on the source until the guest's CPUs ran on the destination, in milliseconds. The parts do not
 * overlap: `transfer` is what waiting for the destination took beyond its own `loadMachine` and `loadDevice`. `other` is
 * what no part claims.
 */
export type Downtime = Readonly<Record<"total" | DowntimePart | "other", number>>;

/** A sink of the source's events. */
export class MoveTimes {
  readonly rounds: ReportedRound[] = [];
  cuts: readonly QueueCut[] = [];
  readonly #partsMs = new Map<DowntimePart, number>();
  #beganAtMs: number | undefined;
  #pausedAtMs: number | undefined;
  #runningAtMs: number | undefined;
  #endedAtMs = 0;

  event(event: MigrationEvent): void {
    this.#endedAtMs = event.atMs;
    switch (event.kind) {
      case "phase":
        if (event.phase === "negotiate") this.#beganAtMs = event.atMs;
        return;
      case "round": {
        const { expectedDowntimeMs } = event.summary;
        const isKnown = Number.isFinite(expectedDowntimeMs);
        this.rounds.push({ ...event.summary, expectedDowntimeMs: isKnown ? expectedDowntimeMs : null });
        return;
      }
      case "vcpus-paused":
        this.#pausedAtMs = event.atMs;
        return;
      case "cut":
        this.cuts = event.queues;
        return;
      case "downtime-part":
        this.#partsMs.set(event.part, (this.#partsMs.get(event.part) ?? 0) + event.durationMs);
        return;
      case "running":
        this.#runningAtMs ??= event.atMs;
        return;
      case "round-progress":
      case "device-stopped":
      case "failed":
        return;
    }
  }

  /** The destination says when its guest ran, which is before the source hears of it. */
  ranAt(atMs: number): void {
    this.#runningAtMs = atMs;
  }

  /** From the first word to the last event. */
  get totalMs(): number {
    return this.#endedAtMs - (this.#beganAtMs ?? this.#endedAtMs);
  }

  /**
   * From the pause command until the guest ran; as the source heard it, which is later by the way back, unless `ranAt` was
   * told. Null if the guest never stood still.
   */
  get downtimeMs(): Downtime | null {
    if (this.#pausedAtMs === undefined) return null;
    const part = (name: DowntimePart): number => this.#partsMs.get(name) ?? 0;
    const total = (this.#runningAtMs ?? this.#endedAtMs) - (this.#pausedAtMs - part("pause"));
    const transfer = Math.max(0, part("transfer") - part("loadMachine") - part("loadDevice"));
    const partsMs = Object.fromEntries(downtimeParts.map((name) => [name, part(name)])) as Record<DowntimePart, number>;
    const claimed = downtimeParts.reduce((sum, name) => sum + (name === "transfer" ? transfer : part(name)), 0);
    return { total, ...partsMs, transfer, other: Math.max(0, total - claimed) };
  }
}
