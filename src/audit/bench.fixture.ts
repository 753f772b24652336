// A small device and driver for the audit's tests: they write real descriptors into real memory, under the real ledger.
import assert from "node:assert/strict";
import { dmaTag, DmaPurpose, type DmaPort } from "../iommu/dma-port.ts";
import { FaultLog } from "../iommu/fault-log.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import type { ReceiveQueueState, TransmitContextState, TransmitQueueState } from "../nic/datapath-ports.ts";
import * as descriptor from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import type { DriverView, Evidence } from "./evidence.ts";
import { Ledger } from "./ledger.ts";
import { savedVf } from "./saved-vf.fixture.ts";

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

const emptyContext: TransmitContextState = { valid: false, vlanMacipLens: 0, typeTucmdMlhl: 0, mssL4lenIdx: 0 };

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
export class Bench {
  readonly options: Required<Omit<BenchOptions, "wrapPort">>;
  readonly memory: BufferMemory;
  readonly ledger: Ledger;
  readonly port: DmaPort;
  readonly registers = new Uint32Array(register.REGISTER_COUNT);
  readonly receive: ReceiveQueueState[];
  readonly transmit: TransmitQueueState[];
  readonly driver: DriverQueue[];
  /** Pages that belong to nobody, the driver takes from the front and gives back at the end. */
  readonly freePages: number[] = [];
  readonly ringsEnd: number;
  readonly cpuStart: number;
  #vfAtPause: VfState | undefined;
  #driverAtPause: DriverView | undefined;

  constructor(options: BenchOptions) {
    this.options = { queues: 1, hashContents: false, swapPages: false, ...options };
    const { pageBytes, memoryBytes, ringDescriptors, queues } = this.options;
    this.memory = new BufferMemory(memoryBytes, { pageBytes });
    const room = { writesMax: 4096, undoBytesMax: Math.max(4096, memoryBytes) };
    this.ledger = new Ledger(this.memory, { ...room, hashContents: this.options.hashContents });
    const domain = { isIdentity: !this.options.swapPages, faults: new FaultLog(), translate: this.translate };
    const port = new GuestDma({ memory: this.memory, domain, observers: [this.ledger] });
    this.port = options.wrapPort?.(port) ?? port;
    this.receive = Array.from({ length: queues }, () => ({
      frameInProgress: false,
      causePending: false,
      dmaFault: false,
    }));
    this.transmit = Array.from({ length: queues }, () => ({
      contexts: [{ ...emptyContext }, { ...emptyContext }],
      reported: 0,
      causePending: false,
      dmaFault: false,
    }));
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

  #after(slot: number): number {
    return (slot + 1) % this.options.ringDescriptors;
  }

