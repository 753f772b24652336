// A real QEMU as a machine: what its dirty log says against all of its memory, and what becomes of its guest.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { ManualClock } from "../src/base/clock.ts";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest, type QemuAsset } from "../src/host/assets-qemu.ts";
import { untilPrompt } from "../src/host/linux-boot.ts";
import { notRun } from "../src/host/test-programs.ts";
import { QemuMachine, type QemuPciState } from "../src/machine/qemu/machine.ts";
import { loadNative, type Native } from "../src/machine/qemu/native.ts";
import type { BootSettings } from "../src/machine/qemu/qemu-command-line.ts";
import { QemuProcess } from "../src/machine/qemu/qemu-process.ts";
import { ServedVm } from "../src/machine/qemu/served-vm.ts";
import { runCommand } from "../src/machine/shell.ts";
import type { GuestMemory } from "../src/memory/guest-memory.ts";
import { PageSet } from "../src/memory/page-set.ts";

const MEMORY_BYTES = 160 << 20;
const ROUNDS = 6;
const ROUND_MS = 120;

interface Real {
  readonly qemu: QemuAsset;
  readonly native: Native;
  readonly boot: BootSettings | undefined;
}

/** What a test needs of the machine it runs on; undefined where it is not to be had. */
async function real(t: TestContext, options: { withLinux: boolean }): Promise<Real | undefined> {
  const native = loadNative();
  if (native === undefined) return notRun(t, "koffi is not there, or has nothing for this machine");
  try {
    const qemu = await prepareQemu();
    if (!options.withLinux) return { qemu, native, boot: undefined };
    const { kernel, initrd } = await prepareQemuGuest();
    const commandLine = "console=ttyS0 quiet nokaslr random.trust_cpu=on mitigations=off underway.modules=virtio_net";
    return { qemu, native, boot: { kernel: kernel.path, initrd: initrd.path, commandLine } };
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return notRun(t, error.message);
  }
}

interface Vm {
  readonly process: QemuProcess;
  readonly machine: QemuMachine;
  readonly memory: GuestMemory;
}

/** Nothing drives the VF here, so there is nothing to carry over of it. */
const noPciState: QemuPciState = {
  prepareRead: () => Promise.resolve(new Uint8Array(0)),
  read: () => Promise.resolve(new Uint8Array(0)),
  prepareWrite: () => Promise.resolve(),
  write: () => Promise.resolve(),
};

async function start(
  t: TestContext,
  { qemu, native, boot }: Real,
  options: { incoming: boolean; version?: string },
): Promise<Vm> {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const vfSocketPath = path.join(directory, "vf");
  const served = await ServedVm.listen({
    socketPath: vfSocketPath,
    mac: "02:00:00:00:00:09",
    uplink: { frame() {} },
    clock: new ManualClock(0),
    native,
  });
  t.after(() => served.close());
  const { incoming, version = qemu.version } = options;
  const process = await QemuProcess.start({
    command: qemu.command,
    settings: {
      version,
      memoryBytes: MEMORY_BYTES,
      accelerator: "tcg",
      cpuModel: "qemu64",
      vIommu: "none",
      vfSocketPath,
      incoming,
      ...(boot === undefined ? {} : { boot }),
    },
  });
  t.after(() => process.kill());
  const { memory } = await served.untilShared(30_000);
  const machine = new QemuMachine({
    qmp: process.qmp,
    memory,
    pciState: noPciState,
    holdMessages: (isHeld) => served.vf.holdMessages(isHeld),
    directory,
    isRunning: !incoming,
  });
  return { process, machine, memory };
}

/** A copy of memory that is kept up by the log alone, as the engine keeps the destination's. */
class KeptCopy {
  readonly bytes: Uint8Array;
  readonly #memory: GuestMemory;
  readonly #machine: QemuMachine;
  /** Pages copied again, all rounds together. */
  copied = 0;

  constructor({ machine, memory }: Vm) {
    this.#memory = memory;
    this.#machine = machine;
    machine.cpuDirtyLog.start();
    this.bytes = memory.bytes().slice();
  }

  round(): void {
    const { count, sizeBytes } = this.#memory.pages;
    const dirty = new PageSet(count);
    this.#machine.cpuDirtyLog.fetchAndClear(dirty);
    const source = this.#memory.bytes();
    for (let page = dirty.next(0); page >= 0; page = dirty.next(page + 1)) {
      const at = page * sizeBytes;
      this.bytes.set(source.subarray(at, at + sizeBytes), at);
      this.copied++;
    }
  }
}

/** Pages that are not the same. */
function stale(copy: Uint8Array, memory: GuestMemory): number[] {
  const { pages } = memory;
  const [a, b] = [Buffer.from(copy.buffer), Buffer.from(memory.bytes().buffer, 0, copy.length)];
  if (a.equals(b)) return [];
  return Array.from({ length: pages.count }, (_, page) => page).filter((page) => {
    const at = page * pages.sizeBytes;
    return a.compare(b, at, at + pages.sizeBytes, at, at + pages.sizeBytes) !== 0;
  });
}

