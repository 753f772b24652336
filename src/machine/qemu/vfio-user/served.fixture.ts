// A served VF and a client in memory, for tests: messages go in and come out as calls, descriptors are counted.
import assert from "node:assert/strict";
import { ManualClock } from "../../../base/clock.ts";
import { Domain } from "../../../iommu/domain.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { BufferMemory } from "../../../memory/guest-memory.ts";
import { Vf82599 } from "../../../nic/vf82599.ts";
import type { MessageChannel, ReceivedMessage } from "./channel.ts";
import { DeviceServer, type DeviceServerOptions } from "./device-server.ts";
import { DmaLog, ServedDma } from "./dma-log.ts";
import type { SharedFiles } from "./dma-regions.ts";
import { Fields } from "./fields.ts";
import { VectorMessages, type EventDescriptors } from "./irqs.ts";
import { Command, FLAG_ERROR, HEADER_BYTES, REGION_CONFIGURATION, TYPE_REPLY } from "./protocol.ts";
import { servedVf } from "./served-device.ts";

export const MEMORY_BYTES = 1 << 20;
export const PAGE = 4096;

/** Little-endian fields one after the other, as [bytes, value]. */
export function pack(...fields: readonly (readonly [1 | 2 | 4 | 8, number])[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  let at = 0;
  for (const [width, value] of fields) {
    for (let i = 0; i < width; i++) bytes[at + i] = Math.floor(value / 2 ** (8 * i));
    at += width;
  }
  return bytes;
}

export const u32 = (...values: readonly number[]): Uint8Array => pack(...values.map((value) => [4, value] as const));
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const fromHex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));

export type DescriptorKind = "memory" | "eventfd" | "other";

/** Stands in for the kernel: says what each descriptor is, and that none is closed twice. */
export class TestDescriptors implements SharedFiles, EventDescriptors {
  /** Bytes that "memory" has; what lies outside is refused. */
  readonly memoryBytes: number;
  readonly #open = new Map<number, DescriptorKind>();
  readonly #signals = new Map<number, number>();
  #next = 100;

  constructor(memoryBytes = MEMORY_BYTES) {
    this.memoryBytes = memoryBytes;
  }

  get openCount(): number {
    return this.#open.size;
  }

  make(kind: DescriptorKind): number {
    this.#open.set(this.#next, kind);
    return this.#next++;
  }

  signals(descriptor: number): number {
    return this.#signals.get(descriptor) ?? 0;
  }

  isOpen(descriptor: number): boolean {
    return this.#open.has(descriptor);
  }

  adopt(descriptor: number, offset: number, lengthBytes: number): ReturnType<SharedFiles["adopt"]> {
    const isMemory = this.#open.get(descriptor) === "memory";
    this.closeDescriptor(descriptor);
    if (!isMemory) return { refused: "it is not a file" };
    return offset + lengthBytes <= this.memoryBytes ? { address: offset } : { refused: "it lies outside" };
  }

  adoptEventfd(descriptor: number): boolean {
    return this.#open.get(descriptor) === "eventfd";
  }

