import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { pageGeometry } from "../../memory/geometry.ts";
import { PageSet } from "../../memory/page-set.ts";
import { encodeStream, GUEST_PAGES, guestRam, smallStream } from "./migration-stream.fixture.ts";
import { OutgoingMigration } from "./outgoing-migration.ts";
import { FakeQemu } from "./qemu.fixture.ts";
import { RAM_PAGE_BYTES } from "./stream-words.ts";
import { socketDirectory, until } from "./vfio-user/channel.fixture.ts";

const pages = pageGeometry(guestRam.usedBytes);

async function setUp(
  t: TestContext,
): Promise<{ qemu: FakeQemu; begin: () => Promise<OutgoingMigration>; path: string }> {
  const directory = socketDirectory(t);
  const { qemu, qmp } = await FakeQemu.make();
  const socketPath = path.join(directory, "outgoing");
  t.after(() => {
    qemu.die();
    qmp.close();
  });
  return { qemu, path: socketPath, begin: () => OutgoingMigration.begin({ qmp, pages, directory }) };
}

function fetched(migration: OutgoingMigration): number[] {
  const set = new PageSet(GUEST_PAGES);
  migration.fetchAndClear(set);
  return set.toArray();
}

/** Stops the guest, as the machine does. */
function stop(migration: OutgoingMigration, qemu: FakeQemu): Promise<void> {
  migration.expectEnd();
  qemu.isRunning = false;
  qemu.sendEnd();
  return migration.drain();
}

function settings({ capabilities, parameters }: FakeQemu): unknown {
  return structuredClone({ capabilities, parameters });
}

test("a move logs what the CPU wrote after it began, and ends with the machine's state", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const migration = await begin();
  assert.deepEqual(
    [...qemu.capabilities],
    [
      ["xbzrle", false],
      ["events", true],
      ["return-path", true],
      ["switchover-ack", true],
      ["auto-converge", false],
    ],
  );
  assert.deepEqual(qemu.parameters, {
    "max-bandwidth": 0,
    "downtime-limit": 60_000,
    "tls-creds": "",
    mode: "normal",
    "x-other": 5,
  });
  migration.start();
  assert.deepEqual(fetched(migration), []);
  qemu.sendPages([3, 5]);
  const seen: number[] = [];
  await until(() => seen.push(...fetched(migration)) === 2);
  assert.deepEqual(seen, [3, 5]);
  migration.putBack(PageSet.of(GUEST_PAGES, [5]));
  await stop(migration, qemu);
  assert.deepEqual(fetched(migration), [5, 7], "what was put back, and the page of the last section");
  const carried = smallStream.last.filter(({ block }) => block !== guestRam.name);
  const state = encodeStream({ ...smallStream, sent: [], last: carried }, true);
  assert.equal(Buffer.compare(migration.machineState(), state), 0);
  await migration.succeed();
  assert.equal(qemu.status, "completed");
  assert.equal(existsSync(socketPath), false);
});

test("a cancelled move leaves QEMU's settings and no socket behind, however often it is cancelled", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const before = settings(qemu);
  const migration = await begin();
  await Promise.all([migration.cancel(), migration.cancel()]);
  await migration.cancel();
  assert.equal(qemu.status, "cancelled");
  assert.deepEqual(settings(qemu), before);
  assert.equal(existsSync(socketPath), false);
  assert.throws(() => fetched(migration), { code: "qemu-migration-failed" });
  assert.deepEqual(qemu.commands.filter((command) => command === "migrate_cancel").length, 1);
  const again = await begin();
  await migration.cancel();
  again.start();
  assert.deepEqual(fetched(again), [], "an old move's cancel does not touch the next one");
  await again.cancel();
});

test("settings that QEMU does not know are left alone, and those it says nothing about are put back as that", async (t) => {
  const { qemu, begin } = await setUp(t);
  delete qemu.parameters["mode"];
  qemu.parameters["tls-creds"] = null;
  const before = settings(qemu);
  const migration = await begin();
  assert.equal(qemu.parameters["tls-creds"], "");
  assert.ok(!("mode" in qemu.parameters));
  await migration.cancel();
  assert.deepEqual(settings(qemu), before);
});

test("a move is cancelled as well when its stream was drained", async (t) => {
  const { qemu, begin } = await setUp(t);
  const before = settings(qemu);
  const migration = await begin();
  await stop(migration, qemu);
  await migration.cancel();
  assert.equal(qemu.status, "cancelled");
  assert.deepEqual(settings(qemu), before);
});

test("a refusal to migrate comes with QEMU's reason, and leaves its settings as they were", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const before = settings(qemu);
  const desc = "Migration is blocked: device nvme0 cannot be migrated";
  qemu.refuses.set("migrate", desc);
  await assert.rejects(begin(), (error) => error instanceof OperationError && error.message.includes(desc));
  assert.deepEqual(settings(qemu), before);
  assert.equal(existsSync(socketPath), false);
});

