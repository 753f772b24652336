import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { asCacheError, defaultCacheDirectory, withLock, writeFileAtomically } from "./cache.ts";

async function folder(t: TestContext): Promise<string> {
  const root = await mkdtemp(path.join(tmpdir(), "underway-cache-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  return root;
}

test("the cache is where UNDERWAY_CACHE says, else below the XDG cache, else below the home folder", () => {
  const both = { UNDERWAY_CACHE: "/data/underway", XDG_CACHE_HOME: "/data/cache" };
  assert.equal(defaultCacheDirectory(both), "/data/underway");
  assert.equal(defaultCacheDirectory({ XDG_CACHE_HOME: "/data/cache" }), "/data/cache/underway");
  assert.equal(
    defaultCacheDirectory({ UNDERWAY_CACHE: "", XDG_CACHE_HOME: "relative" }),
    path.join(homedir(), ".cache/underway"),
  );
});

test("a file that is written again is one of the two, whole, and nothing else is left in its folder", async (t) => {
  const file = path.join(await folder(t), "deep/file");
  await writeFileAtomically(file, "one");
  await Promise.all(["two", "six"].map((text) => writeFileAtomically(file, text)));
  assert.match(await readFile(file, "utf8"), /^(?:two|six)$/);
  assert.deepEqual(await readdir(path.dirname(file)), ["file"]);
});

test("under one lock file only one body runs at a time, and a body that throws frees it", async (t) => {
  const lock = path.join(await folder(t), "lock");
  let inside = 0;
  const body = async (): Promise<void> => {
    assert.equal(++inside, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    inside--;
    throw new Error("wound up");
  };
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => withLock(lock, body)));
  assert.ok(outcomes.every((outcome) => outcome.status === "rejected" && String(outcome.reason).includes("wound up")));
});

test("a holder that is killed leaves no lock behind", async (t) => {
  const root = await folder(t);
  const script = path.join(root, "holder.ts");
  await writeFile(
    script,
    `import { withLock } from ${JSON.stringify(path.join(import.meta.dirname, "cache.ts"))};
     await withLock(${JSON.stringify(path.join(root, "lock"))}, async () => { console.log("held"); await new Promise((r) => setTimeout(r, 1e9)); });`,
  );
  const holder = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(holder.stdout, "data");
  holder.kill("SIGKILL");
  assert.equal(await withLock(path.join(root, "lock"), async () => "mine"), "mine");
});

test("a cache that cannot be written is a cache-unusable that says where", async (t) => {
  const root = await folder(t);
  await writeFile(path.join(root, "file"), "");
  await chmod(path.join(root, "file"), 0o400);
  const inAFile = path.join(root, "file/below/lock");
  await assert.rejects(
    withLock(inAFile, async () => undefined),
    { code: "cache-unusable", facts: { path: path.dirname(inAFile) } },
  );
});

test("a full disk is told as the cache's trouble, and a mistake of ours is not", () => {
  const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  assert.match(String(asCacheError(full, "there")), /cannot be written at there/);
  const mistake = new TypeError("undefined is not a function");
  assert.equal(asCacheError(mistake, "there"), mistake);
});
