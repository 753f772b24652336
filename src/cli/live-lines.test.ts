import assert from "node:assert/strict";
import test from "node:test";
import { FakeTerminal } from "./fakes.ts";
import { LiveLines } from "./live-lines.ts";

const CLEAR = "<clear>";
const UP = "<up>";

/** What a terminal shows after this was written to it: the lines, the last one without its end. */
function shown(text: string): string[] {
  const readable = text.replaceAll("\u001B[2K", CLEAR).replaceAll("\u001B[1A", UP).replaceAll("\r", "");
  const lines = [""];
  let at = 0;
  for (const [piece] of readable.matchAll(/\n|<clear>|<up>|[^\n<]+/g)) {
    if (piece === "\n") at++;
    else if (piece === UP) at--;
    else lines[at] = piece === CLEAR ? "" : (lines[at] ?? "") + piece;
    lines[at] ??= "";
  }
  return lines;
}

test("living lines are rewritten where they are, however many there are, and what stays is above them", () => {
  const terminal = new FakeTerminal({ isTTY: true });
  const lines = new LiveLines(terminal);
  lines.draw("one 1", "two 1");
  lines.draw("one 2", "two 2");
  assert.deepEqual(shown(terminal.text), ["  one 2", "  two 2"]);
  lines.permanent("one is done");
  lines.draw("two 3");
  assert.deepEqual(shown(terminal.text), ["  one is done", "  two 3"]);
  lines.end();
  lines.draw("late");
  lines.permanent("later");
  assert.deepEqual(
    shown(terminal.text).filter((line) => line !== ""),
    ["  one is done"],
  );
});

test("lines that say the same are not written again, and none is wider than the terminal", () => {
  const terminal = new FakeTerminal({ isTTY: true, columns: 20 });
  const lines = new LiveLines(terminal);
  lines.draw("a line that is wider than the terminal");
  const { text } = terminal;
  lines.draw("a line that is wider than the terminal");
  assert.equal(terminal.text, text);
  assert.ok((shown(text)[0] ?? "").length < 20);
});

test("without a terminal only what stays is written", () => {
  const terminal = new FakeTerminal();
  const lines = new LiveLines(terminal);
  lines.draw("alive");
  lines.permanent("stays");
  lines.end();
  assert.equal(terminal.text, "  stays\n");
});
