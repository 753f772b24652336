// A guest for the audit's tests: its memory and a driver that posts, takes and sends as ixgbevf does.
import assert from "node:assert/strict";
import type { DmaPort } from "../iommu/dma-port.ts";
import type { GuestDma } from "../iommu/guest-dma.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import * as descriptor from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";

export interface BenchOptions {
  readonly pageBytes: number;
  readonly ringDescriptors: number;
  /** Bytes of a receive buffer, half a page. */
  readonly bufferBytes: number;
  readonly memoryBytes: number;
  readonly queues?: number;
  readonly hashContents?: boolean;
  /** An IOMMU that swaps each even page with the odd one after it. */
  readonly swapPages?: boolean;
  /** Puts something between the device and its port. */
  readonly wrapPort?: (port: GuestDma) => DmaPort;
}

/** 64-byte pages, 4 descriptors to a page, rings of two pages. */
export const toyScale: BenchOptions = {
  pageBytes: 64,
  ringDescriptors: 8,
  bufferBytes: 32,
  memoryBytes: 8192,
  queues: 2,
};
/** 4 KiB pages, rings of two pages. */
export const realScale: BenchOptions = {
  pageBytes: 4096,
  ringDescriptors: 512,
  bufferBytes: 2048,
  memoryBytes: 8 * 1024 * 1024,
};

interface DriverQueue {
  nextToUse: number;
  nextToClean: number;
  /** Half page posted in each slot. */
  readonly buffers: number[];
  txNextToUse: number;
  txNextToClean: number;
  /** Last descriptors of frames that wait for their completion. */
  readonly txWatch: number[];
}

/** Where things lie: rings first, then the driver's pages, then what is only the CPU's. */
export class BenchGuest {
  readonly options: Required<Omit<BenchOptions, "wrapPort">>;
  readonly memory: BufferMemory;
  readonly registers = new Uint32Array(register.REGISTER_COUNT);
  readonly driver: DriverQueue[];
  /** Pages that belong to nobody, the driver takes from the front and gives back at the end. */
  readonly freePages: number[] = [];
  readonly ringsEnd: number;
  readonly cpuStart: number;

  constructor(options: BenchOptions) {
    this.options = { queues: 1, hashContents: false, swapPages: false, ...options };
    const { pageBytes, memoryBytes, ringDescriptors, queues } = this.options;
    this.memory = new BufferMemory(memoryBytes, { pageBytes });
    const ringBytes = ringDescriptors * descriptor.DESCRIPTOR_BYTES;
    const rings = queues * 2 * ringBytes;
    this.ringsEnd = rings;
    const firstPage = Math.ceil(rings / pageBytes / 2) * 2;
    const pageCount = memoryBytes / pageBytes;
    const pagesForDriver = Math.floor((pageCount - firstPage) / 2);
    for (let page = firstPage; page < firstPage + pagesForDriver; page++) this.freePages.push(page);
    this.cpuStart = (firstPage + pagesForDriver) * pageBytes;
    this.driver = Array.from({ length: queues }, (_, queue) => this.#setUpQueue(queue, ringBytes));
    this.#fillCpuMemory();
  }

  #setUpQueue(queue: number, ringBytes: number): DriverQueue {
    const { bufferBytes, queues, ringDescriptors } = this.options;
    this.set(register.VFRDBAL(queue), queue * ringBytes);
    this.set(register.VFRDLEN(queue), ringBytes);
    this.set(register.VFSRRCTL(queue), bufferBytes / this.bufferUnitBytes);
    this.set(register.VFRXDCTL(queue), register.RXDCTL_ENABLE);
    this.set(register.VFTDBAL(queue), (queues + queue) * ringBytes);
    this.set(register.VFTDLEN(queue), ringBytes);
    this.set(register.VFTXDCTL(queue), register.TXDCTL_ENABLE);
    const entry = register.VTIVAR_VALID | queue;
    const shift = 16 * (queue & 1);
    const ivar = register.VTIVAR(queue >>> 1);
    this.set(ivar, this.get(ivar) | (entry << shift) | (entry << (shift + 8)));
    const buffers = Array.from({ length: ringDescriptors }, () => this.takePage());
    const fresh = { nextToUse: 0, nextToClean: 0, buffers, txNextToUse: 0, txNextToClean: 0, txWatch: [] };
    this.#post(queue, fresh, ringDescriptors - 1);
    return fresh;
  }

  /** From an address of the device to guest physical, and back. */
  readonly translate = (address: number): number =>
    this.options.swapPages ? address ^ this.options.pageBytes : address;

  get bufferUnitBytes(): number {
    return Math.min(1024, this.options.bufferBytes);
  }

  get(offset: number): number {
    return this.registers[offset >>> 2] ?? 0;
  }

  set(offset: number, value: number): void {
    this.registers[offset >>> 2] = value;
  }

  takePage(): number {
    const page = this.freePages.shift();
    assert.ok(page !== undefined, "the bench ran out of pages");
    return page * this.options.pageBytes;
  }

