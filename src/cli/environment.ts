// What the program needs of the world around it, so that a test can be that world.
import { randomInt } from "node:crypto";
import { isatty } from "node:tty";
import picocolors from "picocolors";
import type { Clock } from "../base/clock.ts";

/** One of the two output streams. */
export interface Terminal {
  readonly isTTY: boolean;
  /** Columns of the terminal; 80 where there is none. Read anew for each line, since windows are resized. */
  readonly columns: number;
  readonly colors: Palette;
  /** Block and line characters can be shown; otherwise ASCII stands in. */
  readonly unicode: boolean;
  write(text: string): void;
}

export type Palette = ReturnType<typeof picocolors.createColors>;

export interface Environment {
  /** The result. */
  readonly stdout: Terminal;
  /** Progress and what went wrong. */
  readonly stderr: Terminal;
  readonly clock: Clock;
  /** Calls the listener on each Ctrl-C or SIGTERM until the returned function is called. */
  onInterrupt(listener: () => void): () => void;
  /** Ends the program now. */
  leave(exitCode: number): void;
  readonly randomSeed: () => number;
}

type Variables = Readonly<Record<string, string | undefined>>;

/** NO_COLOR wins, then FORCE_COLOR; otherwise colours are for terminals (no-color.org, force-color.org). */
export function wantsColor(isTTY: boolean, variables: Variables): boolean {
  const { NO_COLOR: noColor, FORCE_COLOR: forceColor, TERM: term } = variables;
  if (noColor !== undefined && noColor !== "") return false;
  if (forceColor !== undefined && forceColor !== "" && forceColor !== "0") return true;
  return isTTY && term !== "dumb";
}

/** A locale that was set to something else than UTF-8 is believed; one that was not set is no reason to be plain. */
export function wantsUnicode(variables: Variables): boolean {
  const { LC_ALL: all, LC_CTYPE: characters, LANG: language, TERM: term } = variables;
  const locale = [all, characters, language].find((value) => value !== undefined && value !== "");
  return term !== "dumb" && (locale === undefined || /utf-?8/i.test(locale));
}

function terminalOf(stream: NodeJS.WriteStream, descriptor: number, variables: Variables): Terminal {
  const isTTY = isatty(descriptor);
  return {
    // Cursor movement needs a terminal that is not dumb.
    isTTY: isTTY && variables["TERM"] !== "dumb",
    get columns() {
      const { columns } = stream as { columns?: number };
      return columns === undefined || columns === 0 ? 80 : columns;
    },
    colors: picocolors.createColors(wantsColor(isTTY, variables)),
    unicode: wantsUnicode(variables),
    write: (text) => void stream.write(text),
  };
}

/** The process this runs in. */
export function processEnvironment(): Environment {
  for (const stream of [process.stdout, process.stderr]) stream.on("error", passOverClosedPipe);
  return {
    stdout: terminalOf(process.stdout, 1, process.env),
    stderr: terminalOf(process.stderr, 2, process.env),
    clock: { nowMs: () => performance.timeOrigin + performance.now() },
    onInterrupt(listener) {
      process.on("SIGINT", listener).on("SIGTERM", listener);
      return () => void process.off("SIGINT", listener).off("SIGTERM", listener);
    },
    leave: (exitCode) => process.exit(exitCode),
    randomSeed: () => randomInt(2 ** 32),
  };
}

/** `underway strategies | head -1` is nobody's mistake. The program goes on: its exit code still tells how it ended. */
function passOverClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") throw error;
}
