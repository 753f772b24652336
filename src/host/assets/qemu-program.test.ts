import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { neededLibraries } from "./elf.ts";
import { privateQemuCommand, selectQemu } from "./qemu-program.ts";

/** A tree of packages whose QEMU is this machine's `true`, a real program with real needs. */
async function tree(t: TestContext): Promise<{ readonly root: string; readonly needed: readonly string[] }> {
  const root = await mkdtemp(path.join(tmpdir(), "underway-qemu-"));
  t.after(() => rm(root, { recursive: true, force: true }));
  for (const folder of ["usr/bin", "usr/lib/x", "usr/share/seabios", "usr/share/qemu"]) {
    await mkdir(path.join(root, folder), { recursive: true });
  }
  await copyFile("/bin/true", path.join(root, "usr/bin/qemu-system-x86_64"));
  const needed = neededLibraries(await readFile("/bin/true"));
  for (const name of needed) {
    await writeFile(path.join(root, `usr/lib/x/${name}.0.1`), "library");
    await symlink(`${name}.0.1`, path.join(root, "usr/lib/x", name));
  }
  const others = ["usr/lib/x/ld-linux-x.so.2", "usr/lib/x/libunneeded.so.1", "usr/share/seabios/bios-256k.bin"];
  for (const file of [...others, "usr/share/seabios/bios.bin", "usr/share/qemu/efi-virtio.rom"]) {
    await writeFile(path.join(root, file), "x");
  }
  return { root, needed };
}

test("of the packages only the program, the libraries it needs, the loader and a PC's firmware are kept", async (t) => {
  const { root, needed } = await tree(t);
  assert.ok(needed.length > 0);
  assert.deepEqual(
    (await selectQemu(root)).toSorted(),
    [
      "usr/bin/qemu-system-x86_64",
      ...needed.map((name) => `usr/lib/x/${name}`),
      "usr/lib/x/ld-linux-x.so.2",
      "usr/share/qemu/efi-virtio.rom",
      "usr/share/seabios/bios-256k.bin",
    ].toSorted(),
  );
});

test("a library that no package holds is named", async (t) => {
  const { root, needed } = await tree(t);
  const [first = ""] = needed;
  await rm(path.join(root, "usr/lib/x", first));
  await assert.rejects(selectQemu(root), { code: "asset-missing", message: new RegExp(`${first}.*needs`) });
});

test("QEMU is run by the loader, the libraries and the firmware that were unpacked with it", () => {
  const paths = ["/t/bin/qemu-system-x86_64", "/t/lib/ld-linux-x.so.2", "/t/lib/libc.so.6", "/t/share/a/pvh.bin"];
  const files = [...paths, "/t/share/b/bios-256k.bin"].map((file) => ({
    path: file,
    sizeBytes: 1,
    sha256: "",
    origin: "",
  }));
  assert.deepEqual(
    privateQemuCommand(files).join(" "),
    "/t/lib/ld-linux-x.so.2 --inhibit-cache --library-path /t/lib /t/bin/qemu-system-x86_64 -L /t/share/a -L /t/share/b",
  );
});
