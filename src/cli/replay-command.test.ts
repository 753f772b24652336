import assert from "node:assert/strict";
import test from "node:test";
import { FakeEnvironment } from "./fakes.ts";
import { runCli } from "./run-cli.ts";

async function underway(...words: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const environment = new FakeEnvironment();
  const exitCode = await runCli(words, environment, () => assert.fail("no guest is needed"));
  return { exitCode, stdout: environment.stdout.text, stderr: environment.stderr.text };
}

test("a schedule that breaks its strategy is told to a person, with the bytes that are wrong", async () => {
  const { exitCode, stdout } = await underway("replay", "u1:blind:frames=1:r2E6");
  assert.equal(exitCode, 2);
  assert.equal(
    stdout,
    `
  blind with frames=1, 8 steps.

  1  device      writes 60 bytes into the buffer of descriptor 4, at 0x4c0
  2  device      writes back descriptor 4: DD EOP, length 60
  3  engine      fetches the CPU's dirty log: no page
  4  engine      begins another round
  5  engine      fetches the CPU's dirty log: no page; the switchover begins
  6  engine      pauses the vCPUs
  7  engine      fetches the CPU's dirty log: no page
  8  engine      saves the VF: receive head 5, tail 3

  What goes wrong
  The destination's image is no legal cut. Receive queue 0: descriptor 4 was
  done before the pause, the image shows it not done, and the head 5 is past it.
    head-ahead: the receive head is past the first descriptor that is not done:
    the queue hangs.
    read-ahead: a descriptor says done and its buffer does not hold the frame.

  queue 0, descriptor 4, head-ahead
    receive queue 0: descriptor 4 was done before the pause, the image shows it
    not done, and the head 5 is past it
    16 bytes from 0xc0 on, in page 3
    has to be  12 02 00 00 ac 07 9d 8b 43 00 00 00 3c 00 00 00
    is         c0 04 00 00 00 00 00 00 00 00 00 00 00 00 00 00  older

  frame 0, queue 0, descriptor 4, read-ahead
    UDP 10.1.0.0:9 > 10.0.0.1:9 len 18
    33 bytes from 0x4c0 on, in page 19
    has to be  02 00 00 00 00 11 02 00 00 00 00 22 08 00 45 00
    is         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  older

`,
  );
});

test("one that breaks nothing ends with 0, and says what was discarded and what the engine did alone", async () => {
  const { exitCode, stdout } = await underway("replay", "u1:rings-first:frames=2:r6g8");
  assert.equal(exitCode, 0);
  assert.match(stdout, /The last \d+ steps the engine does alone\./);
  assert.match(stdout, /Nothing breaks\./);
});

test("the keys of the JSON are these, whether something breaks or not", async () => {
  for (const strategy of ["blind", "rings-first"]) {
    const { stdout } = await underway("replay", `u1:${strategy}:frames=1:r2E6`, "--json");
    const data = JSON.parse(stdout) as { story: object[]; violation: object | null };
    const keys =
      "strategy assumptions bounds schedule steps stepsAsked story afterwards violation cuts frames corruptions";
    assert.deepEqual(Object.keys(data), keys.split(" "));
    assert.deepEqual(Object.keys(data.story[0] ?? {}), ["first", "last", "who", "sentence"]);
    assert.equal(data.violation === null, strategy === "rings-first");
  }
});

test("a string that is no schedule is wrong usage, one that cannot be carried out is not, and both have advice", async () => {
  const wrong = await underway("replay", "u2:blind::r");
  assert.equal(wrong.exitCode, 64);
  assert.match(wrong.stderr.replace(/\s+/g, " "), /A schedule looks like u1:blind/);
  const impossible = await underway("replay", "u1:blind:frames=1:r2gE", "--json");
  assert.equal(impossible.exitCode, 1);
  const { error } = JSON.parse(impossible.stdout) as { error: { code: string; facts: object } };
  assert.deepEqual([error.code, error.facts], ["schedule-impossible", { step: 3, steps: 4 }]);
});
