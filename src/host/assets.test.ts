import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { prepareAssets, preparePasst, type PrepareOptions } from "./assets.ts";

const ownPath = process.env["PATH"] ?? "";

/**
 * A machine whose apt only pretends: `archive` holds real .deb files made here, `calls` notes each use, and
 * dpkg-deb, flock and xz are the host's own.
 */
class PretendMachine {
  readonly root: string;
  readonly messages: string[] = [];

  private constructor(root: string) {
    this.root = root;
  }

  static async make(t: TestContext): Promise<PretendMachine> {
    const machine = new PretendMachine(await mkdtemp(path.join(tmpdir(), "underway-assets-")));
    t.after(async () => {
      process.env["PATH"] = ownPath;
      await rm(machine.root, { recursive: true, force: true });
    });
    const { root } = machine;
    await machine.write("etc/debian.sources", "Types: deb\nURIs: file:///debian\nSuites: trixie\nComponents: main\n");
    await machine.tool(
      "apt-config",
      `if [ $1 = shell ]; then echo "SOURCELIST='${root}/none'"; echo "SOURCEPARTS='${root}/etc'"; fi`,
    );
    // `update` offers the packages; one that is named in the file of a suite needs that suite among the sources.
    await machine.tool(
      "apt-get",
      `echo "$*" >> ${root}/calls
       test -e ${root}/broken && { echo "E: Unable to reach the archive" >&2; exit 100; }
       case $1 in
         update) grep -q bookworm "$(dirname "$APT_CONFIG")/etc/sources.list.d/debian.sources" && touch ${root}/has-bookworm; exit 0 ;;
         download) cp ${root}/archive/"\${2%%=*}"_*.deb . ;;
       esac`,
    );
    await machine.tool(
      "apt-cache",
      `case $3 in linux-image*) test -e ${root}/has-bookworm || exit 100 ;; esac
       cat ${root}/archive/$3.txt`,
    );
    await machine.package("linux-image-686", {}, "Depends: linux-base, linux-image-6.1.0-99-686 (= 6.1-1)");
    await machine.package("linux-image-6.1.0-99-686", {
      "boot/vmlinuz-6.1.0-99-686": "kernel",
      "boot/System.map": "not wanted",
      "lib/modules/6.1/ixgbevf.ko": "\0depends=mdio\0",
      "lib/modules/6.1/mdio.ko": "\0depends=\0",
      "lib/modules/6.1/pktgen.ko": "\0depends=\0",
      "lib/modules/6.1/other.ko": "not wanted",
    });
    await machine.package("busybox-static", { "usr/bin/busybox": "busybox" });
    await machine.package("seabios", {
      "usr/share/seabios/bios.bin": "b",
      "usr/share/seabios/vgabios-stdvga.bin": "v",
    });
    await machine.package("passt", { "usr/bin/passt": "passt", "usr/bin/passt.avx2": "passt", "usr/bin/pasta": "no" });
    process.env["PATH"] = `${root}/tools:${ownPath}`;
    return machine;
  }

  get options(): PrepareOptions {
    return { cacheDirectory: path.join(this.root, "cache"), onProgress: (message) => this.messages.push(message) };
  }

  async write(file: string, text: string): Promise<string> {
    const where = path.join(this.root, file);
    await mkdir(path.dirname(where), { recursive: true });
    await writeFile(where, text);
    return where;
  }

  async tool(name: string, script: string): Promise<void> {
    await chmod(await this.write(`tools/${name}`, `#!/bin/sh\n${script}\n`), 0o755);
  }

  async package(name: string, files: Record<string, string>, field = "Depends: libc6"): Promise<void> {
    const tree = path.join(this.root, `tree-${name}`);
    const control = `Package: ${name}\nVersion: 1:2.3-4\nArchitecture: i386\n`;
    await this.write(`tree-${name}/DEBIAN/control`, `${control}Maintainer: A\nDescription: B\n`);
    await this.write(`archive/${name}.txt`, `${control}${field}\nSize: 1500000\nSHA256: 00\n`);
    for (const [file, text] of Object.entries(files)) await this.write(`tree-${name}/${file}`, text);
    execFileSync("dpkg-deb", ["--build", "-Znone", tree, path.join(this.root, `archive/${name}_1.deb`)], {
      stdio: "ignore",
    });
  }

  async callCount(): Promise<number> {
    return (await readFile(path.join(this.root, "calls"), "utf8").catch(() => "")).split("\n").length - 1;
  }
}

test("the kernel is found behind its metapackage, and only what a guest needs of each package is kept", async (t) => {
  const machine = await PretendMachine.make(t);
  const assets = await prepareAssets(machine.options);
  assert.equal(assets.kernelRelease, "6.1.0-99-686");
  assert.equal(assets.kernel.origin, "linux-image-6.1.0-99-686 1:2.3-4");
  assert.equal(await readFile(assets.kernel.path, "utf8"), "kernel");
  assert.equal(await readFile(assets.bios.path, "utf8"), "b");
  assert.equal(await readFile(assets.vgaBios?.path ?? "", "utf8"), "v");
  const initrd = await readFile(assets.initrd.path, "latin1");
  assert.ok(initrd.indexOf("insmod /lib/modules/mdio.ko") < initrd.indexOf("insmod /lib/modules/ixgbevf.ko"));
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
  const callsBefore = await machine.callCount();
  machine.messages.length = 0;
  process.env["PATH"] = "/nonexistent";
  assert.deepEqual(await prepareAssets(machine.options), first);
  await preparePasst(machine.options);
  assert.equal(await machine.callCount(), callsBefore);
  assert.deepEqual(machine.messages, []);
});

test("several that prepare at once fetch each package once", async (t) => {
  const machine = await PretendMachine.make(t);
  const all = await Promise.all([1, 2, 3].map(() => prepareAssets(machine.options)));
  assert.equal(new Set(all.map((assets) => assets.key)).size, 1);
  const calls = (await readFile(path.join(machine.root, "calls"), "utf8")).split("\n");
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
  await machine.write("broken", "");
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
  assert.equal(await machine.callCount(), 0);
});
