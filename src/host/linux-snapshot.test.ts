import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { fillFromSnapshot, readSnapshot, takeSnapshot, writeSnapshot } from "./linux-snapshot.ts";

const pageBytes = 4096;

async function snapshotFile(t: TestContext): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), "underway-snapshot-"));
  t.after(() => rm(directory, { recursive: true }));
  return path.join(directory, "one.snapshot");
}

function someRam(): Uint8Array {
  const ram = new Uint8Array(11 * pageBytes);
  ram.fill(1, 3 * pageBytes, 3 * pageBytes + 5);
  ram[ram.length - 1] = 9;
  return ram;
}

test("RAM and both states come back, and zero pages are not in the file", async (t) => {
  const file = await snapshotFile(t);
  const ram = someRam();
  const states = { machineState: Uint8Array.of(1, 2, 3), vfState: Uint8Array.of(4), pageBytes };
  const taken = takeSnapshot(ram, states);
  assert.equal(taken.pages.length, 2 * pageBytes);
  await writeSnapshot(file, taken);
  const back = await readSnapshot(file);
  assert.ok(back !== undefined);
  assert.deepEqual([...back.machineState], [1, 2, 3]);
  assert.deepEqual([...back.vfState], [4]);
  const filled = new Uint8Array(ram.length);
  fillFromSnapshot(filled, back);
  assert.deepEqual(filled, ram);
});

test("a file that is missing, cut off, changed or something else is no snapshot", async (t) => {
  const file = await snapshotFile(t);
  assert.equal(await readSnapshot(file), undefined);
  await writeSnapshot(
    file,
    takeSnapshot(someRam(), { machineState: Uint8Array.of(1), vfState: Uint8Array.of(2), pageBytes }),
  );
  const good = await readFile(file);
  for (const bytes of [
    good.subarray(0, 4),
    good.subarray(0, -1),
    Buffer.alloc(100),
    good.with(good.length >>> 1, 0xff),
  ]) {
    await writeFile(file, bytes);
    assert.equal(await readSnapshot(file), undefined, `${bytes.length} bytes`);
  }
});
