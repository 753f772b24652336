import assert from "node:assert/strict";
import { test } from "node:test";
import type { Console } from "./machine.ts";
import { ConsoleRelay, runCommand } from "./shell.ts";

/** A terminal that echoes what is typed, with a shell that answers each line as the test says. */
class FakeTerminal implements Console {
  output = "";
  readonly sent: string[] = [];
  readonly #listeners = new Set<(text: string) => void>();
  onLine: (line: string) => void = () => {};

  send(text: string): void {
    this.sent.push(text);
    this.write(text.replaceAll("\n", "\r\n"));
    for (const line of text.split("\n").slice(0, -1)) this.onLine(line);
  }

  onOutput(listener: (text: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  write(text: string): void {
    this.output += text;
    for (const listener of this.#listeners) listener(text);
  }

  /** What the shell prints for the printf before and after the command. */
  static marks(line: string): [begin: string, end: (status: number) => string] {
    const tag = /'\\n(\S+)<\\n'/.exec(line)?.[1] ?? "";
    return [`\r\n${tag}<\r\n`, (status) => `\r\n${tag}>${status}\r\n`];
  }
}

test("output is what stands between the marks, not what the terminal echoes", async () => {
  const terminal = new FakeTerminal();
  terminal.onLine = (line) => {
    const [begin, end] = FakeTerminal.marks(line);
    terminal.write(`${begin}first\r\nsecond\r\n${end(3)}guest# `);
  };
  const result = await runCommand(terminal, "some command", { timeoutMs: 1000 });
  assert.deepEqual(result, { output: "first\nsecond\n", exitStatus: 3 });
});

test("output that comes letter by letter, and one without a line feed at its end, are whole", async () => {
  const terminal = new FakeTerminal();
  terminal.onLine = (line) => {
    const [begin, end] = FakeTerminal.marks(line);
    for (const letter of `${begin}no end${end(0)}`) terminal.write(letter);
  };
  assert.deepEqual(await runCommand(terminal, "printf", { timeoutMs: 1000 }), { output: "no end", exitStatus: 0 });
});

test("quotes in a command survive the shell's eval", async () => {
  const terminal = new FakeTerminal();
  terminal.onLine = (line) => {
    const [begin, end] = FakeTerminal.marks(line);
    terminal.write(begin + end(0));
  };
  await runCommand(terminal, "echo 'it is'", { timeoutMs: 1000 });
  assert.ok(terminal.sent[0]?.includes(String.raw`eval 'echo '\''it is'\'''`));
});

test("a command that does not end is a typed error with the console's last text", async () => {
  const terminal = new FakeTerminal();
  terminal.onLine = () => terminal.write("kernel panic");
  await assert.rejects(runCommand(terminal, "sleep 9", { timeoutMs: 5 }), (error: unknown) => {
    const { code, facts } = error as { code: string; facts: { console: string } };
    return code === "guest-command-timeout" && facts.console.includes("kernel panic");
  });
});

test("a relay goes on with the next console: a command begun on one ends on the other", async () => {
  const [first, second] = [new FakeTerminal(), new FakeTerminal()];
  const relay = new ConsoleRelay(first);
  let end = (_status: number): string => "";
  first.onLine = (line) => {
    const [begin, last] = FakeTerminal.marks(line);
    first.write(`${begin}on the source\r\n`);
    end = last;
  };
  const result = runCommand(relay, "move", { timeoutMs: 1000 });
  relay.follow(second);
  first.write("not heard any more");
  second.write(`on the destination\r\n${end(0)}`);
  assert.deepEqual(await result, { output: "on the source\non the destination\n", exitStatus: 0 });
  relay.send("next\n");
  assert.deepEqual(second.sent, ["next\n"]);
  assert.ok(relay.output.includes("on the source") && relay.output.includes("on the destination"));
});
