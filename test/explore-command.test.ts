// `underway explore` and `underway replay` as processes: the shipping program, without a terminal.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program to its end, interrupted once it has said something on stderr if that is asked for. */
async function underway(words: string, { isInterrupted = false } = {}): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...words.split(" ")], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (isInterrupted && stderr === "") child.kill("SIGINT");
    stderr += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

test("what explore finds about blind is as expected, and replay breaks the same with its schedule", async () => {
  const explored = await underway("explore --strategy blind --bound frames=1 --json");
  assert.equal(explored.code, 0, explored.stderr);
  const [blind] = JSON.parse(explored.stdout) as {
    verdict: string;
    schedule: string;
    violation: { hazards: string[] };
  }[];
  assert.equal(blind?.verdict, "unsafe");
  const replayed = await underway(`replay ${blind.schedule} --json`);
  assert.equal(replayed.code, 2, replayed.stderr);
  const data = JSON.parse(replayed.stdout) as { schedule: string; violation: { hazards: string[] } };
  assert.equal(data.schedule, blind.schedule);
  assert.deepEqual(data.violation.hazards, blind.violation.hazards);
});

test("Ctrl-C ends a search at once, threads and all", async () => {
  const ended = await underway("explore --strategy rings-first --bound frames=4", { isInterrupted: true });
  assert.equal(ended.code, 1, ended.stderr);
  assert.equal(ended.stdout, "");
  assert.match(ended.stderr, /The search was cancelled\./);
});
