// A guest for tests of the datapath: memory, registers, rings and the little that a driver does with them.
import { Domain, IdentityDomain, type DmaDomain } from "../iommu/domain.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import type { QueueDirection } from "./datapath-ports.ts";
import { ReceiveUnit, type ReceiveOptions } from "./receive.ts";
import {
  REGISTER_COUNT,
  RXDCTL_ENABLE,
  SRRCTL_DESCTYPE_ADV_ONEBUF,
  SRRCTL_DROP_EN,
  TXDCTL_ENABLE,
  VFRDBAL,
  VFRDH,
  VFRDLEN,
  VFRDT,
  VFRXDCTL,
  VFSRRCTL,
  VFTDBAL,
  VFTDH,
  VFTDLEN,
  VFTDT,
  VFTXDCTL,
} from "./registers.ts";
import { registerTable } from "./register-table.ts";
import { TransmitUnit } from "./transmit.ts";

const DESCRIPTOR = 16;

export interface GuestOptions {
  readonly memoryBytes?: number;
  readonly pageBytes?: number;
  readonly queuePairs?: number;
  /** Without it, the identity domain. */
  readonly domain?: Domain;
  readonly receive?: Partial<ReceiveOptions>;
  /** What the units get instead of the port to the memory. */
  readonly wrapDma?: (port: DmaPort) => DmaPort;
}

/** Where things lie: rings of queue q at 0x1000 * (q + 1) (receive) and 0x9000 + 0x1000 * q (transmit), buffers from 0x20000. */
export const receiveRingAt = (queue: number): number => 0x1000 * (queue + 1);
export const transmitRingAt = (queue: number): number => 0x9000 + 0x1000 * queue;
export const BUFFERS_AT = 0x2_0000;

export class DatapathGuest {
  readonly memory: BufferMemory;
  readonly domain: DmaDomain;
  readonly dma: GuestDma;
  readonly registers = new Uint32Array(REGISTER_COUNT);
  readonly receive: ReceiveUnit;
  readonly transmit: TransmitUnit;
  readonly causes: { queue: number; direction: QueueDirection }[] = [];
  readonly sent: Uint8Array[] = [];
  /** Called when the doorbell of a receive queue rings, after the unit heard of it. */
  onReceiveDoorbell: (queue: number) => void = () => {};
  readonly #words: Uint32Array;

  constructor(options: GuestOptions = {}) {
    const { registers } = this;
    for (const row of registerTable) {
      for (let i = 0; i < row.count; i++) registers[(row.offset + i * row.strideBytes) >>> 2] = row.resetValue;
    }
    this.memory = new BufferMemory(options.memoryBytes ?? 0x10_0000, { pageBytes: options.pageBytes ?? 4096 });
    this.domain = options.domain ?? new IdentityDomain();
    this.dma = new GuestDma({ memory: this.memory, domain: this.domain });
    this.#words = this.memory.words();
    const shared = {
      registers,
      dma: options.wrapDma?.(this.dma) ?? this.dma,
      queuePairs: options.queuePairs ?? 1,
      hooks: {
        cause: (queue: number, direction: QueueDirection): void => void this.causes.push({ queue, direction }),
        transmit: (frame: Uint8Array): void => void this.sent.push(Uint8Array.from(frame)),
      },
    };
    this.receive = new ReceiveUnit({ ...shared, ...options.receive });
    this.transmit = new TransmitUnit(shared);
  }

  register(offset: number): number {
    return this.registers[offset >>> 2] ?? 0;
  }

  setRegister(offset: number, value: number): void {
    this.registers[offset >>> 2] = value;
  }

  /** Sets a receive queue up and enables it; posts nothing. */
  openReceive(
    queue = 0,
    setup: { descriptors?: number; bufferKiB?: number; drop?: boolean; control?: number; base?: number } = {},
  ): void {
    this.setRegister(VFRDBAL(queue), setup.base ?? receiveRingAt(queue));
    this.setRegister(VFRDLEN(queue), (setup.descriptors ?? 8) * DESCRIPTOR);
    this.setRegister(VFRDT(queue), 0);
    const drop = (setup.drop ?? true) ? SRRCTL_DROP_EN : 0;
    this.setRegister(VFSRRCTL(queue), (setup.bufferKiB ?? 2) | SRRCTL_DESCTYPE_ADV_ONEBUF | drop);
    this.setRegister(VFRXDCTL(queue), RXDCTL_ENABLE | (setup.control ?? 0));
    this.receive.queueChanged(queue);
  }

  /** Posts buffers at the tail, as ixgbevf does: the address, and a length of 0 in the *next* descriptor. */
  post(addresses: readonly number[], queue = 0): void {
    const ring = this.receive.ring(queue);
    let slot = ring.tail;
    for (const address of addresses) {
      const at = (ring.base + slot * DESCRIPTOR) / 4;
      this.#words[at] = address;
      this.#words[at + 1] = Math.floor(address / 0x1_0000_0000);
      slot = (slot + 1) % ring.descriptors;
      this.#words[(ring.base + slot * DESCRIPTOR) / 4 + 3] = 0;
    }
    this.setReceiveTail(slot, queue);
  }

  /** Posts `count` buffers of `bytes`, one for each slot, at BUFFERS_AT. */
  postMany(count: number, bytes = 2048, queue = 0): void {
    const { tail, descriptors } = this.receive.ring(queue);
    const slots = Array.from({ length: count }, (_, i) => (tail + i) % descriptors);
    this.post(
      slots.map((slot) => BUFFERS_AT + (queue * descriptors + slot) * bytes),
      queue,
    );
  }

