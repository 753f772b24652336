import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CpioWriter } from "./cpio.ts";

interface ReadEntry {
  readonly name: string;
  readonly mode: number;
  readonly contents: Uint8Array;
  readonly device: readonly [number, number];
}

/** Reads a newc archive from its description in the kernel's buffer-format.rst, independently of the writer. */
function readNewc(archive: Uint8Array): ReadEntry[] {
  const buffer = Buffer.from(archive);
  const entries: ReadEntry[] = [];
  for (let at = 0; ;) {
    assert.equal(buffer.toString("latin1", at, at + 6), "070701");
    const field = (index: number): number =>
      Number.parseInt(buffer.toString("latin1", at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const nameEnd = at + 110 + field(11);
    assert.equal(buffer[nameEnd - 1], 0);
    const name = buffer.toString("utf8", at + 110, nameEnd - 1);
    const start = Math.ceil(nameEnd / 4) * 4;
    const end = start + field(6);
    if (name === "TRAILER!!!") {
      assert.ok(buffer.subarray(end).every((byte) => byte === 0));
      return entries;
    }
    entries.push({ name, mode: field(1), contents: buffer.subarray(start, end), device: [field(9), field(10)] });
    at = Math.ceil(end / 4) * 4;
  }
}

test("whatever files are written are read back, whole, by a reader that follows the kernel's description", () => {
  const files = fc.array(
    fc.record({ name: fc.stringMatching(/^[a-z][a-z/]{0,20}$/), contents: fc.uint8Array({ maxLength: 40 }) }),
  );
  fc.assert(
    fc.property(files, (inputs) => {
      const writer = new CpioWriter();
      for (const { name, contents } of inputs) writer.file(name, contents, 0o640);
      const archive = writer.finish();
      assert.equal(archive.length % 512, 0);
      assert.deepEqual(
        readNewc(archive).map(({ name, mode, contents }) => ({ name, mode, contents: [...contents] })),
        inputs.map(({ name, contents }) => ({ name, mode: 0o100_640, contents: [...contents] })),
      );
    }),
  );
});

test("folders, links and devices carry their type, target and numbers", () => {
  const writer = new CpioWriter();
  writer.directory("dev");
  writer.characterDevice("dev/console", { major: 5, minor: 1 }, 0o600);
  writer.symlink("sh", "busybox");
  const [directory, device, link] = readNewc(writer.finish());
  assert.equal(directory?.mode, 0o040_755);
  assert.equal(device?.mode, 0o020_600);
  assert.deepEqual(device?.device, [5, 1]);
  assert.equal(link?.mode, 0o120_777);
  assert.equal(Buffer.from(link?.contents ?? []).toString(), "busybox");
});

test("the same entries give the same bytes", () => {
  const write = (): Uint8Array => {
    const writer = new CpioWriter();
    writer.file("init", "#!/bin/sh\n", 0o755);
    return writer.finish();
  };
  assert.deepEqual(write(), write());
});
