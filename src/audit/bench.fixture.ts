// The bench of the audit's tests: a guest, a small device that writes real descriptors, and the real ledger beside it.
import assert from "node:assert/strict";
import { dmaTag, DmaPurpose, type DmaPort } from "../iommu/dma-port.ts";
import { FaultLog } from "../iommu/fault-log.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import type { ReceiveQueueState, TransmitContextState, TransmitQueueState } from "../nic/datapath-ports.ts";
import * as descriptor from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import { BenchGuest, type BenchOptions } from "./bench-guest.fixture.ts";
import type { DriverView, Evidence } from "./evidence.ts";
import { Ledger } from "./ledger.ts";
import { savedVf } from "./saved-vf.fixture.ts";

const emptyContext: TransmitContextState = { valid: false, vlanMacipLens: 0, typeTucmdMlhl: 0, mssL4lenIdx: 0 };

export class Bench extends BenchGuest {
  readonly ledger: Ledger;
  readonly port: DmaPort;
  readonly receive: ReceiveQueueState[];
  readonly transmit: TransmitQueueState[];
  #vfAtPause: VfState | undefined;
  #driverAtPause: DriverView | undefined;

  constructor(options: BenchOptions) {
    super(options);
    const { memoryBytes, queues } = this.options;
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
  }

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
        this.set(register.VFRDH(queue), this.after(slot));
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
      this.set(register.VFTDH(queue), this.after(head));
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
    for (; state.reported !== this.get(register.VFTDH(queue)); state.reported = this.after(state.reported)) {
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
