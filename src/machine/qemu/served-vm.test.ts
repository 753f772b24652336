import assert from "node:assert/strict";
import { openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { PageSet } from "../../memory/page-set.ts";
import * as r from "../../nic/registers.ts";
import { nativeOrNotRun } from "./native.fixture.ts";
import type { Native } from "./native.ts";
import { ServedVm, type ClientEvent, type SharedParts } from "./served-vm.ts";
import { SharedMemory } from "./shared-memory.ts";
import { socketDirectory, TestClient, until } from "./vfio-user/channel.fixture.ts";
import { encodeMessage } from "./vfio-user/messages.fixture.ts";
import { Command, REGION_CONFIGURATION } from "./vfio-user/protocol.ts";
import { pack, PAGE, u32 } from "./vfio-user/served.fixture.ts";

/** A guest's RAM above 4 GiB lies right behind the rest in its file: an address is no offset. */
const HIGH = 0x1_0000_0000;

interface Scene {
  readonly vm: ServedVm;
  readonly socketPath: string;
  readonly events: ClientEvent[];
}

async function listen(t: TestContext, native: Native | undefined): Promise<Scene> {
  const socketPath = path.join(socketDirectory(t), "vf");
  const events: ClientEvent[] = [];
  const vm = await ServedVm.listen({
    socketPath,
    mac: "02:00:00:00:00:09",
    uplink: { frame() {} },
    clock: new ManualClock(0),
    native,
    onClient: (event) => events.push(event),
  });
  t.after(() => vm.close());
  return { vm, socketPath, events };
}

function regionWrite(region: number, offset: number, data: Uint8Array): Uint8Array {
  return Buffer.concat([pack([8, offset], [4, region], [4, data.length]), data]);
}

/** Memory decoding and bus mastering on. */
const enabling = [
  regionWrite(REGION_CONFIGURATION, 0x10, u32(0xf000_0000, 0, 0, 0xf000_4000)),
  regionWrite(REGION_CONFIGURATION, 4, pack([2, 6])),
];

/** A client that shares a file of so many pages. */
class SharingClient {
  readonly memory: SharedMemory;
  readonly #client: TestClient;
  readonly #native: Native;
  readonly #file: number;

  private constructor(native: Native, client: TestClient, pages: number) {
    this.#native = native;
    this.#client = client;
    this.#file = native.memfd("ram", pages * PAGE);
    this.memory = new SharedMemory(native);
    this.memory.adopt(openSync(`/proc/self/fd/${this.#file}`, "r+"), 0, PAGE);
  }

  static async come(native: Native, { socketPath }: Scene, pages: number): Promise<SharingClient> {
    const client = new SharingClient(native, new TestClient(native, socketPath), pages);
    await client.ask(Command.version, u32(0));
    for (const payload of enabling) await client.ask(Command.regionWrite, payload);
    return client;
  }

  async ask(command: number, payload: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    await this.#client.send(encodeMessage({ id: 3, command, flags: 0, error: 0, payload }), descriptors);
    const reply = await this.#client.receive();
    assert.equal(new DataView(reply.buffer).getUint32(8, true), 1, `command ${command} was refused`);
  }

  map(iova: number, page: number, pages: number): Promise<void> {
    const payload = pack([4, 32], [4, 3], [8, page * PAGE], [8, iova], [8, pages * PAGE]);
    return this.ask(Command.dmaMap, payload, [this.#file]);
  }

  unmap(iova: number, pages: number): Promise<void> {
    return this.ask(Command.dmaUnmap, pack([4, 24], [4, 0], [8, iova], [8, pages * PAGE]));
  }

  register(offset: number, value: number): Promise<void> {
    return this.ask(Command.regionWrite, regionWrite(0, offset, u32(value)));
  }

  /** Posts a buffer in each of the pages; the ring is at `ring`. */
  async post(ring: number, offset: number, iovas: readonly number[]): Promise<void> {
    iovas.forEach((iova, slot) => this.memory.bytes().set(pack([8, iova], [8, 0]), offset + slot * 16));
    await this.register(r.VFRDBAL(0), ring % 2 ** 32);
    await this.register(r.VFRDBAH(0), Math.floor(ring / 2 ** 32));
    await this.register(r.VFRDLEN(0), 128);
    await this.register(r.VFSRRCTL(0), 2);
    await this.register(r.VFRXDCTL(0), r.RXDCTL_ENABLE);
    await this.register(r.VFRDT(0), iovas.length);
  }

  go(): void {
    this.#client.close();
    this.#native.closeDescriptor(this.#file);
  }
}

function collected(pages: number, fill: (into: PageSet) => void): number[] {
  const set = new PageSet(pages);
  fill(set);
  return set.toArray();
}

const mapped = ({ memory, tracker }: SharedParts): number[] =>
  collected(memory.pages.count, (into) => tracker.mappedInto(into));
const released = ({ memory, tracker }: SharedParts): number[] =>
  collected(memory.pages.count, (into) => tracker.fetchReleased(into));

test("each client brings its own memory, and takes it and what was mapped in it along", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const scene = await listen(t, native);
  const { vm, events } = scene;
  for (const pages of [64, 16]) {
    assert.deepEqual([vm.shared], [undefined]);
    const waiting = [vm.untilShared(60_000), vm.untilShared(60_000)];
    const client = await SharingClient.come(native, scene, pages);
    await client.map(HIGH, 2, 4);
    const [shared, same] = await Promise.all(waiting);
    assert.ok(shared !== undefined && shared === same && shared === vm.shared);
    assert.equal(shared.memory.sizeBytes, pages * PAGE);
    assert.equal(vm.translate(HIGH + PAGE + 5), 3 * PAGE + 5);
    assert.equal(shared.dma.writeBytes(HIGH, Uint8Array.of(pages), 0, 1, 0), 0);
    assert.equal(client.memory.bytes()[2 * PAGE], pages);
    assert.deepEqual(
      collected(pages, (into) => shared.deviceLog.fetchAndClear(into)),
      [2],
    );
    client.go();
    await until(() => events.at(-1)?.kind === "client-gone");
    assert.equal(vm.translate(HIGH), -1);
    assert.equal(client.memory.bytes()[2 * PAGE], pages, "the client's own file is as it was");
  }
  assert.deepEqual(events, [
    { kind: "client-came" },
    { kind: "memory-shared", memoryBytes: 64 * PAGE },
    { kind: "client-gone", problem: undefined },
    { kind: "client-came" },
    { kind: "memory-shared", memoryBytes: 16 * PAGE },
    { kind: "client-gone", problem: undefined },
  ]);
  await assert.rejects(vm.untilShared(1), { code: "memory-not-shared" });
});

test("where all memory is mapped what is posted counts, by its page in the file, and what was released can be put back", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const scene = await listen(t, native);
  const client = await SharingClient.come(native, scene, 32);
  await client.map(0, 0, 16);
  await client.map(HIGH, 16, 16);
  const shared = await scene.vm.untilShared(60_000);
  assert.equal(shared.tracker.method, "descriptor-shadow");
  // What came before is nobody's business: who begins to track copies all of memory.
  released(shared);
  await client.post(HIGH + PAGE, 17 * PAGE, [HIGH + 4 * PAGE, 3 * PAGE, HIGH + 5 * PAGE, HIGH + 99 * PAGE]);
  assert.deepEqual(mapped(shared), [3, 20, 21]);
  assert.deepEqual(
    collected(32, (into) => shared.tracker.ringPagesInto(into)),
    [17],
  );
  await client.register(r.VFRXDCTL(0), 0);
  assert.deepEqual(mapped(shared), []);
  assert.deepEqual(released(shared), [3, 20, 21]);
  shared.tracker.putBackReleased(PageSet.of(32, [20]));
  assert.deepEqual(released(shared), [20]);
  assert.deepEqual(released(shared), []);
  client.go();
});

test("once the client maps less than most of its memory its mappings count, whatever was posted in them before", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const scene = await listen(t, native);
  const client = await SharingClient.come(native, scene, 32);
  await client.map(0, 0, 32);
  const shared = await scene.vm.untilShared(60_000);
  await client.post(PAGE, PAGE, [4 * PAGE, 5 * PAGE]);
  await client.unmap(0, 32);
  assert.equal(shared.tracker.method, "iommu");
  assert.deepEqual(mapped(shared), []);
  assert.equal(released(shared).length, 32, "all of it could be written until now");
  await client.map(7 * PAGE, 9, 1);
  await client.map(4 * PAGE, 11, 1);
  assert.deepEqual(mapped(shared), [9, 11]);
  await client.unmap(4 * PAGE, 1);
  assert.deepEqual(mapped(shared), [9]);
  // The address of a buffer that was posted leads elsewhere by now; it is released where it was.
  await client.register(r.VFRXDCTL(0), 0);
  assert.deepEqual(released(shared), [4, 5, 11]);
  await client.unmap(7 * PAGE, 1);
  shared.tracker.putBackReleased(PageSet.of(32, [4]));
  assert.deepEqual(released(shared), [4, 9]);
  client.go();
});

