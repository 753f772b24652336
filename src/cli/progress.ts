// Progress on stderr: stages, one line per round that is alive while the round runs, and the switchover.
import type { Clock } from "../base/clock.ts";
import type { SidedEvent } from "../host/report.ts";
import type { MigrationPhase, RoundSummary } from "../migration/events.ts";
import type { Terminal } from "./environment.ts";
import { bar } from "./layout.ts";
import { LiveLines } from "./live-lines.ts";
import { formatBytes, formatCount, formatMs, formatRate } from "./quantities.ts";

const REDRAW_MS = 100;
const BAR_CELLS = 16;

type RoundProgress = Extract<SidedEvent, { kind: "round-progress" }>;

/**
 * A sink of the event stream. On a terminal the last line is rewritten in place until what it tells of is over; elsewhere
 * nothing is ever rewritten, and a line comes when something begins (a stage) or is over (a round).
 */
export class Progress {
  readonly #terminal: Terminal;
  readonly #clock: Clock;
  readonly #lines: LiveLines;
  #stage: { readonly text: string; readonly sinceMs: number } | undefined;
  #drawnAtMs = Number.NEGATIVE_INFINITY;
  #roundBeganAtMs = 0;
  #lastRound: RoundSummary | undefined;
  #ranOnDestination = false;

  constructor(terminal: Terminal, clock: Clock) {
    this.#terminal = terminal;
    this.#clock = clock;
    this.#lines = new LiveLines(terminal);
  }

  /** What is being done until the next stage or event. */
  stage(text: string): void {
    this.#endStage();
    this.#stage = { text, sinceMs: this.#clock.nowMs() };
    if (this.#terminal.isTTY) this.tick();
    else this.#lines.permanent(text);
  }

  /** Keeps the clock on a living stage going; called a few times a second. */
  tick(): void {
    if (this.#stage === undefined || !this.#terminal.isTTY) return;
    const elapsedMs = this.#clock.nowMs() - this.#stage.sinceMs;
    this.#lines.draw(elapsedMs < 1000 ? this.#stage.text : `${this.#stage.text}  ${formatMs(elapsedMs)}`);
  }

  event(event: SidedEvent): void {
    switch (event.kind) {
      case "phase":
        if (event.side === "source") this.#phase(event.phase, event.atMs);
        return;
      case "round-progress":
        this.#roundProgress(event);
        return;
      case "round":
        this.#endStage();
        this.#lines.permanent(this.#roundLine(event.summary));
        this.#lastRound = event.summary;
        this.#roundBeganAtMs = event.atMs;
        return;
      case "running":
        // Both sides say so, the destination because it does and the source because it heard.
        if (!this.#ranOnDestination) this.#lines.permanent("switchover  the guest runs on the destination");
        this.#ranOnDestination = true;
        return;
      case "failed":
        if (event.side === "source") this.#lines.permanent(`${this.#terminal.colors.red("failed")}  ${event.message}`);
        return;
      case "vcpus-paused":
      case "device-stopped":
      case "cut":
      case "downtime-part":
        return;
    }
  }

  /** Something a person should know now. */
  note(text: string): void {
    this.#lines.permanent(this.#terminal.colors.yellow(text));
  }

  /** Leaves the terminal as it should be for whatever is printed next. */
  end(): void {
    this.#endStage();
    this.#lines.end();
  }

  #phase(phase: MigrationPhase, atMs: number): void {
    switch (phase) {
      case "negotiate":
        this.#endStage();
        return;
      case "pre-copy":
        this.#roundBeganAtMs = atMs;
        return;
      case "switchover":
        this.#endStage();
        this.#lines.draw("switchover");
        return;
      case "resumed":
        this.#lines.permanent("The guest runs on, on the source.");
        return;
      case "outcome-unknown":
        this.note("The link broke after the destination was told to go; whether the guest runs there is not known.");
        return;
      case "hand-over":
      case "completed":
        return;
    }
  }

  #roundProgress(event: RoundProgress): void {
    if (!this.#terminal.isTTY || event.atMs - this.#drawnAtMs < REDRAW_MS) return;
    this.#endStage();
    this.#drawnAtMs = event.atMs;
    const done = event.pagesTotal === 0 ? 0 : Math.min(1, event.pagesDone / event.pagesTotal);
    const { unicode } = this.#terminal;
    const filled = bar(done * BAR_CELLS, unicode);
    const rate = (event.bytes * 1000) / Math.max(1, event.atMs - this.#roundBeganAtMs);
    const parts = [
      `round ${event.round}`.padEnd(8),
      filled + (unicode ? "░" : ".").repeat(Math.max(0, BAR_CELLS - filled.length)),
      `${formatCount(event.pagesDone)}/${formatCount(event.pagesTotal)} pages`,
      formatRate(rate),
    ];
    if (this.#lastRound !== undefined) parts.push(...outlook(this.#lastRound));
    this.#lines.draw(this.#fitting(parts, []));
  }

  #roundLine(round: RoundSummary): string {
    const parts = [
      `round ${round.round}`.padEnd(8),
      `${formatCount(round.pages + round.zeroPages).padStart(7)} pages`,
      formatBytes(round.bytes).padStart(8),
      formatMs(round.durationMs).padStart(7),
      formatRate(round.bytesPerSecond).padStart(11),
      ...outlook(round),
    ];
    return this.#fitting(parts, [3, 2]);
  }

  /** Joins the parts, without those that may be missed first if the line would be too long. */
  #fitting(parts: readonly string[], droppable: readonly number[]): string {
    let kept = parts;
    for (const index of droppable) {
      if (kept.join("  ").length + 2 < this.#terminal.columns) break;
      kept = kept.filter((part) => part !== parts[index]);
    }
    return kept.join("  ");
  }

  #endStage(): void {
    const stage = this.#stage;
    this.#stage = undefined;
    if (stage === undefined || !this.#terminal.isTTY) return;
    const elapsed = this.#terminal.colors.dim(formatMs(this.#clock.nowMs() - stage.sinceMs));
    this.#lines.permanent(`${stage.text}  ${elapsed}`);
  }
}

/** What is left to do after a round, and what leaving it to the switchover would cost. */
function outlook(round: RoundSummary): string[] {
  const dirty = `${formatCount(round.dirtyAfter).padStart(6)} dirty`;
  const { expectedDowntimeMs } = round;
  return Number.isFinite(expectedDowntimeMs) ? [dirty, `switchover now: ${formatMs(expectedDowntimeMs)}`] : [dirty];
}
