import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { BufferMemory } from "../../memory/guest-memory.ts";
import { PageSet } from "../../memory/page-set.ts";
import { QemuMachine, type QemuPciState } from "./machine.ts";
import { encodeStream, GUEST_PAGES, guestRam, smallStream } from "./migration-stream.fixture.ts";
import { FakeQemu } from "./qemu.fixture.ts";
import { socketDirectory, until } from "./vfio-user/channel.fixture.ts";

interface Scene {
  readonly qemu: FakeQemu;
  readonly machine: QemuMachine;
  /** Each time messages were held or let go, and whether the guest ran then. */
  readonly held: { isHeld: boolean; isRunning: boolean }[];
  readonly pci: { state: Uint8Array; written: Uint8Array | undefined; problem: Error | undefined };
}

async function setUp(t: TestContext, options: { isRunning?: boolean; commandTimeoutMs?: number } = {}): Promise<Scene> {
  const { qemu, qmp } = await FakeQemu.make(options.commandTimeoutMs);
  const pci: Scene["pci"] = { state: Uint8Array.of(1, 2, 3), written: undefined, problem: undefined };
  const pciState: QemuPciState = {
    prepareRead: () => (pci.problem === undefined ? Promise.resolve(Uint8Array.of(9)) : Promise.reject(pci.problem)),
    read: () => (pci.problem === undefined ? Promise.resolve(pci.state) : Promise.reject(pci.problem)),
    prepareWrite: (early) => {
      assert.deepEqual(early, Uint8Array.of(9));
      return Promise.resolve();
    },
    write: (state) => {
      pci.written = Uint8Array.from(state);
      return Promise.resolve();
    },
  };
  const memory = new BufferMemory(guestRam.usedBytes);
  const directory = socketDirectory(t);
  const isRunning = options.isRunning ?? true;
  qemu.isRunning = isRunning;
  const held: Scene["held"] = [];
  const holdMessages = (isHeld: boolean): void => void held.push({ isHeld, isRunning: qemu.isRunning });
  const machine = new QemuMachine({ qmp, memory, pciState, holdMessages, directory, isRunning });
  t.after(async () => {
    qemu.die();
    qmp.close();
    await machine.resume().catch(() => {});
  });
  return { qemu, pci, held, machine };
}

function fetched({ cpuDirtyLog }: QemuMachine): number[] {
  const set = new PageSet(GUEST_PAGES);
  cpuDirtyLog.fetchAndClear(set);
  return set.toArray();
}

test("a guest moves: its log, then QEMU's and the card's state, and only the destination runs", async (t) => {
  const source = await setUp(t);
  const destination = await setUp(t, { isRunning: false });
  await destination.machine.prepareArrival(await source.machine.prepareMove());
  source.machine.cpuDirtyLog.start();
  source.qemu.sendPages([4]);
  await source.machine.pause();
  await source.machine.pause();
  assert.deepEqual(fetched(source.machine), [4, 7]);
  await destination.machine.restoreState(source.machine.saveState());
  assert.deepEqual(destination.pci.written, Uint8Array.of(1, 2, 3));
  const carried = smallStream.last.filter(({ block }) => block !== guestRam.name);
  assert.deepEqual(
    Buffer.from(destination.qemu.stateTaken ?? []),
    Buffer.from(encodeStream({ ...smallStream, sent: [], last: carried }, true)),
  );
  await destination.machine.resume();
  await source.machine.finishMove();
  assert.ok(destination.qemu.isRunning && !source.qemu.isRunning);
  assert.ok(!destination.machine.isPaused && source.machine.isPaused);
  assert.equal(source.qemu.status, "completed");
});

test("a QEMU that answers stop only when its stream was read to the end is paused all the same", async (t) => {
  const { qemu, machine } = await setUp(t, { commandTimeoutMs: 2000 });
  // More than a socket takes that nobody reads.
  qemu.description = { ...smallStream, devices: new Uint8Array(8 << 20).fill(5) };
  qemu.answersStopAfterEnd = true;
  await machine.prepareMove();
  machine.cpuDirtyLog.start();
  // Enough that is not read at once, so that the log rests.
  qemu.sendPages([4]);
  await machine.pause();
  assert.deepEqual(fetched(machine), [4, 7]);
  assert.ok(machine.saveState().length > 8 << 20);
});

test("the card's interrupts are held before the guest stops, and let go once it runs again", async (t) => {
  const { qemu, machine, held } = await setUp(t);
  await machine.pause();
  qemu.refuses.set("cont", "no");
  await assert.rejects(machine.resume(), { code: "qmp-error" });
  assert.deepEqual(held, [{ isHeld: true, isRunning: true }]);
  qemu.refuses.delete("cont");
  await machine.resume();
  assert.deepEqual(held.slice(1), [{ isHeld: false, isRunning: true }]);
});