  #post(queue: number, driver: DriverQueue, count: number): void {
    const words = this.memory.words();
    for (let i = 0; i < count; i++) {
      const at = this.slotAddress(queue, driver.nextToUse) >>> 2;
      words[at] = this.translate(driver.buffers[driver.nextToUse] ?? 0);
      words[at + 1] = 0;
      driver.nextToUse = this.#after(driver.nextToUse);
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
      driver.nextToClean = this.#after(slot);
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
      driver.txNextToUse = this.#after(driver.txNextToUse);
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
      driver.txNextToClean = this.#after(last);
    }
    const { ringDescriptors } = this.options;
    const used = (driver.txNextToUse - driver.txNextToClean + ringDescriptors) % ringDescriptors;
    return ringDescriptors - 1 - used;
  }

  // The device. A frame takes one beat for each buffer and one for each write-back.

  posted(queue: number): number {
    const { ringDescriptors } = this.options;
    return (this.get(register.VFRDT(queue)) - this.get(register.VFRDH(queue)) + ringDescriptors) % ringDescriptors;
  }

  /** The DMA writes of a frame, in order, to be done one by one. The head moves with each write-back. */
  *beats(queue: number, frame: Uint8Array, options: { relaxed?: boolean } = {}): Generator<() => void> {
    const { bufferBytes } = this.options;
    for (let offset = 0; offset < frame.length; offset += bufferBytes) {
      const slot = this.get(register.VFRDH(queue));
      const length = Math.min(bufferBytes, frame.length - offset);
      const buffer = this.memory.words()[this.slotAddress(queue, slot) >>> 2] ?? 0;
      const isLast = offset + length === frame.length;
      yield () => this.port.writeBytes(buffer, frame, offset, length, dmaTag(DmaPurpose.rxBuffer, queue, slot, true));
      yield () => {
        this.writeBack(queue, slot, { length, isLast, relaxed: options.relaxed ?? false });
        this.set(register.VFRDH(queue), this.#after(slot));
        const state = this.receive[queue];
        if (state !== undefined) state.frameInProgress = !isLast;
      };
    }
  }

  writeBack(queue: number, slot: number, of: { length: number; isLast: boolean; relaxed?: boolean }): void {
    const status = descriptor.RXD_STAT_DD | (of.isLast ? descriptor.RXD_STAT_EOP : 0);
    const words = Uint32Array.of(0x0110_0000 | slot, 0xfeed_0000 | this.ledger.sequence, status, of.length);
    const tag = dmaTag(DmaPurpose.rxWriteBack, queue, slot, of.relaxed ?? false);
    this.port.writeWords(this.translate(this.slotAddress(queue, slot)), words, 4, tag);
  }

  receiveFrame(queue: number, frame: Uint8Array): void {
    for (const beat of this.beats(queue, frame)) beat();
  }

  /** Sends one frame. With `report` false its completion is owed. */
  sendFrame(queue: number, report = true): void {
    const state = this.transmit[queue];
    assert.ok(state !== undefined);
    for (let isLast = false; !isLast;) {
      const head = this.get(register.VFTDH(queue));
      assert.notEqual(head, this.get(register.VFTDT(queue)), "nothing to send");
      const at = this.txSlotAddress(queue, head) >>> 2;
      const [vlanMacipLens = 0, , command = 0, last = 0] = this.memory.words().subarray(at, at + 4);
      this.set(register.VFTDH(queue), this.#after(head));
      if ((command & descriptor.TXD_DTYP_MASK) === descriptor.TXD_DTYP_CONTEXT) {
        const index = ((last >>> descriptor.TXD_IDX_SHIFT) & descriptor.TXD_IDX_MASK) as 0 | 1;
        state.contexts[index] = { valid: true, vlanMacipLens, typeTucmdMlhl: command, mssL4lenIdx: last };
      } else isLast = (command & descriptor.TXD_CMD_EOP) !== 0;
    }
    if (report) this.reportSent(queue);
  }

  /** Writes back every completion that is owed. */
  reportSent(queue: number): void {
    const state = this.transmit[queue];
    assert.ok(state !== undefined);
    for (; state.reported !== this.get(register.VFTDH(queue)); state.reported = this.#after(state.reported)) {
      const command = this.memory.words()[(this.txSlotAddress(queue, state.reported) >>> 2) + 2] ?? 0;
      if ((command & descriptor.TXD_CMD_RS) === 0) continue;
      const tag = dmaTag(DmaPurpose.txWriteBack, queue, state.reported, false);
      const done = Uint32Array.of(0, 0, 0, descriptor.TXD_STAT_DD);
      this.port.writeWords(this.translate(this.txSlotAddress(queue, state.reported)), done, 4, tag);
    }
  }

  save(): VfState {
    return savedVf({ registers: this.registers, receive: this.receive, transmit: this.transmit });
  }

  /** The vCPUs pause. */
  pause(): void {
    this.ledger.markVcpusPaused();
    this.#vfAtPause = this.save();
    this.#driverAtPause = {
      receive: this.driver.map(({ nextToClean }) => ({ nextToClean, isBetweenCheckAndWrite: false })),
    };
  }

  /** Memory as it is now, for the destination. */
  snapshot(): Uint8Array {
    return this.memory.bytes().slice();
  }

  get driverAtPause(): DriverView {
    assert.ok(this.#driverAtPause !== undefined);
    return this.#driverAtPause;
  }

  /** What the audit gets, the source having ended just now. */
  evidence(destination: { memory: Uint8Array; vf: VfState }, more: Partial<Evidence> = {}): Evidence {
    assert.ok(this.#vfAtPause !== undefined, "the bench was not paused");
    return {
      pageBytes: this.options.pageBytes,
      sourceMemory: this.snapshot(),
      destinationMemory: destination.memory,
      ledger: this.ledger.record(),
      vfAtPause: this.#vfAtPause,
      vfAtSourceEnd: this.save(),
      vfAtResume: destination.vf,
      raisedEveryVector: true,
      droppedRings: false,
      bufferUnitBytes: this.bufferUnitBytes,
      ...(this.options.swapPages ? { translate: this.translate } : {}),
      ...more,
    };
  }
}