/** A client on one of Node's own sockets: it has no descriptors to give. */
class PlainClient {
  readonly socket: Socket;
  #bytes = Buffer.alloc(0);

  constructor(socketPath: string) {
    this.socket = connect(socketPath);
    this.socket.on("data", (bytes: Buffer) => (this.#bytes = Buffer.concat([this.#bytes, bytes])));
    this.socket.on("error", () => {});
  }

  /** The next message of the server's. */
  async next(): Promise<{ id: number; command: number; isReply: boolean; payload: Buffer }> {
    await until(() => this.#bytes.length >= 16 && this.#bytes.length >= this.#bytes.readUInt32LE(4));
    const length = this.#bytes.readUInt32LE(4);
    const message = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    const [id, command] = [message.readUInt16LE(0), message.readUInt16LE(2)];
    return { id, command, isReply: (message.readUInt32LE(8) & 1) === 1, payload: message.subarray(16) };
  }

  async ask(command: number, payload: Uint8Array): Promise<void> {
    this.socket.write(encodeMessage({ id: 3, command, flags: 0, error: 0, payload }));
    const reply = await this.next();
    assert.ok(reply.isReply && reply.command === command);
  }
}

test("without native code nothing is shared, and the VF reaches memory by messages", async (t) => {
  const { vm, socketPath, events } = await listen(t, undefined);
  const client = new PlainClient(socketPath);
  await client.ask(Command.version, u32(0));
  for (const payload of enabling) await client.ask(Command.regionWrite, payload);
  const map = pack([4, 32], [4, 3], [8, 0], [8, HIGH], [8, 16 * PAGE]);
  await client.ask(Command.dmaMap, map);
  for (const [register, value] of [
    [r.VFTDBAL(0), 2 * PAGE],
    [r.VFTDBAH(0), 1],
    [r.VFTDLEN(0), 128],
    [r.VFTXDCTL(0), r.TXDCTL_ENABLE],
    [r.VFTDT(0), 1],
  ] as const) {
    await client.ask(Command.regionWrite, regionWrite(0, register, u32(value)));
  }
  vm.vf.run();
  const request = await client.next();
  assert.deepEqual([request.command, request.isReply], [Command.dmaRead, false]);
  assert.equal(request.payload.readBigUInt64LE(0), BigInt(HIGH + 2 * PAGE));
  assert.equal(vm.shared, undefined);
  await assert.rejects(vm.untilShared(1), { code: "memory-not-shared" });
  client.socket.destroy();
  await until(() => events.at(-1)?.kind === "client-gone");
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ["client-came", "client-gone"],
  );
});