test("without a move a machine pauses and goes on, and asks QEMU only when there is something to change", async (t) => {
  const { qemu, machine } = await setUp(t);
  await machine.resume();
  await machine.pause();
  await machine.pause();
  assert.ok(machine.isPaused && !qemu.isRunning);
  await machine.resume();
  await machine.resume();
  assert.ok(!machine.isPaused && qemu.isRunning);
  assert.deepEqual(qemu.commands, ["stop", "cont"]);
});

test("a move that comes to nothing leaves a running guest and a QEMU that can move again, whenever it ended", async (t) => {
  for (const when of ["before the pause", "after the pause"] as const) {
    const { qemu, machine } = await setUp(t);
    const before = structuredClone({ capabilities: qemu.capabilities, parameters: qemu.parameters });
    await machine.prepareMove();
    machine.cpuDirtyLog.start();
    if (when === "after the pause") await machine.pause();
    machine.cpuDirtyLog.putBack(PageSet.of(GUEST_PAGES, [1]));
    await machine.resume();
    machine.cpuDirtyLog.stop();
    machine.cpuDirtyLog.putBack(PageSet.of(GUEST_PAGES, [1]));
    assert.ok(qemu.isRunning && !machine.isPaused, when);
    assert.equal(qemu.status, "cancelled");
    assert.deepEqual({ capabilities: qemu.capabilities, parameters: qemu.parameters }, before);
    await machine.prepareMove();
    await machine.resume();
  }
});

test("a move that was left without a word is ended by the next one", async (t) => {
  const { qemu, machine } = await setUp(t);
  await machine.prepareMove();
  await machine.prepareMove();
  machine.cpuDirtyLog.start();
  qemu.sendPages([6]);
  await until(() => fetched(machine).includes(6));
  assert.deepEqual(
    qemu.commands.filter((command) => command.startsWith("migrate") && !command.startsWith("migrate-set")),
    ["migrate", "migrate_cancel", "migrate"],
  );
  await machine.resume();
});

test("a card that cannot be read ends the move before it has begun", async (t) => {
  const { qemu, machine, pci } = await setUp(t);
  pci.problem = new OperationError({ code: "pci-device-missing", message: "none", advice: "none" });
  await assert.rejects(machine.prepareMove(), { code: "pci-device-missing" });
  assert.equal(qemu.status, "cancelled");
  pci.problem = undefined;
  await machine.prepareMove();
});

test("a pause that fails half way leaves a guest that resume makes go on", async (t) => {
  const cases: Record<string, (scene: Scene) => void> = {
    "the stream is cut": ({ qemu }) => (qemu.endCutAt = 4200),
    "the card's state cannot be read": ({ pci }) =>
      (pci.problem = new OperationError({ code: "x", message: "x", advice: "x" })),
    "the answer to stop is lost": ({ qemu }) => qemu.silentAt.add("stop"),
    "stop is refused": ({ qemu }) => qemu.refuses.set("stop", "no"),
  };
  for (const [what, spoil] of Object.entries(cases)) {
    const scene = await setUp(t, { commandTimeoutMs: 100 });
    const { qemu, machine } = scene;
    await machine.prepareMove();
    spoil(scene);
    await assert.rejects(machine.pause(), OperationError, what);
    await machine.resume();
    assert.ok(qemu.isRunning && !machine.isPaused, what);
  }
});

test("a guest goes on although QEMU's settings could not be put back, and stays paused when QEMU does not let it", async (t) => {
  const { qemu, machine } = await setUp(t);
  await machine.prepareMove();
  await machine.pause();
  qemu.refuses.set("migrate-set-parameters", "not now");
  qemu.refuses.set("cont", "Migration is not finalized yet");
  await assert.rejects(machine.resume(), { code: "qmp-error", message: /not now/ });
  assert.ok(machine.isPaused && !qemu.isRunning);
  qemu.refuses.delete("cont");
  await machine.resume();
  assert.ok(!machine.isPaused && qemu.isRunning);
});

test("a QEMU that died is not resumed, and says that it is gone", async (t) => {
  const { qemu, machine } = await setUp(t);
  await machine.prepareMove();
  await machine.pause();
  qemu.die();
  await assert.rejects(machine.resume(), { code: "qmp-closed" });
  assert.ok(machine.isPaused);
});

test("a state of another version, or cut short, is refused and leaves the destination as it was", async (t) => {
  const { qemu, machine, pci } = await setUp(t, { isRunning: false });
  await machine.prepareArrival(Uint8Array.of(9));
  for (const state of [[], [1, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0]]) {
    await assert.rejects(machine.restoreState(Uint8Array.from(state)), { code: "machine-state-invalid" });
  }
  assert.deepEqual([qemu.stateTaken, pci.written], [undefined, undefined]);
});

test("a state that QEMU refuses is not followed by the card's", async (t) => {
  const { qemu, machine, pci } = await setUp(t, { isRunning: false });
  qemu.refusesState = "no such device";
  await machine.prepareArrival(Uint8Array.of(9));
  const stream = encodeStream({ ...smallStream, sent: [], last: [] });
  const state = Buffer.concat([Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), stream]);
  await assert.rejects(machine.restoreState(state), { code: "qemu-state-refused", message: /no such device/ });
  assert.equal(pci.written, undefined);
});
