import assert from "node:assert/strict";
import test from "node:test";
import { baselines } from "../strategy/baselines.ts";
import { strategies } from "../strategy/strategies.ts";
import { FakeEnvironment } from "./fakes.ts";
import { runCli } from "./run-cli.ts";

async function printed(...words: string[]): Promise<string> {
  const environment = new FakeEnvironment();
  const exitCode = await runCli(["strategies", ...words], environment, () => assert.fail("no runner is needed"));
  assert.equal(exitCode, 0, environment.stderr.text);
  return environment.stdout.text;
}

test("every strategy is listed with its sentence and its source, for people and for programs", async () => {
  const text = (await printed()).replace(/\s+/g, " ");
  const data = JSON.parse(await printed("--json")) as { name: string; isDefault: boolean; switchover: unknown[] }[];
  assert.deepEqual(
    data.map(({ name }) => name),
    strategies.map(({ name }) => name),
  );
  assert.deepEqual(
    data.filter(({ isDefault }) => isDefault).map(({ name }) => name),
    ["rings-first"],
  );
  for (const { name, sentence, source } of strategies) {
    for (const part of [name, sentence, source]) assert.ok(text.includes(part), part);
  }
});

test("the baselines come after the strategies, under a heading of their own, and are no strategies to a program", async () => {
  const text = (await printed()).replace(/\s+/g, " ");
  const [above = "", below = ""] = text.split("Baselines: ");
  const rows = (await printed("--markdown")).split("| baseline |")[1] ?? "";
  for (const { name, sentence, needs, source } of baselines) {
    assert.ok(!above.includes(sentence), name);
    for (const part of [name, sentence, needs, source]) assert.ok(below.includes(part) && rows.includes(part), part);
  }
  const data = JSON.parse(await printed("--json")) as { name: string }[];
  assert.ok(!data.some(({ name }) => baselines.some((baseline) => baseline.name === name)));
});
