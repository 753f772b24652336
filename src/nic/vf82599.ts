// The Intel 82599 virtual function: registers, PF, interrupts and datapath behind one PCI function.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { PciEndpoint } from "../pci/endpoint.ts";
import type { AccessBytes, BarDescription, MessageSink, PciFunction } from "../pci/function.ts";
import { Beats } from "./beats.ts";
import { QueueDirection } from "./datapath-ports.ts";
import type { RingView } from "./datapath-ports.ts";
import { InterruptUnit } from "./interrupts.ts";
import { MAC_BYTES } from "./mac-address.ts";
import { MailboxApi } from "./mailbox-messages.ts";
import { PhysicalFunction } from "./physical-function.ts";
import type { LinkState } from "./physical-function.ts";
import { resetQueues } from "./pf-reset.ts";
import type { PfResetMeans } from "./pf-reset.ts";
import type { FrameSink } from "./ports.ts";
import { ReceiveUnit } from "./receive.ts";
import type { ReceiveOptions } from "./receive.ts";
import { RegisterDispatch } from "./register-dispatch.ts";
import { makeRegisters, RegisterFile, resetRegisters } from "./register-file.ts";
import { restoreRegisters, saveRegisters } from "./register-state.ts";
import { QUEUE_PAIRS_MAX, REGISTER_BAR_BYTES, VECTORS_MAX, VFTDWBAH, VFTDWBAL } from "./registers.ts";
import { VF_STATE_VERSION } from "./state.ts";
import type { VfState } from "./state.ts";
import { TransmitUnit } from "./transmit.ts";
import { statisticsOf } from "./vf-statistics.ts";
import type { Resets, VfStatistics } from "./vf-statistics.ts";
import { WirePort } from "./wire-port.ts";

/** What the datapath may be told beyond its registers. */
export type DatapathTuning = Pick<ReceiveOptions, "packetBufferBytes" | "prefetchDescriptors" | "bufferUnitBytes">;

export interface Vf82599Options {
  /** The VF's way to the guest's memory. */
  readonly dma: DmaPort;
  /** Where MSI-X messages go. */
  readonly messages: MessageSink;
  /** Where frames go that the VF sends. */
  readonly uplink: FrameSink;
  readonly clock: Clock;
  /** Six bytes; all zero lets the guest choose its address. */
  readonly mac: Uint8Array;
  /** Queue pairs the PF gives to the VF, 1 to 8; 2 unless said otherwise, which is the most ixgbevf uses. */
  readonly queuePairsMax?: number;
  /** Newest mailbox API the PF agrees to; 1.5 unless said otherwise. */
  readonly mailboxApiMax?: MailboxApi;
  /** Whether the PF lets the guest change its address and ask for all multicast; true unless said otherwise. */
  readonly trusted?: boolean;
  /** The link at power-on; up at 10 Gb/s unless said otherwise. */
  readonly link?: LinkState;
  readonly datapath?: DatapathTuning;
}

const identity = {
  vendorId: 0x8086,
  deviceId: 0x10ed,
  subsystemVendorId: 0x8086,
  subsystemId: 0x000c,
  revision: 1,
  classCode: 0x02_0000,
} as const;
const vectorBar: BarDescription = { index: 3, sizeBytes: 0x4000, is64Bit: true };

/** Hears of the receive rings right after the receive unit; see RingShadow for what each call says. */
export interface ReceiveRingWatcher {
  tailWritten(queue: number): void;
  queueChanged(queue: number): void;
  rebuild(): void;
}

/**
 * One VF. It knows no machine and no network, and does nothing by itself: whoever owns it calls `step()` or `run()`
 * after `onWork`, and `advance()` when `deadlineMs()` has come.
 *
 * The pause contract. `stop()` finishes the frame that is being received or sent, with its write-backs and interrupt
 * causes, and from then on the VF sends nothing: no DMA, no message, no frame. It goes on to answer: registers can be
 * read and written, doorbells are kept in the tails, mailbox requests are answered, causes and pending bits gather.
 * Frames that arrive are dropped and counted, as on a wire nobody listens to; those in the packet buffer stay there
 * until `start()`, but are not saved. `save()` may be called between any two steps and does not need `stop()`; without
 * it the state is of a device that is about to move on. `restore()` leaves the VF stopped. `start()` takes up the kept
 * work and sends the messages held back. All of them may be repeated.
 */
