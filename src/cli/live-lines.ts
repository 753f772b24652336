// Lines at the bottom of a terminal that are rewritten in place, with lines that stay above them.
import type { Terminal } from "./environment.ts";
import { fit } from "./layout.ts";

const CLEAR_LINE = "\r\u001B[2K";
const CLEAR_LINE_ABOVE = "\u001B[1A\u001B[2K";

/** Where there is no terminal, nothing is ever rewritten, and only what stays is written. */
export class LiveLines {
  readonly #terminal: Terminal;
  #live: readonly string[] = [];
  #isOver = false;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** What the living lines say from now on. Plain text: it is cut to the width of the terminal. */
  draw(...texts: readonly string[]): void {
    if (!this.#terminal.isTTY || this.#isOver) return;
    const lines = texts.map((text) => fit(`  ${text}`, this.#terminal.columns - 1, this.#terminal.unicode));
    if (lines.length === this.#live.length && lines.every((line, index) => line === this.#live[index])) return;
    if (this.#live.length === 0) this.#terminal.write(CLEAR_LINE);
    else this.#erase();
    this.#live = lines;
    this.#terminal.write(lines.join("\n"));
  }

  /** A line that stays. The living lines are gone until they are drawn again. */
  permanent(text: string): void {
    if (this.#isOver) return;
    this.#erase();
    this.#terminal.write(`  ${text}\n`);
  }

  /** Leaves the terminal as it should be for whatever is printed next. */
  end(): void {
    this.#erase();
    this.#isOver = true;
  }

  #erase(): void {
    const { length } = this.#live;
    if (length > 0) this.#terminal.write(CLEAR_LINE + CLEAR_LINE_ABOVE.repeat(length - 1));
    this.#live = [];
  }
}
