// The main job between two real QEMUs: each strategy moves the guest while it downloads, with and without a vIOMMU.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, test } from "node:test";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest } from "../src/host/assets-qemu.ts";
import { notRun, readWithTshark } from "../src/host/test-programs.ts";
import { assertConsistent, assertCorrupt, migrate } from "./real-migrations.fixture.ts";

let whyNot: string | undefined;

before(async () => {
  try {
    await prepareQemu();
    await prepareQemuGuest();
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
    whyNot = thrown.message;
  }
});

const cases = [
  { strategy: "rings-first", iommu: "none", tracker: "descriptor-shadow" },
  { strategy: "rings-first", iommu: "intel", tracker: "iommu" },
  { strategy: "rings-first", iommu: "virtio", tracker: "iommu" },
  { strategy: "quiesce", iommu: "intel", tracker: "iommu" },
  { strategy: "device-log", iommu: "none", tracker: "descriptor-shadow" },
  { strategy: "reinit", iommu: "intel", tracker: "iommu" },
] as const;

for (const { strategy, iommu, tracker } of cases) {
  test(`with ${strategy}, vIOMMU ${iommu}, a guest moves between QEMUs while it downloads, and no byte is lost`, async (t) => {
    if (whyNot !== undefined) return notRun(t, whyNot);
    const migrated = await migrate("--machine", "qemu", "--iommu", iommu, "--strategy", strategy, "--seed", "7");
    assertConsistent(migrated, strategy);
    return assert.deepEqual(migrated.report.methods, { cpuDirtyLog: "qemu-migration", tracker });
  });
}

test("the frames of such a move, captured, are read by tshark: the download on both hosts' ports, no checksum wrong", async (t) => {
  if (whyNot !== undefined) return notRun(t, whyNot);
  const folder = await mkdtemp(path.join(tmpdir(), "underway-"));
  t.after(() => rm(folder, { recursive: true }));
  const capture = path.join(folder, "move.pcapng");
  assertConsistent(await migrate("--machine", "qemu", "--seed", "8", "--capture", capture), "rings-first");
  const interfacesOf = (filter: string): string[] | undefined =>
    readWithTshark(t, capture, ["frame.interface_name"], filter)?.flat();
  const carriers = new Set(interfacesOf("tcp.len > 0"));
  if (carriers.size === 0) return undefined;
  assert.ok(carriers.has("source") && carriers.has("destination"), [...carriers].join(", "));
  return assert.deepEqual(interfacesOf("tcp.checksum.status == 0 || ip.checksum.status == 0"), []);
});

test("with blind the same guest arrives corrupt, and the report names the stale frames", async (t) => {
  if (whyNot !== undefined) return notRun(t, whyNot);
  return assertCorrupt(await migrate("--machine", "qemu", "--iommu", "intel", "--strategy", "blind", "--seed", "7"));
});
