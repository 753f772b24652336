// `vf serve` as a whole: its sockets, the clients that come and go, its cable, and what it refuses to move.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { TestClient, until } from "../../machine/qemu/vfio-user/channel.fixture.ts";
import { encodeMessage } from "../../machine/qemu/vfio-user/messages.fixture.ts";
import { Command, DMA_MAP_MMAP } from "../../machine/qemu/vfio-user/protocol.ts";
import { pack } from "../../machine/qemu/vfio-user/served.fixture.ts";
import { loadNative } from "../../machine/qemu/native.ts";
import { nativeOrNotRun } from "../../machine/qemu/native.fixture.ts";
import { announceFrames } from "../../network/announce.ts";
import { networkPlan } from "../../network/plan.ts";
import { StreamDecoder, writeStreamFrame } from "../../network/stream-framing.ts";
import { askForJob, askForStatus, type ControlEvents } from "./control-client.ts";
import type { ExpectRequest } from "./requests.ts";
import { serveVf, type RunningVf } from "./serve.ts";
import { openUplink } from "./uplink.ts";
import type { VfServerEvent, VfServerOptions } from "./vf-server.ts";

const MEMORY_BYTES = 2 << 20;

interface Serving {
  readonly running: RunningVf;
  readonly socketPath: string;
  readonly controlPath: string;
  readonly events: VfServerEvent[];
}

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function serving(t: TestContext, changes: Partial<VfServerOptions> = {}): Promise<Serving> {
  const socketPath = path.join(directoryOf(t), "vf");
  const controlPath = `${socketPath}.control`;
  const events: VfServerEvent[] = [];
  const running = await serveVf({
    socketPath,
    controlPath,
    mac: "02:00:0a:00:02:0f",
    uplink: { kind: "none" },
    isNative: true,
    allowUnsealed: false,
    onEvent: (event) => events.push(event),
    ...changes,
  });
  t.after(() => running.close());
  return { running, socketPath, controlPath, events };
}

const version = encodeMessage({ id: 1, command: Command.version, flags: 0, error: 0, payload: pack([2, 0], [2, 0]) });

const kinds = ({ events }: Serving): string[] => events.map((event) => event.kind);

const quiet: ControlEvents = {
  onStage: () => {},
  onEvent: () => {},
  onListening: () => {},
  signal: new AbortController().signal,
};
const anExpectation: ExpectRequest = { qmp: "/nowhere/qmp", at: { host: "127.0.0.1", port: 0 } };

const hasCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

test("clients come one after the other, their memory is seen, and the sockets are gone at the end", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const served = await serving(t);
  const { socketPath, controlPath, running } = served;
  for (const file of [socketPath, controlPath]) assert.equal(statSync(file).mode & 0o777, 0o600, file);
  for (let round = 1; round <= 2; round++) {
    const client = new TestClient(native, socketPath);
    await client.send(version);
    await client.receive();
    assert.equal((await askForStatus(controlPath)).client, "connected");
    const memory = native.memfd("ram", MEMORY_BYTES);
    const payload = pack([4, 32], [4, 3 | DMA_MAP_MMAP], [8, 0], [8, 0], [8, MEMORY_BYTES]);
    await client.send(encodeMessage({ id: 2, command: Command.dmaMap, flags: 0, error: 0, payload }), [memory]);
    native.closeDescriptor(memory);
    await client.receive();
    const { client: state, memoryBytes, uplink, job } = await askForStatus(controlPath);
    assert.deepEqual([state, memoryBytes, uplink, job], ["shared", MEMORY_BYTES, { kind: "none", isUp: false }, null]);
    client.close();
    await until(() => kinds(served).filter((kind) => kind === "client-gone").length === round);
    assert.equal((await askForStatus(controlPath)).client, "none");
  }
  assert.deepEqual(
    kinds(served),
    [1, 2].flatMap(() => ["client-came", "memory-shared", "client-gone"]),
  );
  await running.close();
  for (const file of [socketPath, controlPath]) assert.equal(statSync(file, { throwIfNoEntry: false }), undefined);
});

test("a client that talks nonsense is cut off with a sentence, and the next one is served", async (t) => {
  const served = await serving(t, { isNative: false });
  const hostile = connect(served.socketPath);
  hostile.on("error", () => {});
  hostile.end(Buffer.alloc(4096, 0xff));
  await new Promise((resolve) => hostile.once("close", resolve));
  const good = connect(served.socketPath);
  t.after(() => good.destroy());
  good.write(version);
  await new Promise((resolve) => good.once("data", resolve));
  await until(() => kinds(served).at(-1) === "client-came");
  assert.equal((await askForStatus(served.controlPath)).client, "connected");
});

test("nothing is moved or expected without a QEMU that shares its memory, nor taken back that was never away", async (t) => {
  const served = await serving(t, { isNative: false });
  const { controlPath } = served;
  await assert.rejects(askForJob(controlPath, { expect: anExpectation }, quiet), hasCode("memory-not-shared"));
  await assert.rejects(askForJob(controlPath, { takeBack: {} }, quiet), hasCode("nothing-to-take-back"));
  const elsewhere = { ...anExpectation, at: { host: "0.0.0.0", port: 0 } };
  await assert.rejects(askForJob(controlPath, { expect: elsewhere }, quiet), hasCode("tls-needed"));
  assert.deepEqual(
    served.events.map((event) => (event.kind === "job-ended" ? event.end : event.kind)),
    ["job-began", "failed", "job-began", "failed"],
  );
});

