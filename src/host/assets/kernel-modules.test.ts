import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { findModules, moduleDependencies } from "./kernel-modules.ts";

/** What matters of a module: its .modinfo strings, among other bytes. */
function moduleBytes(depends: string): Buffer {
  return Buffer.from(`\x7fELF\0license=GPL\0depends=${depends}\0intree=Y\0`, "latin1");
}

async function folder(t: TestContext): Promise<string> {
  const root = await mkdtemp(path.join(tmpdir(), "underway-modules-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  await mkdir(path.join(root, "lib/modules/net"), { recursive: true });
  return root;
}

test("dependencies are the names between depends= and its NUL", () => {
  assert.deepEqual(moduleDependencies(moduleBytes("")), []);
  assert.deepEqual(moduleDependencies(moduleBytes("mdio,libphy")), ["mdio", "libphy"]);
  assert.deepEqual(moduleDependencies(Buffer.from("no such field")), []);
});

test("a module comes after what it needs, each once, with - and _ taken for the same", async (t) => {
  const root = await folder(t);
  await writeFile(path.join(root, "lib/modules/net/nic.ko"), moduleBytes("mid_layer,base"));
  await writeFile(path.join(root, "lib/modules/mid-layer.ko"), moduleBytes("base"));
  await writeFile(path.join(root, "lib/modules/base.ko"), moduleBytes(""));
  const modules = await findModules(root, ["nic", "base"]);
  const names = modules.map((module) => module.file);
  assert.deepEqual(names, ["lib/modules/base.ko", "lib/modules/mid-layer.ko", "lib/modules/net/nic.ko"]);
  assert.deepEqual(modules.at(-1)?.needs, ["base", "mid_layer"]);
});

test("modules compressed by xz or zstd are found as plain ones", async (t) => {
  const root = await folder(t);
  await writeFile(path.join(root, "lib/modules/one.ko"), moduleBytes("two"));
  execFileSync("xz", [path.join(root, "lib/modules/one.ko")]);
  await writeFile(path.join(root, "lib/modules/two.ko.zst"), zstdCompressSync(moduleBytes("")));
  const modules = await findModules(root, ["one"]);
  assert.deepEqual(
    modules.map((module) => module.file),
    ["lib/modules/two.ko", "lib/modules/one.ko"],
  );
  assert.deepEqual(await readFile(path.join(root, "lib/modules/one.ko")), moduleBytes("two"));
});

test("a module that is not there is an asset-missing that names it", async (t) => {
  const root = await folder(t);
  await assert.rejects(findModules(root, ["ixgbevf"]), { code: "asset-missing", message: /ixgbevf/ });
});