test("somebody else's migration is left alone, whether it was there before or came between", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const before = settings(qemu);
  qemu.status = "active";
  await assert.rejects(begin(), { code: "qemu-migration-failed", message: /another migration is under way/ });
  assert.equal(qemu.commands.length, 0);
  qemu.status = "none";
  qemu.refuses.set("migrate", "There's a migration process in progress");
  qemu.onCommand = (command) => {
    if (command === "migrate") qemu.status = "active";
  };
  await assert.rejects(begin(), { code: "qmp-error", message: /There's a migration process in progress/ });
  assert.ok(!qemu.commands.includes("migrate_cancel"));
  assert.deepEqual(settings(qemu), before);
  assert.equal(existsSync(socketPath), false);
});

test("where one half of the settings is refused, the other is set back", async (t) => {
  const { qemu, begin } = await setUp(t);
  const before = settings(qemu);
  qemu.refuses.set("migrate-set-parameters", "no");
  await assert.rejects(begin(), { code: "qmp-error" });
  assert.deepEqual(settings(qemu), before);
});

test("a migration that fails before it has sent anything says why", async (t) => {
  const { qemu, begin } = await setUp(t);
  qemu.sendsFirstPass = false;
  const begun = assert.rejects(begin(), { code: "qemu-migration-failed", message: /no room for that/ });
  await until(() => qemu.hasStream);
  qemu.fail("no room for that");
  await begun;
});

test("a stream that is cut fails the log, which is then not believed any more", async (t) => {
  const { qemu, begin } = await setUp(t);
  const migration = await begin();
  qemu.sendPages([1]);
  qemu.fail("Input/output error");
  const thrown: unknown[] = [];
  await until(() => {
    try {
      fetched(migration);
    } catch (error) {
      thrown.push(error);
    }
    return thrown.length > 0;
  });
  const why = { code: "qemu-migration-failed", message: /Input\/output error/ };
  assert.throws(() => fetched(migration), why);
  await assert.rejects(migration.drain(), why);
  await migration.cancel();
});

test("a stream that is cut among the devices fails the drain", async (t) => {
  const { qemu, begin } = await setUp(t);
  const migration = await begin();
  qemu.endCutAt = 4200;
  await assert.rejects(stop(migration, qemu), { code: "qemu-migration-failed" });
  await migration.cancel();
});

test("a QEMU that dies ends the move at once, and that can be cancelled", async (t) => {
  for (const dies of ["before", "while"] as const) {
    const { qemu, begin, path: socketPath } = await setUp(t);
    const migration = await begin();
    if (dies === "before") qemu.die();
    migration.expectEnd();
    const drained = assert.rejects(migration.drain(), OperationError);
    if (dies === "while") qemu.die();
    await drained;
    await migration.cancel();
    assert.equal(existsSync(socketPath), false);
  }
});

test("a QEMU that dies while the move begins does not keep anyone waiting", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  qemu.sendsFirstPass = false;
  const begun = assert.rejects(begin(), OperationError);
  await until(() => qemu.hasStream);
  qemu.die();
  await begun;
  assert.equal(existsSync(socketPath), false);
});

test("a guest that is stopped before its time fails the move: its log may end where nobody is ready", async (t) => {
  const { qemu, begin } = await setUp(t);
  const migration = await begin();
  qemu.sendEnd();
  const stopped = { code: "qemu-migration-failed", message: /stopped before it was time/ };
  await until(() => {
    try {
      fetched(migration);
      return false;
    } catch {
      return true;
    }
  });
  assert.throws(() => fetched(migration), stopped);
  migration.expectEnd();
  await assert.rejects(migration.drain(), stopped);
  await migration.cancel();
});

test("a stream of a form that is not known fails the move with its own error", async (t) => {
  const { qemu, begin } = await setUp(t);
  qemu.description = { ...smallStream, blocks: [{ name: "ram", usedBytes: 3 * RAM_PAGE_BYTES }] };
  await assert.rejects(begin(), { code: "qemu-stream-unknown", message: /0 blocks of RAM/ });
  assert.equal(qemu.status, "cancelled");
});

test("the stream is one connection's: another one is sent away", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const migration = await begin();
  const stranger = connect(socketPath);
  stranger.on("error", () => {});
  stranger.write("QEVM");
  await new Promise((resolve) => stranger.once("close", resolve));
  migration.start();
  qemu.sendPages([2]);
  await until(() => fetched(migration).includes(2));
  await migration.cancel();
});

test("a destination's success that QEMU does not take for one is told", async (t) => {
  const { qemu, begin, path: socketPath } = await setUp(t);
  const migration = await begin();
  await stop(migration, qemu);
  qemu.fail("block device is locked");
  await assert.rejects(migration.succeed(), { code: "qemu-migration-failed", message: /block device is locked/ });
  assert.equal(existsSync(socketPath), false);
});
