import assert from "node:assert/strict";
import { readdir, readFile, rm, truncate } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { prepareAssets, preparePasst } from "./assets.ts";
import { PretendMachine } from "./assets/pretend-machine.fixture.ts";

test("the kernel is found behind its metapackage, and only what a guest needs of each package is kept", async (t) => {
  const machine = await PretendMachine.make(t);
  const assets = await prepareAssets(machine.options);
  assert.equal(assets.kernelRelease, "6.1.0-99-686");
  assert.equal(assets.kernel.origin, "linux-image-6.1.0-99-686 1:2.3-4");
  assert.equal(await readFile(assets.kernel.path, "utf8"), "kernel");
  assert.equal(await readFile(assets.bios.path, "utf8"), "b");
  assert.equal(await readFile(assets.vgaBios?.path ?? "", "utf8"), "v");
  const initrd = await readFile(assets.initrd.path, "latin1");
  assert.ok(initrd.includes("ixgbevf) set -- mdio ixgbevf ;;"));
  const everything = await readdir(path.join(machine.root, "cache"), { recursive: true });
  assert.ok(!everything.some((file) => /System\.map|other\.ko|\.deb$|tmp/.test(file)));
});

test("a kernel that the machine's own suites lack is looked for in Debian 12, and the person is told", async (t) => {
  const machine = await PretendMachine.make(t);
  await prepareAssets(machine.options);
  assert.ok(machine.messages.some((message) => message.includes("linux-image-686 in bookworm")));
  assert.ok(machine.messages.includes("fetching linux-image-6.1.0-99-686 1:2.3-4 (1.5 MB)"));
});

test("a full cache asks apt nothing, says nothing and gives the same key", async (t) => {
  const machine = await PretendMachine.make(t);
  const first = await prepareAssets(machine.options);
  await preparePasst(machine.options);
  const callsBefore = await machine.calls();
  machine.messages.length = 0;
  process.env["PATH"] = "/nonexistent";
  assert.deepEqual(await prepareAssets(machine.options), first);
  await preparePasst(machine.options);
  assert.deepEqual(await machine.calls(), callsBefore);
  assert.deepEqual(machine.messages, []);
});

test("several that prepare at once fetch each package once", async (t) => {
  const machine = await PretendMachine.make(t);
  const all = await Promise.all([1, 2, 3].map(() => prepareAssets(machine.options)));
  assert.equal(new Set(all.map((assets) => assets.key)).size, 1);
  const calls = await machine.calls();
  assert.equal(calls.filter((call) => call.startsWith("download")).length, 3);
});

test("a file that lost its end, and what a killed run left, are made good", async (t) => {
  const machine = await PretendMachine.make(t);
  const first = await prepareAssets(machine.options);
  await truncate(first.kernel.path, 2);
  await machine.write("cache/assets/packages/tmp-killed/half", "");
  const second = await prepareAssets(machine.options);
  assert.deepEqual(second, first);
  assert.equal(await readFile(second.kernel.path, "utf8"), "kernel");
  assert.ok(!(await readdir(path.join(machine.root, "cache/assets/packages"))).includes("tmp-killed"));
});

test("files given by hand need no apt, and each changes the key", async (t) => {
  const machine = await PretendMachine.make(t);
  process.env["PATH"] = "/nonexistent";
  const kernel = await machine.write("k", "my kernel");
  const initrd = await machine.write("i", "my initrd");
  const bios = await machine.write("b", "my bios");
  const assets = await prepareAssets({ ...machine.options, overrides: { kernel, initrd, bios } });
  assert.deepEqual([assets.kernel.path, assets.initrd.path, assets.bios.path], [kernel, initrd, bios]);
  assert.deepEqual([assets.vgaBios, assets.kernelRelease], [undefined, undefined]);
  const other = await machine.write("b2", "another bios");
  const changed = await prepareAssets({ ...machine.options, overrides: { kernel, initrd, bios: other } });
  assert.notEqual(changed.key, assets.key);
});

test("without apt the error says so and names the options that pass files by hand", async (t) => {
  const machine = await PretendMachine.make(t);
  for (const name of ["apt-config", "apt-get", "apt-cache"]) await rm(path.join(machine.root, "tools", name));
  for (const name of ["flock", "sh", "cat"]) await machine.tool(name, `PATH=/usr/bin:/bin exec ${name} "$@"`);
  process.env["PATH"] = path.join(machine.root, "tools");
  await assert.rejects(prepareAssets(machine.options), {
    code: "asset-missing",
    message: /apt was not found on this machine/,
    advice: /--kernel FILE.*--initrd FILE.*--bios FILE/,
  });
});

test("apt's own complaint is in the error when nothing could be fetched", async (t) => {
  const machine = await PretendMachine.make(t);
  await machine.write("broken", "E: Unable to reach the archive");
  await assert.rejects(prepareAssets(machine.options), {
    code: "asset-missing",
    message: /Unable to reach the archive/,
  });
  await assert.rejects(preparePasst(machine.options), { code: "asset-missing", message: /^passt is not cached/ });
});

test("a kernel by hand without its initrd, or a file that is not there, is told before anything is fetched", async (t) => {
  const machine = await PretendMachine.make(t);
  const kernel = await machine.write("k", "my kernel");
  await assert.rejects(prepareAssets({ ...machine.options, overrides: { kernel } }), { message: /needs an initrd/ });
  const initrd = path.join(machine.root, "absent");
  await assert.rejects(prepareAssets({ ...machine.options, overrides: { initrd } }), { facts: { path: initrd } });
  assert.deepEqual(await machine.calls(), []);
});