  /** The CPU writes. */
  poke(address: number, ...bytes: number[]): void {
    this.memory.bytes().set(bytes, address);
  }

  #fillCpuMemory(): void {
    const bytes = this.memory.bytes();
    for (let at = this.cpuStart; at < bytes.length; at++) bytes[at] = (at * 31) >>> 3;
  }

  // The driver, after ixgbevf: address on every refill, length zeroed of the next descriptor only, status left behind.

  slotAddress(queue: number, slot: number): number {
    return this.translate(this.get(register.VFRDBAL(queue)) + slot * descriptor.DESCRIPTOR_BYTES);
  }

  txSlotAddress(queue: number, slot: number): number {
    return this.translate(this.get(register.VFTDBAL(queue)) + slot * descriptor.DESCRIPTOR_BYTES);
  }

  after(slot: number): number {
    return (slot + 1) % this.options.ringDescriptors;
  }

  #post(queue: number, driver: DriverQueue, count: number): void {
    const words = this.memory.words();
    for (let i = 0; i < count; i++) {
      const at = this.slotAddress(queue, driver.nextToUse) >>> 2;
      words[at] = this.translate(driver.buffers[driver.nextToUse] ?? 0);
      words[at + 1] = 0;
      driver.nextToUse = this.after(driver.nextToUse);
      const following = (this.slotAddress(queue, driver.nextToUse) >>> 2) + 3;
      words[following] = (words[following] ?? 0) & 0xffff_0000;
    }
    this.set(register.VFRDT(queue), driver.nextToUse);
  }

  /** Takes up to `budget` done descriptors. The taken half goes to the stack; every third time the whole page does. */
  poll(queue: number, budget = 1000): number {
    const driver = this.driver[queue];
    assert.ok(driver !== undefined);
    const { bufferBytes } = this.options;
    let taken = 0;
    for (; taken < budget; taken++) {
      const slot = driver.nextToClean;
      if (((this.memory.words()[(this.slotAddress(queue, slot) >>> 2) + 3] ?? 0) & 0xffff) === 0) break;
      const buffer = driver.buffers[slot] ?? 0;
      if ((slot + taken) % 3 === 0) {
        this.freePages.push(Math.floor(buffer / this.options.pageBytes));
        driver.buffers[slot] = this.takePage();
      } else driver.buffers[slot] = buffer ^ bufferBytes;
      driver.nextToClean = this.after(slot);
    }
    return taken;
  }

  /** Posts what was taken, as long as there is at least `batch`. */
  refill(queue: number, batch = 1): void {
    const driver = this.driver[queue];
    assert.ok(driver !== undefined);
    const { ringDescriptors } = this.options;
    const unused = (driver.nextToClean - driver.nextToUse - 1 + 2 * ringDescriptors) % ringDescriptors;
    if (unused >= batch) this.#post(queue, driver, unused);
  }

  /** Queues a frame of `pieces` descriptors, with a context descriptor before it if one is given. */
  send(queue: number, pieces: number, context?: { index: number; value: number }): void {
    const driver = this.driver[queue];
    assert.ok(driver !== undefined);
    const put = (...words: number[]): void => {
      this.memory.words().set(words, this.txSlotAddress(queue, driver.txNextToUse) >>> 2);
      driver.txNextToUse = this.after(driver.txNextToUse);
    };
    if (context !== undefined) {
      const type = descriptor.TXD_CMD_DEXT | descriptor.TXD_DTYP_CONTEXT;
      put(context.value, 0, type, context.index << descriptor.TXD_IDX_SHIFT);
    }
    for (let piece = 1; piece <= pieces; piece++) {
      const last = piece === pieces ? descriptor.TXD_CMD_EOP | descriptor.TXD_CMD_RS : 0;
      put(
        this.cpuStart,
        0,
        descriptor.TXD_CMD_DEXT | descriptor.TXD_DTYP_DATA | last | 60,
        60 << descriptor.TXD_PAYLEN_SHIFT,
      );
    }
    driver.txWatch.push((driver.txNextToUse + this.options.ringDescriptors - 1) % this.options.ringDescriptors);
    this.set(register.VFTDT(queue), driver.txNextToUse);
  }

  /** Descriptors the driver may fill: it cleans up to the last frame that memory shows completed. */
  txRoom(queue: number): number {
    const driver = this.driver[queue];
    assert.ok(driver !== undefined);
    for (let last = driver.txWatch[0]; last !== undefined; last = driver.txWatch[0]) {
      const status = this.memory.words()[(this.txSlotAddress(queue, last) >>> 2) + 3] ?? 0;
      if ((status & descriptor.TXD_STAT_DD) === 0) break;
      driver.txWatch.shift();
      driver.txNextToClean = this.after(last);
    }
    const { ringDescriptors } = this.options;
    const used = (driver.txNextToUse - driver.txNextToClean + ringDescriptors) % ringDescriptors;
    return ringDescriptors - 1 - used;
  }
}
