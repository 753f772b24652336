// Where the downtime goes: one stopwatch that is handed from part to part.
import { unreachable } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Command } from "../strategy/strategy.ts";
import type { DowntimePart } from "./events.ts";

/** Which part of the downtime a command belongs to; undefined for what happens while the guest still runs. */
export function partOfCommand(command: Command): DowntimePart | undefined {
  switch (command.kind) {
    case "pause-vcpus":
      return "pause";
    case "cut-rings":
    case "drop-rings":
      return "rings";
    case "copy":
      return "pages";
    case "save-device":
      return "saveState";
    case "stop-device":
    case "stop-transmit":
      return undefined;
    default:
      return unreachable(command);
  }
}

/** Reports each stretch of time with its part when the part is left; one that is entered again is reported again. */
export class PartTimer {
  readonly #clock: Clock;
  readonly #report: (part: DowntimePart, durationMs: number) => void;
  #part: DowntimePart | undefined;
  #sinceMs = 0;

  constructor(clock: Clock, report: (part: DowntimePart, durationMs: number) => void) {
    this.#clock = clock;
    this.#report = report;
  }

  enter(part: DowntimePart | undefined): void {
    if (part === this.#part) return;
    this.leave();
    this.#part = part;
    this.#sinceMs = this.#clock.nowMs();
  }

  leave(): void {
    if (this.#part !== undefined) this.#report(this.#part, this.#clock.nowMs() - this.#sinceMs);
    this.#part = undefined;
  }
}