export class Vf82599 implements PciFunction {
  readonly queuePairs: number;
  readonly #clock: Clock;
  readonly #registers = makeRegisters();
  readonly #endpoint: PciEndpoint;
  readonly #file: RegisterFile;
  readonly #dispatch: RegisterDispatch;
  readonly #interrupts: InterruptUnit;
  readonly #pf: PhysicalFunction;
  readonly #receive: ReceiveUnit;
  readonly #transmit: TransmitUnit;
  readonly #wire: WirePort;
  readonly #beats: Beats;
  readonly #resets: Resets = { functionLevel: 0, software: 0, physicalFunction: 0 };
  #ringWatcher: ReceiveRingWatcher | undefined;
  /** Clock time at which VFFRTIMER was zero. */
  #timerZeroMs: number;

  constructor(options: Vf82599Options) {
    const { dma, clock, mac } = options;
    const registers = this.#registers;
    const queuePairs = options.queuePairsMax ?? 2;
    assert(queuePairs >= 1 && queuePairs <= QUEUE_PAIRS_MAX, `${queuePairs} queue pairs`);
    assert(mac.length === MAC_BYTES, `a MAC address has ${MAC_BYTES} bytes`);
    this.queuePairs = queuePairs;
    this.#clock = clock;
    this.#timerZeroMs = clock.nowMs();
    this.#endpoint = this.#makeEndpoint(options.messages);
    this.#interrupts = new InterruptUnit({ registers, clock, sink: this.#endpoint.msix });
    this.#interrupts.onDeadline = () => this.#beats.wake();
    this.#pf = this.#makePf(options);
    this.#wire = new WirePort({ registers, pf: this.#pf, uplink: options.uplink });
    const hooks = {
      cause: (queue: number, direction: QueueDirection): void => {
        if (direction === QueueDirection.receive) this.#interrupts.receiveCause(queue);
        else this.#interrupts.transmitCause(queue);
      },
      transmit: (frame: Uint8Array): void => this.#wire.send(frame),
    };
    this.#receive = new ReceiveUnit({ registers, dma, queuePairs, hooks, ...options.datapath });
    this.#transmit = new TransmitUnit({ registers, dma, queuePairs, hooks });
    this.#beats = new Beats({
      clock,
      dma,
      queuePairs,
      interrupts: this.#interrupts,
      pf: this.#pf,
      receive: this.#receive,
      transmit: this.#transmit,
      isBusMaster: () => this.#endpoint.busMasterEnabled,
    });
    this.#dispatch = new RegisterDispatch({
      registers,
      queuePairs,
      interrupts: this.#interrupts,
      pf: this.#pf,
      receive: this.#receive,
      transmit: this.#transmit,
      timerUs: () => this.#timerUs(),
      onSoftwareReset: () => {
        this.#resets.software++;
        this.#resetFunction();
      },
      onReceiveTail: (queue) => this.#ringWatcher?.tailWritten(queue),
      onReceiveQueue: (queue) => this.#ringWatcher?.queueChanged(queue),
      onDoorbell: () => this.#beats.wake(),
    });
    this.#file = new RegisterFile(registers, this.#dispatch);
  }

  #makeEndpoint(messages: MessageSink): PciEndpoint {
    return new PciEndpoint({
      identity,
      bars: [
        {
          index: 0,
          sizeBytes: REGISTER_BAR_BYTES,
          is64Bit: true,
          read: (offset, bytes) => this.#file.read(offset, bytes),
          write: (offset, bytes, value) => this.#file.write(offset, bytes, value),
        },
      ],
      msix: { vectors: VECTORS_MAX, tableOffset: 0, pendingOffset: 0x2000, bar: vectorBar, capabilityOffset: 0x70 },
      expressCapabilityOffset: 0xa0,
      messages,
      onFunctionLevelReset: () => {
        this.#resets.functionLevel++;
        this.#resetFunction();
      },
      onGatesChanged: () => {
        this.#interrupts.evaluate();
        this.#beats.wake();
      },
    });
  }

  #makePf(options: Vf82599Options): PhysicalFunction {
    return new PhysicalFunction({
      registers: this.#registers,
      clock: options.clock,
      mac: options.mac,
      queuePairs: this.queuePairs,
      apiMax: options.mailboxApiMax ?? MailboxApi.v15,
      trusted: options.trusted ?? true,
      link: options.link ?? { up: true, speedMbps: 10_000 },
      raise: () => this.#interrupts.mailboxCause(),
      clearHeadWriteBack: () => this.#clearHeadWriteBack(),
      onRecordChanged: () => {
        this.#receive.frameBytesMax = this.#pf.frameLimitBytes;
      },
      onDeadline: () => this.#beats.wake(),
    });
  }

  // The PCI function.

  get bars(): readonly BarDescription[] {
    return this.#endpoint.bars;
  }

  get onBarsChanged(): () => void {
    return this.#endpoint.onBarsChanged;
  }

  set onBarsChanged(listener: () => void) {
    this.#endpoint.onBarsChanged = listener;
  }

  /** DMA and messages wait while it is false. */
  get busMasterEnabled(): boolean {
    return this.#endpoint.busMasterEnabled;
  }

  readConfiguration(offset: number, bytes: AccessBytes): number {
    return this.#endpoint.readConfiguration(offset, bytes);
  }

  writeConfiguration(offset: number, bytes: AccessBytes, value: number): void {
    this.#endpoint.writeConfiguration(offset, bytes, value);
  }

  readBar(bar: number, offset: number, bytes: AccessBytes): number {
    return this.#endpoint.readBar(bar, offset, bytes);
  }

  writeBar(bar: number, offset: number, bytes: AccessBytes, value: number): void {
    this.#endpoint.writeBar(bar, offset, bytes, value);
  }

  barAddress(bar: number): number {
    return this.#endpoint.barAddress(bar);
  }

  // Work.

  /** Called when there is work or a new deadline, and none was known. */
  get onWork(): () => void {
    return this.#beats.onWork;
  }

  set onWork(listener: () => void) {
    this.#beats.onWork = listener;
  }

  /** Whether a step may find something to do. */
  get hasWork(): boolean {
    return this.#beats.hasWork;
  }

  /** One beat: at most one DMA write, one frame sent, one cause, or what is due by the clock. False when idle. */
  step(): boolean {
    return this.#beats.step();
  }

  /** Steps until idle. */
  run(): void {
    this.#beats.run();
  }

  /** When the VF next wants to be called though nobody asks it to, on its clock; Infinity for never. */
  deadlineMs(): number {
    return this.#beats.deadlineMs();
  }

  /** Does what is due by the clock: moderated interrupts, the PF's delayed answers. `step()` does it too. */
  advance(): void {
    this.#beats.advance();
  }

  /** A frame from the wire, without FCS; copied if it is kept. The PF filters it. */
  receiveFrame(frame: Uint8Array): void {
    if (this.#wire.admits(frame, this.#beats.isStopped) && this.#receive.frame(frame)) this.#beats.wake();
  }

  // The pause contract.

  get isStopped(): boolean {
    return this.#beats.isStopped;
  }

  /** Sends no further frame; every frame sent is reported to the driver, with its cause. Receiving goes on. */
  stopTransmit(): void {
    this.#beats.stopTransmit();
  }

  /** Stops as the pause contract says. Returns when the last posted write has been pushed out by a read. */
  stop(): void {
    this.#beats.stop();
    this.#endpoint.msix.hold(true);
  }

  start(): void {
    this.#endpoint.msix.hold(false);
    this.#beats.start();
  }

  save(): VfState {
    return {
      device: "82599-vf",
      version: VF_STATE_VERSION,
      queuePairs: this.queuePairs,
      timerUs: this.#timerUs(),
      pci: this.#endpoint.save(),
      registers: saveRegisters(this.#registers),
      interrupts: this.#interrupts.save(),
      physicalFunction: this.#pf.save(),
      receive: this.#receive.save(),
      transmit: this.#transmit.save(),
    };
  }

  /**
   * Becomes the saved device and is stopped. Frames in the packet buffer are dropped. The link is the saved one until
   * setLink() says otherwise. Throws OperationError `vf-state-invalid` if this VF has another number of queue pairs.
   */
  restore(state: VfState): void {
    if (state.queuePairs !== this.queuePairs) {
      throw new OperationError({
        code: "vf-state-invalid",
        message: `the VF state has ${state.queuePairs} queue pairs, this VF has ${this.queuePairs}`,
        advice: "Give both sides the same number of queue pairs.",
        facts: { queuePairs: state.queuePairs, queuePairsHere: this.queuePairs },
      });
    }
    this.#beats.holdStill();
    this.#endpoint.msix.hold(true);
    restoreRegisters(this.#registers, state.registers);
    this.#timerZeroMs = this.#clock.nowMs() - state.timerUs / 1000;
    this.#receive.restore(state.receive);
    this.#transmit.restore(state.transmit);
    this.#interrupts.restore(state.interrupts);
    this.#pf.restore(state.physicalFunction);
    this.#endpoint.restore(state.pci);
    this.#interrupts.evaluate();
    this.#ringWatcher?.rebuild();
  }

  /** Sets the cause of every vector that has one mapped, once: against the hazard `lost-interrupt`. */
  raiseAllEnabled(): void {
    this.#interrupts.raiseAllEnabled();
  }

  // The host's side.

  /** The cable: the guest's driver sees it at once through a message of the PF. */
  setLink(link: LinkState): void {
    this.#pf.setLink(link);
  }

  /** The PF resets the VF so that the stock driver starts over by itself (strategy `reinit`); see pf-reset.ts. */
  pfReset(means: PfResetMeans = "mailbox"): void {
    this.#resets.physicalFunction++;
    resetQueues(
      { registers: this.#registers, receive: this.#receive, transmit: this.#transmit },
      this.queuePairs,
      means,
    );
    this.#clearHeadWriteBack();
    for (let queue = 0; queue < this.queuePairs; queue++) this.#ringWatcher?.queueChanged(queue);
    if (means === "mailbox") this.#pf.withdraw();
  }

  /** Has the registers that `make` is given watched by what it makes, such as the tracker that shadows descriptors. */
  watchReceiveRings<Watcher extends ReceiveRingWatcher>(make: (registers: Uint32Array) => Watcher): Watcher {
    assert(this.#ringWatcher === undefined, "the receive rings are watched already");
    const watcher = make(this.#registers);
    this.#ringWatcher = watcher;
    return watcher;
  }

  rxRing(queue: number): RingView {
    return this.#receive.ring(queue);
  }

  txRing(queue: number): RingView {
    return this.#transmit.ring(queue);
  }

  /** A snapshot of all counters. */
  get statistics(): VfStatistics {
    return statisticsOf({
      wire: this.#wire,
      receive: this.#receive,
      transmit: this.#transmit,
      endpoint: this.#endpoint,
      file: this.#file,
      dispatch: this.#dispatch,
      pf: this.#pf,
      resets: this.#resets,
    });
  }

  /** FLR and VFCTRL.RST (82599 datasheet, section 4.2.2): registers, queues and interrupts; then the PF hears of it. */
  #resetFunction(): void {
    resetRegisters(this.#registers, { powerOn: false });
    this.#interrupts.reset();
    this.#receive.reset();
    this.#transmit.reset();
    this.#ringWatcher?.rebuild();
    this.#pf.functionReset();
  }

  #clearHeadWriteBack(): void {
    for (let queue = 0; queue < QUEUE_PAIRS_MAX; queue++) {
      this.#registers[VFTDWBAL(queue) >>> 2] = 0;
      this.#registers[VFTDWBAH(queue) >>> 2] = 0;
      if (queue < this.queuePairs) this.#transmit.queueChanged(queue);
    }
  }

  #timerUs(): number {
    return Math.floor((this.#clock.nowMs() - this.#timerZeroMs) * 1000) >>> 0;
  }
}
