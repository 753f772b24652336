import assert from "node:assert/strict";
import test from "node:test";
import { ManualClock } from "../base/clock.ts";
import { fixtureEvents } from "../host/report-fixtures.ts";
import { FakeTerminal } from "./fakes.ts";
import { visibleLength } from "./layout.ts";
import { Progress } from "./progress.ts";

/** Plays two stages and a whole migration. */
function played(terminal: FakeTerminal): string {
  const clock = new ManualClock();
  const progress = new Progress(terminal, clock);
  progress.stage("Booting Linux");
  clock.advance(2500);
  progress.tick();
  clock.advance(6000);
  progress.stage("Starting traffic");
  clock.advance(40);
  for (const event of fixtureEvents()) progress.event(event);
  progress.stage("Auditing");
  progress.end();
  return terminal.text;
}

test("a file or pipe gets plain lines: stages as they begin, rounds as they end", () => {
  const text = played(new FakeTerminal());
  assert.ok(!text.includes("\r") && !text.includes("\u001B"));
  const lines = text.trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => line.trim().split(/ {2,}/)[0]),
    ["Booting Linux", "Starting traffic", "round 1", "round 2", "round 3", "switchover", "Auditing"],
  );
});

test("a round's line says pages, bytes, time, rate, what is dirty and what a switchover would cost", () => {
  const line =
    played(new FakeTerminal({ columns: 120 }))
      .split("\n")
      .find((each) => each.includes("round 2")) ?? "";
  for (const part of ["1,204 pages", "4.70 MiB", "31.8 ms", "1.24 Gbit/s", "418 dirty", "switchover now: 22.6 ms"]) {
    assert.ok(line.includes(part), `${part} in ${line}`);
  }
});

for (const columns of [40, 60, 80, 120]) {
  test(`on a terminal of ${columns} columns the living line never wraps, and what stays is left whole`, () => {
    const text = played(new FakeTerminal({ isTTY: true, columns, color: true }));
    const rewritten = text.split("\r").flatMap((piece) => (piece.includes("\n") ? [] : [piece]));
    assert.ok(rewritten.length > 3);
    for (const line of rewritten) assert.ok(visibleLength(line) < columns, line);
    assert.match(text, /round 1.*\n/);
    assert.match(text, /Booting Linux.*8\.50 s.*\n/);
  });
}

test("a living round shows how far it is and what the round before left", () => {
  const text = played(new FakeTerminal({ isTTY: true, columns: 140 }));
  assert.match(text, /round 2 +█{8}░{8} +602\/1,204 pages .* 1,204 dirty +switchover now: 41\.2 ms/);
});

test("a living stage shows its time once it takes a while, and the line is gone at the end", () => {
  const text = played(new FakeTerminal({ isTTY: true }));
  assert.match(text, /Booting Linux {2}2\.50 s/);
  assert.ok(text.endsWith("\n"), "nothing is left behind the last line");
});

test("a failed migration says what failed, and that the guest runs on", () => {
  const terminal = new FakeTerminal();
  const progress = new Progress(terminal, new ManualClock());
  progress.event({
    side: "source",
    atMs: 1,
    kind: "failed",
    code: "peer-closed",
    message: "The link broke.",
    facts: {},
  });
  progress.event({ side: "source", atMs: 2, kind: "phase", phase: "resumed" });
  assert.match(terminal.text, /failed +The link broke\.\n.*runs on, on the source/);
});

test("after a link that broke behind the point of no return nobody claims to know where the guest runs", () => {
  const terminal = new FakeTerminal();
  new Progress(terminal, new ManualClock()).event({ side: "source", atMs: 1, kind: "phase", phase: "outcome-unknown" });
  assert.match(terminal.text, /is not known/);
});