  signalEventfd(descriptor: number): boolean {
    assert.ok(this.#open.has(descriptor), `signalled a closed descriptor ${descriptor}`);
    this.#signals.set(descriptor, this.signals(descriptor) + 1);
    return true;
  }

  closeDescriptor(descriptor: number): void {
    assert.ok(this.#open.delete(descriptor), `closed ${descriptor} twice`);
  }
}

export interface SentMessage {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
}

/** The server's end of a connection; the test is the other end. */
export class TestChannel implements MessageChannel {
  readonly carriesDescriptors = true;
  readonly sent: SentMessage[] = [];
  isClosed = false;
  onMessage: (message: ReceivedMessage) => void = () => {};
  onClosed: (problem: string | undefined) => void = () => {};
  readonly #descriptors: TestDescriptors;

  constructor(descriptors: TestDescriptors) {
    this.#descriptors = descriptors;
  }

  send(message: Uint8Array): void {
    if (this.isClosed) return;
    const fields = new Fields(message);
    assert.equal(fields.u32(4), message.length, "the size in the header");
    this.sent.push({
      id: fields.u16(0),
      command: fields.u16(2),
      flags: fields.u32(8),
      error: fields.u32(12),
      payload: message.slice(HEADER_BYTES),
    });
  }

  closeDescriptors(descriptors: readonly number[]): void {
    for (const descriptor of descriptors) this.#descriptors.closeDescriptor(descriptor);
  }

  close(): void {
    this.isClosed = true;
  }
}

export interface Reply {
  readonly error: number;
  readonly payload: Uint8Array;
}

export interface SendOptions {
  readonly descriptors?: readonly number[];
  readonly flags?: number;
}

/** A VF, what serves it, and a client that connects and talks. */
export class ServedGuest {
  readonly memory = new BufferMemory(MEMORY_BYTES);
  readonly clock = new ManualClock(1000);
  readonly descriptors = new TestDescriptors();
  readonly domain = new Domain();
  readonly unshared = new Domain();
  readonly log = new DmaLog();
  readonly dma = new ServedDma(this.log);
  readonly messages = new VectorMessages();
  readonly vf: Vf82599;
  readonly server: DeviceServer;
  /** What the server said of each client that went. */
  readonly ends: (string | undefined)[] = [];
  channel: TestChannel;
  #id = 0x7000;

  /** Without the native calls no descriptor is used. */
  constructor(changes: Partial<DeviceServerOptions> & { readonly isNative?: boolean } = {}) {
    const { memory, domain, descriptors } = this;
    const { isNative = true, ...options } = changes;
    this.vf = new Vf82599({
      dma: this.dma,
      messages: this.messages,
      uplink: { frame() {} },
      clock: this.clock,
      mac: Uint8Array.of(2, 0, 0, 0, 0, 9),
    });
    this.dma.connect(new GuestDma({ memory, domain }));
    this.server = new DeviceServer({
      device: servedVf(this.vf),
      messages: this.messages,
      domain,
      unshared: this.unshared,
      log: this.log,
      ...(isNative ? { files: descriptors, events: descriptors } : {}),
      onClientGone: (problem) => this.ends.push(problem),
      ...options,
    });
    this.channel = this.connect();
  }

  /** A new connection, served or sent away. */
  connect(): TestChannel {
    this.channel = new TestChannel(this.descriptors);
    this.server.serve(this.channel);
    return this.channel;
  }

  /** The event loop's next turn: a closed channel says so. */
  hangUp(problem?: string): void {
    this.channel.close();
    this.channel.onClosed(problem);
  }

  /** Sends a command, and gives its reply if there is one. */
  send(command: number, payload: Uint8Array = new Uint8Array(0), options: SendOptions = {}): Reply | undefined {
    const { descriptors = [], flags = 0 } = options;
    this.#id = (this.#id + 1) & 0xffff;
    const before = this.channel.sent.length;
    this.channel.onMessage({ id: this.#id, command, flags, error: 0, payload, descriptors });
    const reply = this.channel.sent.slice(before).find((message) => (message.flags & 0xf) === TYPE_REPLY);
    if (reply === undefined) return undefined;
    assert.equal(reply.id, this.#id);
    assert.equal(reply.command, command);
    assert.equal((reply.flags & FLAG_ERROR) !== 0, reply.error !== 0);
    if (reply.error !== 0) assert.equal(reply.payload.length, 0, "an error's reply is its header only");
    return { error: reply.error, payload: reply.payload };
  }

  /** The payload of a reply that must come and be no error. */
  ask(command: number, payload?: Uint8Array, options?: SendOptions): Uint8Array {
    const reply = this.send(command, payload, options);
    assert.ok(reply !== undefined && reply.error === 0, `command ${command}: ${reply?.error}`);
    return reply.payload;
  }

  /** The errno of a reply that must come. */
  errorOf(command: number, payload?: Uint8Array, options?: SendOptions): number {
    const reply = this.send(command, payload, options);
    assert.ok(reply !== undefined, `command ${command} was not answered`);
    return reply.error;
  }

  negotiate(): this {
    this.ask(Command.version, pack([2, 0], [2, 0]));
    return this;
  }

  read(region: number, offset: number, count: number): Uint8Array {
    return this.ask(Command.regionRead, pack([8, offset], [4, region], [4, count])).slice(16);
  }

  write(region: number, offset: number, data: Uint8Array): void {
    const payload = new Uint8Array(16 + data.length);
    payload.set(pack([8, offset], [4, region], [4, data.length]));
    payload.set(data, 16);
    this.ask(Command.regionWrite, payload);
  }

  /** Memory decoding, bus mastering and MSI-X on, as a driver leaves them. */
  enable(): this {
    this.write(REGION_CONFIGURATION, 0x10, u32(0xf000_0000, 0, 0, 0xf000_4000));
    this.write(REGION_CONFIGURATION, 4, pack([2, 6]));
    this.write(REGION_CONFIGURATION, 0x72, pack([2, 0x8002]));
    return this;
  }

  map(
    iova: number,
    lengthBytes: number,
    options: { offset?: number; flags?: number; kind?: DescriptorKind } = {},
  ): number {
    const { offset = iova, flags = 3, kind = "memory" } = options;
    const payload = pack([4, 32], [4, flags], [8, offset], [8, iova], [8, lengthBytes]);
    return this.errorOf(Command.dmaMap, payload, { descriptors: [this.descriptors.make(kind)] });
  }

  unmap(iova: number, lengthBytes: number, flags = 0): number {
    return this.errorOf(Command.dmaUnmap, pack([4, 24], [4, flags], [8, iova], [8, lengthBytes]));
  }
}
