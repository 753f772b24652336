import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { exitCodeMeanings } from "./exit-codes.ts";
import { FakeEnvironment } from "./fakes.ts";
import { runCli } from "./run-cli.ts";

const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");

async function printed(words: readonly string[]): Promise<string> {
  const environment = new FakeEnvironment();
  const exitCode = await runCli(words, environment, () => assert.fail("no runner is needed"));
  assert.equal(exitCode, 0, environment.stderr.text);
  return environment.stdout.text;
}

test("the table of strategies in README.md is the one the program prints", async () => {
  const between =
    /<!-- strategies: printed by bin\/underway strategies --markdown -->\n([^]*?)<!-- strategies end -->/.exec(readme);
  assert.equal(between?.[1], await printed(["strategies", "--markdown"]));
});

test("README.md lists every exit code with the meaning that --help gives", async () => {
  const help = await printed(["--help"]);
  for (const [code, meaning] of exitCodeMeanings) {
    assert.ok(readme.includes(`| ${code} | ${meaning} |`), `${code} in README.md`);
    assert.ok(help.includes(`${code}  ${meaning}`), `${code} in --help`);
  }
});

test("every option that README.md shows is one that the program has", async () => {
  let help = "";
  for (const command of ["migrate", "explore", "replay", "strategies", "vf serve", "sidecar"]) {
    help += await printed([...command.split(" "), "--help"]);
  }
  for (const [option] of readme.matchAll(/(?<![\w-])--[a-z][a-z-]+/g)) assert.ok(help.includes(option), option);
});
