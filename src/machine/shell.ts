// A shell on a guest's console: commands with their output and exit status, also across a migration.
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import type { Console } from "./machine.ts";

export interface CommandResult {
  /** Standard output and error as the console showed them, with plain line feeds. */
  readonly output: string;
  readonly exitStatus: number;
}

/** busybox' line editor takes 1024 characters. */
const commandCharactersMax = 900;
let commandCount = 0;

/**
 * Types a command at the prompt of a POSIX shell and waits for its end. Fails with OperationError `guest-command-timeout`
 * after `timeoutMs` of host time. To go on across a migration, run it on a ConsoleRelay.
 *
 * The markers are printed on lines of their own; what the terminal echoes of the typed line has the markers too, but
 * there `\n` is a backslash and a letter.
 */
export function runCommand(console: Console, command: string, options: { timeoutMs: number }): Promise<CommandResult> {
  const tag = `uw${(++commandCount).toString(36)}-${Math.trunc(Math.random() * 0x1_0000_0000).toString(36)}`;
  const quoted = command.replaceAll("'", String.raw`'\''`);
  assert(quoted.length <= commandCharactersMax && !command.includes("\n"), "a command is one line of a shell's editor");
  const pattern = new RegExp(`\\n${tag}<\\n([^]*?)\\n?${tag}>(\\d+)\\n`);
  return new Promise((resolve, reject) => {
    let text = "";
    const stop = console.onOutput((more) => {
      text = (text + more).replaceAll("\r", "");
      const found = pattern.exec(text);
      if (found === null) return;
      end();
      resolve({ output: found[1] ?? "", exitStatus: Number(found[2]) });
    });
    const timer = setTimeout(() => {
      end();
      reject(commandTimeout(command, options.timeoutMs, text));
    }, options.timeoutMs);
    const end = (): void => {
      clearTimeout(timer);
      stop();
    };
    console.send(`printf '\\n${tag}<\\n'; eval '${quoted}'; printf '\\n${tag}>%d\\n' $?\n`);
  });
}

function commandTimeout(command: string, timeoutMs: number, text: string): OperationError {
  return new OperationError({
    code: "guest-command-timeout",
    message: `the guest's shell did not finish "${command}" within ${timeoutMs} ms`,
    advice: "look at the console's last lines in the facts",
    facts: { command, timeoutMs, console: text.slice(-500) },
  });
}

/**
 * A console that moves with its guest: after `follow`, input goes to the next machine's console, and output comes from
 * there. What is typed and read through it does not notice the move.
 */
export class ConsoleRelay implements Console {
  readonly #listeners = new Set<(text: string) => void>();
  #current: Console;
  #stop: () => void;
  #output: string;

  constructor(first: Console) {
    this.#current = first;
    this.#output = first.output;
    this.#stop = this.#listen();
  }

  get output(): string {
    return this.#output;
  }

  send(text: string): void {
    this.#current.send(text);
  }

  onOutput(listener: (text: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be called before the next machine runs, or what it writes until then is not seen. */
  follow(next: Console): void {
    this.#stop();
    this.#current = next;
    this.#stop = this.#listen();
  }

  #listen(): () => void {
    return this.#current.onOutput((text) => {
      this.#output += text;
      for (const listener of this.#listeners) listener(text);
    });
  }
}
