import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { fixtureEvents } from "../host/report-fixtures.ts";
import { FakeEnvironment, fakeRunner, fakeSeeds } from "./fakes.ts";
import type { MigrationRunner } from "./migrate-command.ts";
import { runCli } from "./run-cli.ts";

async function underway(words: string, runner: MigrationRunner = fakeRunner) {
  const environment = new FakeEnvironment();
  const exitCode = await runCli(words.split(" "), environment, async () => runner);
  return { exitCode, environment, stdout: environment.stdout.text, stderr: environment.stderr.text };
}

const endings: readonly (readonly [words: string, code: number, complaint?: RegExp])[] = [
  ["migrate", 0],
  ["migrate --strategy blind", 2],
  [
    `migrate --seed ${fakeSeeds.cannot}`,
    1,
    /There is no kernel to boot\. Install apt, or give one with --kernel\. kernel-missing/,
  ],
  ["migrate --kernel /nowhere/vmlinuz --initrd /nowhere/initrd", 1, /given with --kernel cannot be read/],
  ["migrate --record /nowhere/run.ndjson", 1, /recording could not be written/],
  ["migrate --strategy hope", 64, /no strategy called "hope"\. Use one of: rings-first/],
  ["migrate --memory 3", 64, /takes a size/],
  ["migrate --seed", 64, /argument missing/],
  ["migrate elsewhere", 64, /Too many arguments/],
  ["emigrate", 64, /Unknown command 'emigrate'\. Did you mean migrate\?/],
  ["strategies --json --markdown", 64, /cannot both be had/],
  ["explore --all --strategy blind", 64, /cannot both be had/],
  ["explore --strategy hope", 64, /no strategy called "hope"/],
  ["explore --assume frames=2", 64, /no assumption "frames=2"\. Use one of: atomicBytes=8/],
  ["explore --bound frames=9", 64, /no bound "frames=9"\. Use one of: frames=0\.\.8/],
  ["explore --threads 0", 64, /--threads cannot be "0"/],
  ["explore blind", 64, /Too many arguments/],
  ["replay", 64, /missing required argument/i],
  ["replay nonsense", 64, /no schedule: "nonsense"/],
  ["replay u1:blind:frames=1:rg", 1, /Step 2 of this schedule cannot be done/],
  ["replay u1:rings-first:frames=1:r2E6", 0],
  ["replay u1:blind:frames=1:r2E6", 2],
  ["strategies", 0],
  ["--help", 0],
  ["migrate --help", 0],
  ["--version", 0],
];
for (const [words, code, complaint = /^(?!.*Wrong usage|.*Not carried out)/s] of endings) {
  test(`"underway ${words}" ends with ${code}, and says why if that is a failure`, async () => {
    const { exitCode, stdout, stderr } = await underway(words);
    assert.equal(exitCode, code, stderr);
    assert.match((words.includes("--json") ? stdout.replaceAll("\\", "") : stderr).replace(/\s+/g, " "), complaint);
  });
}

test("without a command the program shows its help and calls that wrong usage", async () => {
  const environment = new FakeEnvironment();
  assert.equal(await runCli([], environment, () => assert.fail("loaded")), 64);
  assert.match(environment.stderr.text, /Usage: bin\/underway COMMAND.*No command was given/s);
});

test("help of every command shows its examples and the exit codes", async () => {
  const commands = ["migrate", "explore", "replay", "strategies", "vf", "vf serve", "sidecar"];
  for (const words of ["--help", ...commands.map((command) => `${command} --help`)]) {
    const { stdout, exitCode } = await underway(words);
    assert.equal(exitCode, 0);
    assert.match(stdout, /Examples:\n {2}\$ bin\/underway/);
    assert.match(
      stdout,
      /Exit codes:\n +0 {2}consistent.*\n +0 {2}explore.*\n +0 {2}vf serve.*\n +1 {2}.*\n +2 {2}corrupt.*\n +2 {2}explore.*\n +3 {2}stalled.*\n +64 {2}wrong usage/,
    );
    for (const line of stdout.split("\n")) assert.ok(line.length <= 82, line);
  }
});

test("help starts no runner", async () => {
  const environment = new FakeEnvironment();
  await runCli(["migrate", "--help"], environment, () => assert.fail("loaded"));
  await runCli(["strategies"], environment, () => assert.fail("loaded"));
});

test("with --json stdout is the report and nothing else, and progress still goes to stderr", async () => {
  const { stdout, stderr, exitCode } = await underway("migrate --json --strategy blind");
  assert.equal(exitCode, 2);
  const report = JSON.parse(stdout) as { verdict: string; seed: number; strategy: string };
  assert.deepEqual([report.verdict, report.seed, report.strategy], ["corrupt", 4711, "blind"]);
  assert.match(stderr, /round 1/);
});

test("a guest whose download never finished is told apart from a corrupt one, by the exit code too", async () => {
  const { stdout, exitCode } = await underway(`migrate --json --seed ${fakeSeeds.stalls}`);
  assert.equal(exitCode, 3);
  assert.equal((JSON.parse(stdout) as { verdict: string }).verdict, "stalled");
});

test("a seed that was not given is chosen, and the report tells it", async () => {
  const { stdout } = await underway("migrate");
  assert.match(stdout, /The seed was 4711\.\n {2}bin\/underway migrate --seed 4711\n/);
});

test("a mistyped option is wrong usage with a suggestion, as text and as JSON", async () => {
  const plain = await underway("migrate --memry 128M");
  assert.equal(plain.exitCode, 64);
  assert.match(plain.stderr, /Unknown option '--memry'\. Did you mean --memory\?/);
  const json = await underway("migrate --memry 128M --json");
  assert.equal(json.exitCode, 64);
  assert.equal((JSON.parse(json.stdout) as { error: { code: string } }).error.code, "usage-unknown-option");
});

test("the first interrupt cancels, the second leaves, and afterwards nobody listens any more", async () => {
  const environment = new FakeEnvironment();
  const ended = runCli(
    ["migrate", "--seed", String(fakeSeeds.waits)],
    environment,
    async () => async (options, sinks) => {
      const result = fakeRunner(options, sinks);
      const interrupt = (): void => {
        for (const listener of environment.interruptListeners) listener();
      };
      interrupt();
      assert.ok(sinks.signal.aborted);
      environment.clock.advance(20);
      interrupt();
      assert.deepEqual(environment.left, [], "two so close are one, sent on by npm");
      environment.clock.advance(1000);
      interrupt();
      assert.deepEqual(environment.left, [130]);
      return result;
    },
  );
  assert.equal(await ended, 1);
  assert.match(environment.stderr.text, /Cancelling; .*\n/);
  assert.equal(environment.interruptListeners.size, 0);
});

test("a recording begins with its format and the options, and holds every event in order", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "underway-recording-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "run.ndjson");
  const { exitCode } = await underway(`migrate --record ${file} --memory 64M`);
  assert.equal(exitCode, 0);
  const [header, ...events] = (await readFile(file, "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.ok(header !== undefined);
  assert.deepEqual([header["format"], header["formatVersion"]], ["underway-recording", 1]);
  assert.equal((header["options"] as { memoryBytes: number }).memoryBytes, 64 << 20);
  assert.deepEqual(events, [...fixtureEvents()]);
});

test("a recording that was cut short by a failure still ends with a whole line", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "underway-recording-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "run.ndjson");
  const { exitCode } = await underway(`migrate --record ${file} --seed ${fakeSeeds.cannot}`);
  assert.equal(exitCode, 1);
  assert.match(await readFile(file, "utf8"), /^\{"format":"underway-recording".*\}\n$/);
});
