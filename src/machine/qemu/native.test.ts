import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { socketDirectory, until } from "./vfio-user/channel.fixture.ts";
import { errno, errnoName } from "./vfio-user/descriptor-sockets.ts";
import { nativeOrNotRun, openDescriptors } from "./native.fixture.ts";

test("a socket's file has mode 0600 as soon as it is there, whatever the umask", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const before = process.umask(0);
  t.after(() => void process.umask(before));
  const file = path.join(socketDirectory(t), "s");
  const socket = native.listen(file);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  native.closeDescriptor(socket);
});

test("what the system refuses is an error with the call, the errno and what to do, and leaves nothing open", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const before = openDescriptors();
  const missing = path.join(socketDirectory(t), "no", "such", "directory");
  assert.throws(() => native.listen(missing), {
    name: "OperationError",
    code: "system-call-failed",
    facts: { call: "bind", errno: "ENOENT" },
    advice: "Make the directory first.",
  });
  assert.throws(() => native.connect(missing), { facts: { call: "connect", errno: "ENOENT" } });
  assert.throws(() => native.memfd("x", -1), { facts: { call: "ftruncate", errno: "EINVAL" } });
  assert.equal(openDescriptors(), before);
  assert.equal(errnoName(errno.EAGAIN), "EAGAIN");
});

test("a receiver says when there were more descriptors than it had room for, and the rest is nobody's", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const file = path.join(socketDirectory(t), "s");
  const listener = native.listen(file);
  const [client, memory] = [native.connect(file), native.memfd("x", 4096)];
  const server = native.accept(listener);
  const before = openDescriptors();
  native.send(client, new Uint8Array(3), [memory, memory, memory, memory]);
  const { result, descriptors, isCutShort } = native.receiver(server, new Uint8Array(10), 2)();
  assert.deepEqual({ result, count: descriptors.length, isCutShort }, { result: 3, count: 2, isCutShort: true });
  assert.equal(openDescriptors(), before + 2);
  for (const descriptor of [...descriptors, memory, client, server, listener]) native.closeDescriptor(descriptor);
});

test("an eventfd counts its signals, and a full one blocks nobody, though its giver made it blocking and may go on to", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
  const blocking = koffi.load(null).func("int eventfd(unsigned int, int)") as (count: number, flags: number) => number;
  const write = koffi.load(null).func("long write(int, const void *, size_t)") as (
    descriptor: number,
    bytes: BigUint64Array,
    length: number,
  ) => number;
  const flags = (event: number): string =>
    /^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${event}`, "utf8"))?.[1] ?? "";
  for (const event of [native.eventfd(), blocking(0, 0)]) {
    const before = flags(event);
    assert.equal(native.adoptEventfd(event), true);
    assert.equal(flags(event), before, "the giver's descriptor was changed");
    for (let i = 0; i < 3; i++) assert.equal(native.signalEventfd(event), true);
    assert.equal(native.takeEventfd(event), 3);
    assert.equal(write(event, new BigUint64Array([0xffff_ffff_ffff_fffen]), 8), 8);
    assert.equal(native.signalEventfd(event), false, "a full count took another signal");
    native.closeDescriptor(event);
  }
});

test("only an eventfd is taken for one", (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const [memory, device] = [native.memfd("[eventfd]", 4096), openSync("/dev/null", "w")];
  for (const descriptor of [memory, device, 1_000_000]) assert.equal(native.adoptEventfd(descriptor), false);
  native.closeDescriptor(memory);
  closeSync(device);
});

test("a watch tells of what can be read, and of nothing once it is closed", { timeout: 30_000 }, async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const event = native.eventfd();
  let calls = 0;
  const watch = native.watch(event, () => {
    calls++;
    native.takeEventfd(event);
  });
  native.signalEventfd(event);
  await until(() => calls === 1);
  watch.close();
  native.signalEventfd(event);
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(calls, 1);
  native.closeDescriptor(event);
});
