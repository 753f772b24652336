import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { fakeSeeds } from "./fakes.ts";

const program = fileURLToPath(new URL("./fake-underway.ts", import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program to its end; `onStderr` sees what has been said so far each time something is. */
async function underway(words: readonly string[], onStderr?: (said: string, kill: () => void) => void): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    onStderr?.(stderr, () => child.kill("SIGINT"));
  });
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code, signal, stdout, stderr };
}

/** The rest of what can be typed is tested in run-cli.test.ts, without a process. */
const endings: readonly (readonly [words: string, code: number])[] = [
  ["migrate --seed 1", 0],
  ["migrate --seed 1 --strategy blind", 2],
  [`migrate --seed ${fakeSeeds.cannot}`, 1],
  [`migrate --seed ${fakeSeeds.defect}`, 1],
  ["migrate --no-such-option", 64],
];

for (const [words, code] of endings) {
  test(`"underway ${words}" exits with ${code}, with --json as without, and only results are on stdout`, async () => {
    const split = words.split(" ");
    const [plain, json] = await Promise.all([underway(split), underway([...split, "--json"])]);
    assert.deepEqual([plain.code, json.code], [code, code], plain.stderr + json.stderr);
    assert.doesNotThrow(() => JSON.parse(json.stdout), json.stdout);
    if (code === 1 || code === 64) assert.equal(plain.stdout, "");
  });
}

test("one interrupt cancels the migration and the program says so with exit code 1", async () => {
  let sent = false;
  const ended = await underway(["migrate", "--seed", String(fakeSeeds.waits)], (said, interrupt) => {
    if (sent || !said.includes("Booting")) return;
    sent = true;
    interrupt();
  });
  assert.equal(ended.code, 1, ended.stderr);
  assert.match(ended.stderr, /Cancelling/);
  assert.match(ended.stderr, /The migration was cancelled/);
});

test("a pipe that nobody reads any more is not an error, and hides no verdict", async () => {
  const words = ["migrate", "--seed", "1", "--strategy", "blind", "--json"];
  const child = spawn(process.execPath, [program, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  assert.equal(code, 2);
  assert.doesNotMatch(stderr, /EPIPE/);
});