async function say({ process }: Vm, command: string): Promise<string> {
  const { exitStatus, output } = await runCommand(process.console, command, { timeoutMs: 60_000 });
  assert.equal(exitStatus, 0, `${command}: ${output}`);
  return output.trim();
}

const status = v.object({ status: v.string() });

test("a guest that writes all the time is copied whole by the log alone, goes on when a move is cancelled, and elsewhere when not", async (t) => {
  const given = await real(t, { withLinux: true });
  if (given === undefined) return;
  const [source, destination] = await Promise.all([
    start(t, given, { incoming: false }),
    start(t, given, { incoming: true }),
  ]);
  await untilPrompt(source.process.console, () => {});
  const sum = await say(source, "dd if=/dev/urandom of=/kept bs=1M count=4 2>/dev/null; md5sum /kept");
  await say(source, "(while :; do dd if=/dev/urandom of=/x bs=64k count=64; md5sum /x; done >/dev/null 2>&1) & true");

  for (const ending of ["cancelled", "moved"] as const) {
    const early = await source.machine.prepareMove();
    const copy = new KeptCopy(source);
    const first = copy.bytes.slice();
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(ROUND_MS);
      copy.round();
    }
    await source.machine.pause();
    copy.round();
    assert.deepEqual(stale(copy.bytes, source.memory), [], `${ending}: pages that the log missed`);
    assert.ok(stale(first, source.memory).length > 100, `${ending}: the guest wrote while it was copied`);
    assert.ok(copy.copied > 100, `${ending}: pages were copied again`);
    if (ending === "cancelled") {
      await source.machine.resume();
      assert.equal(await say(source, "md5sum /kept"), sum);
      continue;
    }
    await destination.machine.prepareArrival(early);
    destination.memory.bytes().set(copy.bytes);
    await destination.machine.restoreState(source.machine.saveState());
    await destination.machine.resume();
    await source.machine.finishMove();
    assert.equal(await say(destination, "md5sum /kept"), sum);
    assert.equal(await say(destination, "kill $! && echo here"), "here");
    assert.notEqual((await source.process.qmp.execute("query-status", status)).status, "running");
  }
});

test("a guest that somebody else stops fails the move, and stays stopped when the move is ended", async (t) => {
  const given = await real(t, { withLinux: false });
  if (given === undefined) return;
  const { machine, memory, process } = await start(t, given, { incoming: false });
  await machine.prepareMove();
  machine.cpuDirtyLog.start();
  await process.qmp.run("stop");
  const stopped = { code: "qemu-migration-failed", message: /stopped before it was time/ };
  const pages = new PageSet(memory.pages.count);
  await assert.rejects(async () => {
    for (;;) {
      machine.cpuDirtyLog.fetchAndClear(pages);
      await sleep(5);
    }
  }, stopped);
  await machine.resume();
  assert.equal((await process.qmp.execute("query-status", status)).status, "paused");
  await process.qmp.run("cont");
  await machine.prepareMove();
  await machine.resume();
  assert.equal((await process.qmp.execute("query-status", status)).status, "running");
});

test("a QEMU that switches over by itself fails the move, and its guest goes on", async (t) => {
  const given = await real(t, { withLinux: false });
  if (given === undefined) return;
  // Started as an earlier one, which needs no option to wait; from 11.1 on it does.
  const { machine, memory, process } = await start(t, given, { incoming: false, version: "10.1" });
  const { major, minor } = process.qmp.version;
  if (major * 100 + minor < 1101) return;
  const stopped = { code: "qemu-migration-failed", message: /stopped before it was time/ };
  const pages = new PageSet(memory.pages.count);
  await assert.rejects(async () => {
    await machine.prepareMove();
    for (;;) {
      machine.cpuDirtyLog.fetchAndClear(pages);
      await sleep(5);
    }
  }, stopped);
  await machine.resume();
  assert.equal((await process.qmp.execute("query-status", status)).status, "running");
});

test("a QEMU that is killed in the middle of a move fails it, and cannot be resumed", async (t) => {
  const given = await real(t, { withLinux: false });
  if (given === undefined) return;
  const { machine, process } = await start(t, given, { incoming: false });
  await machine.prepareMove();
  await process.kill();
  await assert.rejects(machine.pause(), OperationError);
  await assert.rejects(machine.resume(), { code: "qmp-closed" });
});

test("a state that makes no sense is refused with QEMU's reason", async (t) => {
  const given = await real(t, { withLinux: false });
  if (given === undefined) return;
  const source = await start(t, given, { incoming: false });
  const early = await source.machine.prepareMove();
  await source.machine.pause();
  const state = source.machine.saveState();
  await source.machine.resume();
  const changed = Buffer.from(state);
  changed.write("timex", changed.indexOf("timer"));
  const destination = await start(t, given, { incoming: true });
  await destination.machine.prepareArrival(early);
  await assert.rejects(destination.machine.restoreState(changed), {
    code: "qemu-state-refused",
    message: /load of migration failed/,
  });
  // One that is cut short keeps it waiting for the rest.
  const dying = await start(t, given, { incoming: true });
  await dying.machine.prepareArrival(early);
  const fails = assert.rejects(dying.machine.restoreState(state.subarray(0, state.length - 100_000)), OperationError);
  await dying.process.kill();
  await fails;
});