  setReceiveTail(tail: number, queue = 0): void {
    this.setRegister(VFRDT(queue), tail);
    this.receive.tailWritten(queue);
    this.onReceiveDoorbell(queue);
  }

  openTransmit(queue = 0, setup: { descriptors?: number; control?: number } = {}): void {
    this.setRegister(VFTDBAL(queue), transmitRingAt(queue));
    this.setRegister(VFTDLEN(queue), (setup.descriptors ?? 8) * DESCRIPTOR);
    this.setRegister(VFTDT(queue), 0);
    this.setRegister(VFTXDCTL(queue), TXDCTL_ENABLE | (setup.control ?? 0));
    this.transmit.queueChanged(queue);
  }

  /** Writes transmit descriptors at the tail and rings the doorbell. */
  send(descriptors: readonly (readonly number[])[], queue = 0): void {
    const ring = this.transmit.ring(queue);
    let slot = ring.tail;
    for (const words of descriptors) {
      this.#words.set(
        words.map((word) => word >>> 0),
        (ring.base + slot * DESCRIPTOR) / 4,
      );
      slot = (slot + 1) % ring.descriptors;
    }
    this.setTransmitTail(slot, queue);
  }

  setTransmitTail(tail: number, queue = 0): void {
    this.setRegister(VFTDT(queue), tail);
    this.transmit.tailWritten(queue);
  }

  receiveDescriptor(slot: number, queue = 0): number[] {
    return this.#descriptor(this.receive.ring(queue).base, slot);
  }

  transmitDescriptor(slot: number, queue = 0): number[] {
    return this.#descriptor(this.transmit.ring(queue).base, slot);
  }

  #descriptor(base: number, slot: number): number[] {
    const at = (base + slot * DESCRIPTOR) / 4;
    return [...this.#words.subarray(at, at + 4)];
  }

  bytes(address: number, length: number): Uint8Array {
    return this.memory.bytes().slice(address, address + length);
  }

  /** Steps until nothing can be done; fails instead of running for ever. */
  run(unit: { step(): boolean }, stepsMax = 100_000): number {
    let steps = 0;
    while (unit.step()) {
      steps++;
      if (steps > stepsMax) throw new Error(`still busy after ${stepsMax} steps`);
    }
    return steps;
  }

  get receiveHead(): number {
    return this.register(VFRDH(0));
  }

  get transmitHead(): number {
    return this.register(VFTDH(0));
  }
}

/** Written-back words of a receive descriptor by name. */
export function writtenBack(words: readonly number[]): {
  packetInfo: number;
  rss: number;
  status: number;
  length: number;
  vlan: number;
} {
  const [info = 0, rss = 0, status = 0, lengthAndVlan = 0] = words;
  return { packetInfo: info & 0xffff, rss, status, length: lengthAndVlan & 0xffff, vlan: lengthAndVlan >>> 16 };
}

/** A frame of an ethertype that nobody parses. */
export function plainFrame(length: number, fill = 0x5a): Uint8Array {
  const bytes = new Uint8Array(length).fill(fill);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return bytes;
}

/** A guest whose receive queue 0 is open, with nothing posted. */
export function receivingGuest(
  options: GuestOptions = {},
  setup: Parameters<DatapathGuest["openReceive"]>[1] = {},
): DatapathGuest {
  const guest = new DatapathGuest(options);
  guest.openReceive(0, setup);
  return guest;
}

/** A guest whose transmit queues are open. */
export function transmittingGuest(
  setup: Parameters<DatapathGuest["openTransmit"]>[1] = {},
  queuePairs = 1,
): DatapathGuest {
  const guest = new DatapathGuest({ queuePairs });
  for (let queue = 0; queue < queuePairs; queue++) guest.openTransmit(queue, setup);
  return guest;
}

// Transmit descriptors as drivers write them.
export const TX_EOP = 0x0100_0000;
export const TX_RS = 0x0800_0000;
const TX_DATA = 0x2030_0000;
const TX_CONTEXT = 0x2020_0000;
const layer4Types = { tcp: 0x800, udp: 0, sctp: 0x1000 } as const;
/** A transmit descriptor written back. */
export const txDone: readonly number[] = [0, 0, 0, 1];

export function txData(address: number, length: number, command = TX_EOP | TX_RS, options = 0): number[] {
  return [address % 2 ** 32, Math.floor(address / 2 ** 32), (TX_DATA | command | length) >>> 0, options];
}

export interface TxContextFields {
  readonly macBytes?: number;
  readonly ipBytes?: number;
  readonly l4Bytes?: number;
  readonly mss?: number;
  readonly vlan?: number;
  readonly ipv4?: boolean;
  readonly protocol?: keyof typeof layer4Types;
  readonly index?: number;
}

export function txContext(fields: TxContextFields): number[] {
  return [
    (((fields.vlan ?? 0) << 16) | ((fields.macBytes ?? 14) << 9) | (fields.ipBytes ?? 0)) >>> 0,
    0,
    TX_CONTEXT | ((fields.ipv4 ?? false) ? 0x400 : 0) | layer4Types[fields.protocol ?? "tcp"],
    (((fields.mss ?? 0) << 16) | ((fields.l4Bytes ?? 0) << 8) | ((fields.index ?? 0) << 4)) >>> 0,
  ];
}