test("a QMP socket where nobody answers is said, and the VF is as it was", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const { socketPath, controlPath } = await serving(t);
  const client = new TestClient(native, socketPath);
  t.after(() => client.close());
  await client.send(version);
  await client.receive();
  const memory = native.memfd("ram", MEMORY_BYTES);
  const payload = pack([4, 32], [4, 3 | DMA_MAP_MMAP], [8, 0], [8, 0], [8, MEMORY_BYTES]);
  await client.send(encodeMessage({ id: 2, command: Command.dmaMap, flags: 0, error: 0, payload }), [memory]);
  native.closeDescriptor(memory);
  await client.receive();
  await assert.rejects(askForJob(controlPath, { expect: anExpectation }, quiet), hasCode("qmp-unreachable"));
  const move = {
    qmp: "/nowhere/qmp",
    to: { host: "127.0.0.1", port: 1 },
    downtimeLimitMs: 100,
    roundsMax: 20,
    ifNotConverging: "give-up",
  } as const;
  const rings = { ...move, strategy: "rings-first" };
  await assert.rejects(askForJob(controlPath, { move: rings }, quiet), hasCode("qmp-unreachable"));
  for (const [strategy, code] of [
    ["shuffle", "strategy-not-for-qemu"],
    ["hope", "strategy-unknown"],
  ] as const) {
    await assert.rejects(askForJob(controlPath, { move: { ...move, strategy } }, quiet), hasCode(code));
  }
  assert.equal((await askForStatus(controlPath)).job, null);
});

test("a second server at a socket that is in use, and an address that is none, are refused", async (t) => {
  const { socketPath } = await serving(t, { isNative: false });
  await assert.rejects(serving(t, { isNative: false, socketPath }), hasCode("socket-in-use"));
  await assert.rejects(serving(t, { isNative: false, mac: "nobody" }), hasCode("mac-invalid"));
  if (loadNative() === undefined) await assert.rejects(serving(t), hasCode("native-missing"));
});

test("the peer answers a frame, and never from within the sending of it", async () => {
  const heard: Uint8Array[] = [];
  const uplink = await openUplink({ kind: "peer" }, { onFrame: (frame) => heard.push(frame), onLink: () => {} });
  const [, request] = announceFrames(networkPlan.guestMac, networkPlan.peerIp);
  assert.ok(uplink.isUp && request !== undefined);
  uplink.frame(request);
  assert.equal(heard.length, 0);
  await until(() => heard.length > 0);
  assert.equal(heard.length, 1);
  await uplink.close();
});

/** The other end of a cable, in QEMU's framing. */
class Switch {
  readonly #sockets: Socket[] = [];
  readonly frames: Uint8Array[] = [];
  readonly #server = createServer((socket) => {
    this.#sockets.push(socket);
    socket.on("error", () => {});
    const decoder = new StreamDecoder({ onFrame: (frame) => this.frames.push(frame.slice()) });
    socket.on("data", (chunk: Uint8Array) => void decoder.push(new Uint8Array(chunk)));
  });

  listen(at: string): Promise<void> {
    return new Promise((resolve) => this.#server.listen(at, resolve));
  }

  get plugged(): number {
    return this.#sockets.filter((socket) => !socket.destroyed).length;
  }

  send(frame: Uint8Array): void {
    const bytes = new Uint8Array(4 + frame.length);
    writeStreamFrame(bytes, 0, frame);
    this.#sockets.at(-1)?.write(bytes);
  }

  pullAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.pullAll();
    this.#server.close();
  }
}

test("a cable at a socket carries frames both ways, goes down with the other end and comes up again with it", async (t) => {
  const at = path.join(directoryOf(t), "port");
  const heard: Uint8Array[] = [];
  const links: boolean[] = [];
  const on = {
    onFrame: (frame: Uint8Array) => void heard.push(frame.slice()),
    onLink: (isUp: boolean) => void links.push(isUp),
  };
  await assert.rejects(openUplink({ kind: "unix", path: at }, on), hasCode("uplink-unreachable"));
  const other = new Switch();
  await other.listen(at);
  t.after(() => other.close());
  const uplink = await openUplink({ kind: "unix", path: at }, on);
  const [frame] = announceFrames(networkPlan.guestMac);
  assert.ok(frame !== undefined && uplink.isUp);
  uplink.frame(frame);
  await until(() => other.frames.length === 1 && other.plugged === 1);
  other.send(frame);
  await until(() => heard.length === 1);
  assert.deepEqual([heard[0], other.frames[0]], [frame, frame]);
  other.pullAll();
  await until(() => links.length === 1);
  assert.equal(uplink.isUp, false);
  uplink.frame(frame);
  await until(() => links.length === 2);
  assert.deepEqual([links, uplink.isUp], [[false, true], true]);
  await uplink.close();
  await until(() => other.plugged === 0);
  assert.deepEqual(links, [false, true], "who closes it knows that it is down");
});
