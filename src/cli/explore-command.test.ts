import assert from "node:assert/strict";
import test from "node:test";
import { OperationError } from "../base/errors.ts";
import type { Explored } from "../explore/explore.ts";
import type { Question } from "../explore/schedule.ts";
import { strategies, strategyByName } from "../strategy/strategies.ts";
import type { Explorer } from "./explore-command.ts";
import { FakeEnvironment, FakeTerminal } from "./fakes.ts";
import { runCli } from "./run-cli.ts";

/** What a made-up search found: the expected verdict, unless something else is said. */
function explored({ strategy }: Question, changed: Partial<Explored> = {}): Explored {
  const { expectedVerdict: verdict } = strategyByName(strategy);
  const figures = { states: 1200, waiting: 0, transitions: 3400, ends: 5, sourceStates: 60, bytes: 70_000 };
  const situations = new Map([["ring-wrapped", 3]] as const);
  if (verdict === "safe") return { ...figures, verdict, situations, ...changed };
  const schedule = `u1:${strategy}:frames=1:r2E6`;
  const violation = { property: "legal-cut", sentence: "wrong", hazards: ["head-ahead"], schedule: [2] } as const;
  return { ...figures, verdict, situations, schedule, violation, ...changed };
}

/** Finds at once what is expected, but for the changes. */
const finding =
  (changes: Readonly<Record<string, Partial<Explored> & { readonly reason?: string }>> = {}): Explorer =>
  (questions, _options, { onBegin, onProgress, onDecided }) => {
    const all = questions.map((question) => {
      const { reason, ...changed } = changes[question.strategy] ?? {};
      const found = explored(question, changed);
      onBegin(question);
      onProgress(question, found);
      const decided = { question, explored: found, seconds: 1.5, ...(reason === undefined ? {} : { reason }) };
      onDecided(decided);
      return decided;
    });
    return Promise.resolve(all);
  };

async function underway(
  words: string,
  explorer: Explorer = finding(),
  environment = new FakeEnvironment(),
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const exitCode = await runCli(
    words.split(" "),
    environment,
    () => assert.fail("no guest is needed"),
    () => Promise.resolve(explorer),
  );
  return { exitCode, stdout: environment.stdout.text, stderr: environment.stderr.text };
}

test("without a name every strategy is decided, and told in the order of the table", async () => {
  const { exitCode, stdout } = await underway("explore --json");
  assert.equal(exitCode, 0);
  const told = (JSON.parse(stdout) as { strategy: string }[]).map(({ strategy }) => strategy);
  assert.deepEqual(
    told,
    strategies.map(({ name }) => name),
  );
  assert.equal((await underway("explore --all --json")).stdout, stdout);
});

interface ExploredData {
  readonly schedule: string | null;
  readonly violation: object | null;
  readonly assumptions: Record<string, unknown>;
  readonly bounds: Record<string, unknown>;
  readonly situations: Record<string, number>;
}

test("the keys of the JSON are these, whatever the verdict", async () => {
  const { stdout } = await underway("explore --strategy rings-first blind --assume queues=2 --bound frames=1 --json");
  const [safe, unsafe] = JSON.parse(stdout) as ExploredData[];
  assert.ok(safe !== undefined && unsafe !== undefined);
  const keys =
    "strategy verdict expectedVerdict reason way assumptions bounds states transitions ends seconds schedule violation situations";
  assert.deepEqual(Object.keys(safe), keys.split(" "));
  assert.deepEqual(Object.keys(unsafe), keys.split(" "));
  assert.deepEqual([safe.schedule, safe.violation], [null, null]);
  assert.equal(unsafe.schedule, "u1:blind:frames=1:r2E6");
  assert.deepEqual(unsafe.violation, { property: "legal-cut", sentence: "wrong", hazards: ["head-ahead"] });
  assert.deepEqual([safe.assumptions["queues"], safe.bounds["frames"]], [2, 1]);
  assert.deepEqual([safe.situations["ring-wrapped"], safe.situations["frame-carried"]], [3, 0]);
});

test("a verdict that nobody expects is exit code 2, an undecided one 1, and the first is the more important", async () => {
  const undecided = { verdict: "undecided", reason: "The bound was reached." } as const;
  const news = { verdict: "safe" } as const;
  assert.equal((await underway("explore --json", finding({ blind: news }))).exitCode, 2);
  assert.equal((await underway("explore --json", finding({ quiesce: undecided }))).exitCode, 1);
  assert.equal((await underway("explore --json", finding({ blind: news, quiesce: undecided }))).exitCode, 2);
});

