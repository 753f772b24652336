// QEMU as a process of ours, and the PCI state that goes from one to another, with QEMUs that run no more than firmware.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu } from "../src/host/assets-qemu.ts";
import { notRun } from "../src/host/test-programs.ts";
import { GdbMemory } from "../src/machine/qemu/gdb-memory.ts";
import { HumanMonitor } from "../src/machine/qemu/hmp.ts";
import { configurationAddress, PciStateReader } from "../src/machine/qemu/pci-reader.ts";
import { PciRestore } from "../src/machine/qemu/pci-restore.ts";
import { decodePciState, encodePciState, tableAddress } from "../src/machine/qemu/pci-state.ts";
import type { QemuSettings } from "../src/machine/qemu/qemu-command-line.ts";
import { QemuProcess } from "../src/machine/qemu/qemu-process.ts";

let command: readonly string[] = [];
let whyNot: string | undefined;

before(async () => {
  try {
    ({ command } = await prepareQemu());
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
    whyNot = thrown.message;
  }
});

/** A card with MSI-X that every QEMU has, in place of the VF. */
const card = { vendorId: 0x8086, deviceId: 0x10d3 };
const port = "pcie-root-port,id=port0,chassis=1,slot=1";
const cardArguments = ["-device", port, "-device", "e1000e,id=card,bus=port0,romfile="];
const settings: Omit<QemuSettings, "qmpPath" | "serialPath"> = {
  memoryBytes: 64 << 20,
  accelerator: "tcg",
  cpuModel: "max",
  vIommu: "none",
  incoming: false,
};

async function started(t: TestContext, incoming: boolean): Promise<QemuProcess> {
  const qemu = await QemuProcess.start({
    command: [...command, ...cardArguments],
    settings: { ...settings, incoming },
  });
  t.after(() => qemu.kill());
  return qemu;
}

/** Waits until the firmware has numbered the buses and laid out the base addresses. */
async function firmwareDone(qemu: QemuProcess): Promise<PciStateReader> {
  for (;;) {
    try {
      const reader = await PciStateReader.open(qemu.qmp, card);
      const { command: bits } = await reader.read();
      if ((bits & 2) !== 0) return reader;
    } catch (error) {
      if (!(error instanceof OperationError && error.code.startsWith("pci-"))) throw error;
    }
    await sleep(50);
  }
}

test("QEMU's own words come with a start that fails", async (t) => {
  if (whyNot !== undefined) {
    notRun(t, whyNot);
    return;
  }
  await assert.rejects(QemuProcess.start({ command: [...command, "-device", "no-such-device"], settings }), {
    code: "qemu-start-failed",
    message: /no-such-device/,
  });
});

test("a QEMU answers on QMP, is killed, and leaves no folder behind", async (t) => {
  if (whyNot !== undefined) {
    notRun(t, whyNot);
    return;
  }
  const qemu = await started(t, false);
  assert.ok(qemu.qmp.version.major >= 10);
  const socketPath = qemu.socketPath("x");
  assert.equal((await qemu.kill()).signal, "SIGKILL");
  assert.equal(existsSync(path.dirname(socketPath)), false);
});

test("a QEMU does not outlive the process that started it", async (t) => {
  if (whyNot !== undefined) {
    notRun(t, whyNot);
    return;
  }
  const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
  t.after(() => rm(directory, { recursive: true }));
  const script = path.join(directory, "parent.ts");
  await writeFile(
    script,
    `import { QemuProcess } from ${JSON.stringify(path.join(import.meta.dirname, "../src/machine/qemu/qemu-process.ts"))};
     const qemu = await QemuProcess.start(${JSON.stringify({ command, settings, runDirectory: directory })});
     console.log(qemu.pid);`,
  );
  const parent = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  const pid = await new Promise<number>((resolve) => {
    parent.stdout.once("data", (text: Buffer) => resolve(Number(text.toString())));
  });
  process.kill(pid, 0);
  parent.kill("SIGKILL");
  while (isAlive(pid)) await sleep(20);
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("PCI state goes from one QEMU to another that has seen no firmware, table and all", async (t) => {
  if (whyNot !== undefined) {
    notRun(t, whyNot);
    return;
  }
  const [source, destination] = await Promise.all([started(t, false), started(t, true)]);
  const reader = await firmwareDone(source);
  await source.qmp.run("stop");
  const early = await reader.read();
  assert.equal(early.bridges.length, 1);
  const restore = await PciRestore.prepare(destination.qmp, early, { gdbSocketPath: destination.socketPath("gdb") });
  t.after(() => restore.close());

  await programVectors(source, early);
  const late = await reader.read();
  assert.notDeepEqual(late.msix.table, early.msix.table);
  await restore.finish(decodePciState(encodePciState(late)));
  await restore.close();

  const copy = await (await PciStateReader.open(destination.qmp, card)).read();
  assert.deepEqual(copy, late);
  await destination.qmp.run("query-status");
});

/** What a driver would do: two vectors into the table, MSI-X on. */
async function programVectors(qemu: QemuProcess, state: Awaited<ReturnType<PciStateReader["read"]>>): Promise<void> {
  const monitor = new HumanMonitor(qemu.qmp);
  await monitor.startGdbServer(qemu.socketPath("gdb"));
  const memory = await GdbMemory.connect(qemu.socketPath("gdb"));
  const table = Uint32Array.of(0xfee0_0000, 0, 0x25, 0, 0xfee0_1000, 0, 0x26, 0);
  const control = configurationAddress(state.window, state.address) + state.msix.offset + 2;
  await memory.write(tableAddress(state), new Uint8Array(table.buffer));
  await memory.write(control, Uint8Array.of(0, 0x80));
  await memory.leave();
  await monitor.stopGdbServer();
}
