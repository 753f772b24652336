import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { IncomingMigration } from "./incoming-migration.ts";
import { encodeStream, guestRam, smallStream } from "./migration-stream.fixture.ts";
import { FakeQemu } from "./qemu.fixture.ts";
import type { QmpClient } from "./qmp.ts";
import { socketDirectory, until } from "./vfio-user/channel.fixture.ts";

const state = encodeStream(
  { ...smallStream, sent: [], last: smallStream.last.filter(({ block }) => block !== guestRam.name) },
  true,
);

async function setUp(
  t: TestContext,
): Promise<{ qemu: FakeQemu; qmp: QmpClient; begin: () => Promise<IncomingMigration> }> {
  const directory = socketDirectory(t);
  const { qemu, qmp } = await FakeQemu.make();
  t.after(() => {
    qemu.die();
    qmp.close();
  });
  return { qemu, qmp, begin: () => IncomingMigration.begin(qmp, directory) };
}

test("a state is loaded once QEMU has said its last word", async (t) => {
  const { qemu, begin } = await setUp(t);
  const migration = await begin();
  assert.deepEqual(
    [...qemu.capabilities].filter(([, isOn]) => isOn),
    [
      ["events", true],
      ["return-path", true],
    ],
  );
  assert.equal(qemu.parameters["tls-creds"], "");
  await migration.load(state);
  assert.equal(Buffer.compare(qemu.stateTaken ?? new Uint8Array(0), state), 0);
});

test("a state that QEMU refuses is refused with its reason", async (t) => {
  const { qemu, begin } = await setUp(t);
  qemu.refusesState = "Unknown savevm section or instance 'e1000'";
  const migration = await begin();
  await assert.rejects(migration.load(state), { code: "qemu-state-refused", message: /instance 'e1000'/ });
});

test("a QEMU that hangs up, before or while it loads, has refused the state", async (t) => {
  for (const early of [true, false]) {
    const { qemu, begin } = await setUp(t);
    const migration = await begin();
    await until(() => qemu.hasStream);
    const why = { code: "qemu-state-refused", message: /device is unknown/ };
    if (early) qemu.fail("a device is unknown");
    const loaded = assert.rejects(migration.load(state.subarray(0, 100)), why);
    if (!early) qemu.fail("a device is unknown");
    await loaded;
  }
});

test("a QEMU that dies while it loads fails the load as what it is", async (t) => {
  const { qemu, begin } = await setUp(t);
  const migration = await begin();
  await until(() => qemu.hasStream);
  const loaded = assert.rejects(migration.load(state.subarray(0, 100)), { code: "qmp-closed" });
  qemu.die();
  await loaded;
});

test("who lets go of QEMU before or while it loads leaves no connection behind", async (t) => {
  for (const isLoading of [false, true]) {
    const { qemu, qmp, begin } = await setUp(t);
    const migration = await begin();
    await until(() => qemu.hasStream);
    const loaded = isLoading && assert.rejects(migration.load(state.subarray(0, 100)), { code: "qmp-closed" });
    qmp.close();
    await until(() => !qemu.hasStream);
    await loaded;
  }
});

test("a QEMU that does not wait for a guest refuses the arrival with its reason", async (t) => {
  const { qemu, begin } = await setUp(t);
  qemu.refuses.set("migrate-incoming", "'-incoming' was not specified on the command line");
  await assert.rejects(begin(), { code: "qmp-error", message: /'-incoming' was not specified/ });
});