test("a search that leaves schedules out finds no fault in an unsafe strategy without that being news", async () => {
  const nothing = finding({ blind: { verdict: "safe" }, quiesce: { verdict: "undecided" } });
  for (const way of ["--preemptions 0", "--hazard half-frame"]) {
    assert.equal((await underway(`explore --strategy blind ${way}`, nothing)).exitCode, 0, way);
  }
  assert.equal((await underway("explore --strategy quiesce --search random", nothing)).exitCode, 0);
  const fault = finding({ quiesce: { verdict: "unsafe" } });
  assert.equal((await underway("explore --strategy quiesce --preemptions 0 --json", fault)).exitCode, 2);
});

test("what is kept with the sources is decided by a whole search only", async () => {
  const { exitCode, stderr } = await underway("explore --write-verdicts --hazard half-frame");
  assert.equal(exitCode, 64);
  assert.match(stderr, /usage-conflict/);
});

test("a person reads the verdict in words, what was reached and what was not, and the story with its bytes", async () => {
  const words = (await underway("explore --strategy quiesce blind")).stdout.replace(/\s+/g, " ");
  for (const part of [
    "quiesce safe within these bounds 1,200 states, 3,400 transitions, 5 ends, in 1.50 s.",
    "reached ring-wrapped not reached frame-discarded, frame-carried",
    "bin/underway replay u1:blind:frames=1:r2E6",
    "2 device writes back descriptor 4: DD EOP, length 60",
    "6 engine pauses the vCPUs",
    "descriptor 4 was done before the pause, the image shows it not done, and the head 5 is past it.",
    "has to be 12 02 00 00",
    "ring-wrapped: posted descriptors reach over the end of the ring",
  ]) {
    assert.ok(words.includes(part), `${part}\n\nin\n\n${words}`);
  }
});

test("news and a search that did not end are told as what they are", async () => {
  const changes = { quiesce: { verdict: "undecided" }, blind: { verdict: "safe" } } as const;
  const { stdout } = await underway("explore --strategy quiesce --strategy blind", finding(changes));
  assert.match(stdout, /quiesce {2}undecided\n/);
  assert.match(stdout, /This is news: it was expected to be unsafe\./);
});

test("a search that fails is told with its code and ends with 1", async () => {
  const failing: Explorer = () =>
    Promise.reject(
      new OperationError({
        code: "explore-memory",
        message: "No memory.",
        advice: "Use less.",
        facts: { strategy: "x" },
      }),
    );
  const plain = await underway("explore --strategy blind", failing);
  assert.deepEqual([plain.exitCode, plain.stdout], [1, ""]);
  assert.match(plain.stderr, /No memory\. Use less\.\s+explore-memory, strategy: x/);
  const json = await underway("explore --strategy blind --json", failing);
  assert.equal((JSON.parse(json.stdout) as { error: { code: string } }).error.code, "explore-memory");
});

test("the first interrupt aborts the search, and afterwards nobody listens any more", async () => {
  const environment = new FakeEnvironment();
  const waiting: Explorer = (_questions, _options, { signal }) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () =>
        reject(new OperationError({ code: "cancelled", message: "Cancelled.", advice: "Run it again." })),
      );
      for (const listener of environment.interruptListeners) listener();
    });
  const { exitCode, stderr } = await underway("explore", waiting, environment);
  assert.equal(exitCode, 1);
  assert.match(stderr, /Cancelled/);
  assert.equal(environment.interruptListeners.size, 0);
});

test("on a terminal each strategy under way has a living line, with its rate; a pipe gets a line when one is decided", async () => {
  const environment = new FakeEnvironment();
  const stderr = new FakeTerminal({ isTTY: true });
  const halfWay: Explorer = (questions, options, sinks) => {
    const [first, second] = questions;
    assert.ok(first !== undefined && second !== undefined);
    sinks.onBegin(first);
    sinks.onBegin(second);
    environment.clock.advance(2000);
    sinks.onProgress(second, explored(second));
    return finding()([], options, sinks);
  };
  await underway("explore --strategy quiesce blind", halfWay, Object.assign(environment, { stderr }));
  assert.match(stderr.text, /\n {2}blind +1,200 states {2}600\/s {2}0 waiting {2}5 ends {2}68\.4 KiB/);
  const piped = await underway("explore --strategy blind");
  assert.match(piped.stderr, /^ {2}blind begins\n {2}blind +unsafe, 1,200 states, 1\.50 s\n$/);
});
