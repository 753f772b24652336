// Progress of a search on stderr: a living line for each strategy under way, and a line that stays for each decided one.
import type { Clock } from "../base/clock.ts";
import type { Progress } from "../explore/explore.ts";
import type { Decided } from "../host/explore-threads.ts";
import { strategies } from "../strategy/strategies.ts";
import { verdictInWords } from "./explore-render.ts";
import type { Terminal } from "./environment.ts";
import { LiveLines } from "./live-lines.ts";
import { counted, formatBytes, formatCount, formatMs } from "./quantities.ts";

const NAME_COLUMNS = Math.max(...strategies.map(({ name }) => name.length));

interface Underway {
  readonly name: string;
  readonly sinceMs: number;
  progress?: Progress;
}

export class ExploreProgress {
  readonly #terminal: Terminal;
  readonly #clock: Clock;
  readonly #lines: LiveLines;
  #underway: Underway[] = [];

  constructor(terminal: Terminal, clock: Clock) {
    this.#terminal = terminal;
    this.#clock = clock;
    this.#lines = new LiveLines(terminal);
  }

  begin(name: string): void {
    this.#underway.push({ name, sinceMs: this.#clock.nowMs() });
    if (!this.#terminal.isTTY) this.#lines.permanent(`${name} begins`);
    this.#draw();
  }

  progress(name: string, progress: Progress): void {
    for (const each of this.#underway) if (each.name === name) each.progress = progress;
    this.#draw();
  }

  decided({ question, explored, seconds }: Decided): void {
    this.#underway = this.#underway.filter(({ name }) => name !== question.strategy);
    const facts = [verdictInWords(explored.verdict), counted(explored.states, "state"), formatMs(seconds * 1000)];
    this.#lines.permanent(`${question.strategy.padEnd(NAME_COLUMNS)} ${facts.join(", ")}`);
    this.#draw();
  }

  note(text: string): void {
    this.#lines.permanent(this.#terminal.colors.yellow(text));
    this.#draw();
  }

  end(): void {
    this.#lines.end();
  }

  #draw(): void {
    this.#lines.draw(...this.#underway.map((each) => this.#line(each)));
  }

  #line({ name, sinceMs, progress }: Underway): string {
    if (progress === undefined) return `${name.padEnd(NAME_COLUMNS)} begins`;
    const { states, waiting, ends, bytes } = progress;
    const perSecond = (states * 1000) / Math.max(1, this.#clock.nowMs() - sinceMs);
    const facts = [
      counted(states, "state"),
      `${formatCount(perSecond)}/s`,
      `${formatCount(waiting)} waiting`,
      counted(ends, "end"),
      formatBytes(bytes),
    ];
    return `${name.padEnd(NAME_COLUMNS)} ${facts.join("  ")}`;
  }
}
