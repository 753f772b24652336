import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { defaultAssumptions, defaultBounds } from "../explore/assumptions.ts";
import type { Question } from "../explore/schedule.ts";
import { exploreInThreads, type ExploreSinks } from "./explore-threads.ts";

const question = (strategy: string, frames = 1): Question => ({
  strategy,
  assumptions: defaultAssumptions,
  bounds: { ...defaultBounds, frames },
});

const sinks = (more: Partial<ExploreSinks> = {}): ExploreSinks => ({
  onBegin: () => {},
  onProgress: () => {},
  onDecided: () => {},
  signal: new AbortController().signal,
  ...more,
});

const alone = { way: {}, threads: 1 };

test("answers come in the order of the questions, each with its question, whichever thread was done first", async () => {
  const questions = [question("quiesce"), question("blind")];
  const begun: Question[] = [];
  const decided: Question[] = [];
  const options = { way: {}, threads: 2 };
  const answers = await exploreInThreads(
    questions,
    options,
    sinks({ onBegin: (each) => begun.push(each), onDecided: (each) => decided.push(each.question) }),
  );
  assert.deepEqual(
    answers.map((answer) => [answer.question, answer.explored.verdict]),
    [
      [questions[0], "safe"],
      [questions[1], "unsafe"],
    ],
  );
  assert.deepEqual(begun, questions);
  assert.equal(decided.length, 2);
  assert.ok(answers.every(({ seconds, explored }) => seconds > 0 && explored.situations.size > 0));
});

test("what a search throws comes out with its code and with the strategy, and nothing begins after it", async () => {
  const begun: string[] = [];
  const running = exploreInThreads(
    [question("hope"), question("blind")],
    alone,
    sinks({ onBegin: ({ strategy }) => begun.push(strategy) }),
  );
  await assert.rejects(running, { code: "strategy-unknown", facts: { name: "hope", strategy: "hope" } });
  assert.deepEqual(begun, ["hope"]);
});

test("a search that has no room to go on is undecided, says why, and keeps no other from its verdict", async () => {
  const small = { ...question("quiesce", 2), bounds: { ...defaultBounds, frames: 2, states: 100 } };
  const [first, second] = await exploreInThreads([small, question("blind")], alone, sinks());
  assert.equal(first?.explored.verdict, "undecided");
  assert.ok(first.explored.states >= 100);
  assert.match(first.reason ?? "", /100 states, which is its bound/);
  assert.equal(second?.explored.verdict, "unsafe");
  assert.equal(second.reason, undefined);
});

test("a search whose thread runs out of memory is undecided, and says of how much", async () => {
  const [decided] = await exploreInThreads([question("rings-first", 4)], { ...alone, heapMb: 12 }, sinks());
  assert.equal(decided?.explored.verdict, "undecided");
  assert.match(decided.reason ?? "", /more than 12 MiB/);
});

test("a thread that dies of a defect fails the search with what it died of", async () => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a question that nobody can ask
  const broken = { ...question("blind"), bounds: undefined } as unknown as Question;
  await assert.rejects(exploreInThreads([broken], alone, sinks()), TypeError);
});

test("an interrupt ends the threads, and the search is told to be cancelled", async () => {
  const controller = new AbortController();
  const running = exploreInThreads(
    [question("rings-first", 4), question("blind")],
    alone,
    sinks({ signal: controller.signal, onBegin: () => setImmediate(() => controller.abort()) }),
  );
  await assert.rejects(running, { code: "cancelled" });
});

test("a search that was put aside is gone on with, comes to the same, and leaves no file", async (t) => {
  const directory = await mkdtemp(path.join(tmpdir(), "underway-explore-"));
  t.after(() => rm(directory, { recursive: true }));
  const asked = question("device-log", 2);
  const options = { ...alone, checkpoints: { directory, everyMs: 0 } };
  const controller = new AbortController();
  const halfWay = sinks({ signal: controller.signal, onProgress: () => controller.abort() });
  await assert.rejects(exploreInThreads([asked], options, halfWay), { code: "cancelled" });
  assert.deepEqual(await readdir(directory), ["device-log.checkpoint"]);
  const [resumed] = await exploreInThreads([asked], options, sinks());
  const [whole] = await exploreInThreads([asked], alone, sinks());
  assert.deepEqual(
    [resumed?.explored.verdict, resumed?.explored.states, resumed?.explored.ends],
    [whole?.explored.verdict, whole?.explored.states, whole?.explored.ends],
  );
  assert.deepEqual(await readdir(directory), []);
  await writeFile(path.join(directory, "device-log.checkpoint"), "no checkpoint");
  await assert.rejects(exploreInThreads([asked], options, sinks()), { code: "checkpoint-invalid" });
  const nowhere = { ...options, checkpoints: { directory: path.join(directory, "device-log.checkpoint"), everyMs: 0 } };
  await assert.rejects(exploreInThreads([asked], nowhere, sinks()), { code: "checkpoint-file" });
});

test("a search that is cancelled before it begins begins nothing", async () => {
  const begun: Question[] = [];
  const running = exploreInThreads(
    [question("blind")],
    alone,
    sinks({ signal: AbortSignal.abort(), onBegin: (each) => begun.push(each) }),
  );
  await assert.rejects(running, { code: "cancelled" });
});
