// The server over real sockets: a client's own file in memory and its eventfds, with a VF that writes and signals.
import assert from "node:assert/strict";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ManualClock } from "../../../base/clock.ts";
import { Domain } from "../../../iommu/domain.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { VTEICS, VTEIMS } from "../../../nic/registers.ts";
import { Vf82599 } from "../../../nic/vf82599.ts";
import { nativeOrNotRun, openDescriptors } from "../native.fixture.ts";
import type { Native } from "../native.ts";
import { SharedMemory } from "../shared-memory.ts";
import { socketDirectory, TestClient, until } from "./channel.fixture.ts";
import { DeviceServer } from "./device-server.ts";
import { DmaLog, ServedDma } from "./dma-log.ts";
import { listenWithDescriptors } from "./fd-channel.ts";
import { VectorMessages } from "./irqs.ts";
import { encodeMessage } from "./messages.fixture.ts";
import { Command } from "./protocol.ts";
import { pack, PAGE, u32 } from "./served.fixture.ts";
import { servedVf } from "./served-device.ts";

const FILE_BYTES = 64 * PAGE;

/** A VF served at a socket, as a process that serves one has it. */
class Host {
  readonly socketPath: string;
  readonly memory: SharedMemory;
  readonly vf: Vf82599;
  readonly dma: ServedDma;
  readonly gone: (string | undefined)[] = [];
  readonly #server: DeviceServer;
  readonly #native: Native;

  constructor(t: TestContext, native: Native) {
    const [messages, log, domain] = [new VectorMessages(), new DmaLog(), new Domain()];
    this.#native = native;
    this.socketPath = path.join(socketDirectory(t), "vf.sock");
    this.memory = new SharedMemory(native);
    this.dma = new ServedDma(log);
    this.memory.onKnown(() => this.dma.connect(new GuestDma({ memory: this.memory, domain })));
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
    this.vf = new Vf82599({ dma: this.dma, messages, uplink: { frame() {} }, clock: new ManualClock(), mac });
    this.#server = new DeviceServer({
      device: servedVf(this.vf),
      messages,
      domain,
      log,
      files: this.memory,
      events: native,
      onClientGone: (problem) => {
        this.dma.connect(undefined);
        this.memory.release();
        this.gone.push(problem);
      },
    });
  }

  async listen(t: TestContext): Promise<void> {
    const onConnection = (channel: Parameters<DeviceServer["serve"]>[0]): boolean => this.#server.serve(channel);
    const listener = await listenWithDescriptors(this.#native, { path: this.socketPath, onConnection });
    t.after(() => listener.close());
  }
}

async function ask(
  client: TestClient,
  command: number,
  payload: Uint8Array,
  descriptors: readonly number[] = [],
): Promise<Uint8Array> {
  await client.send(encodeMessage({ id: 3, command, flags: 0, error: 0, payload }), descriptors);
  const reply = await client.receive();
  assert.equal(new DataView(reply.buffer).getUint32(8, true), 1, `command ${command} was refused`);
  return reply.subarray(16);
}

const write = (client: TestClient, region: number, offset: number, data: Uint8Array): Promise<Uint8Array> =>
  ask(client, Command.regionWrite, Uint8Array.of(...pack([8, offset], [4, region], [4, data.length]), ...data));

/** From VERSION to a VF that may use the bus. */
async function begin(client: TestClient): Promise<void> {
  await ask(client, Command.version, u32(0));
  await write(client, 7, 0x10, u32(0xf000_0000, 0, 0, 0xf000_4000));
  await write(client, 7, 4, Uint8Array.of(6, 0));
  await write(client, 7, 0x72, Uint8Array.of(2, 0x80));
}

test("a client's file is written where it was mapped, its eventfd is signalled, and nothing is left when it dies", async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const host = new Host(t, native);
  await host.listen(t);
  const file = native.memfd("ram", FILE_BYTES);
  const event = native.eventfd();
  const seen = new SharedMemory(native);
  const openBefore = openDescriptors();

  for (let life = 1; life <= 3; life++) {
    const client = new TestClient(native, host.socketPath);
    await begin(client);
    const map = pack([4, 32], [4, 3], [8, 4 * PAGE], [8, 0x10_0000], [8, PAGE]);
    await ask(client, Command.dmaMap, map, [file]);
    await ask(client, Command.deviceSetIrqs, u32(20, 0x24, 2, 1, 1), [event]);

    assert.equal(host.dma.writeBytes(0x10_0000, Uint8Array.of(life, 2, 3), 0, 3, 0), 0);
    assert.equal(host.dma.writeBytes(0x10_0000 + PAGE, Uint8Array.of(9), 0, 1, 0), 1);
    assert.deepEqual(host.memory.bytes().slice(4 * PAGE, 4 * PAGE + 3), Uint8Array.of(life, 2, 3));

    await write(client, 0, VTEIMS, u32(7));
    await write(client, 0, VTEICS, u32(2));
    host.vf.run();
    assert.equal(native.takeEventfd(event), 1);

    client.close();
    await until(() => host.gone.length === life);
    assert.equal(host.memory.isKnown, false);
    assert.equal(host.dma.writeBytes(0x10_0000, Uint8Array.of(7), 0, 1, 0), 1);
    assert.equal(host.vf.busMasterEnabled, false);
  }
  assert.deepEqual(host.gone, [undefined, undefined, undefined]);
  assert.deepEqual(openDescriptors(), openBefore);
  assert.deepEqual(seen.adopt(file, 0, FILE_BYTES), { address: 0 });
  assert.deepEqual(seen.bytes().slice(4 * PAGE, 4 * PAGE + 4), Uint8Array.of(3, 2, 3, 0));
  assert.equal(seen.bytes()[5 * PAGE], 0);
  native.closeDescriptor(event);
});
