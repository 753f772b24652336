// The Intel 82599 virtual function: one PCI function with registers, PF, interrupts and datapath, and its pause contract.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import type { PciEndpoint } from "../pci/endpoint.ts";
import type { AccessBytes, BarDescription, PciFunction } from "../pci/function.ts";
import type { Beats } from "./beats.ts";
import type { RingView } from "./datapath-ports.ts";
import { resetQueues } from "./pf-reset.ts";
import type { PfResetMeans } from "./pf-reset.ts";
import type { LinkState } from "./physical-function.ts";
import { resetRegisters } from "./register-file.ts";
import { restoreRegisters, saveRegisters } from "./register-state.ts";
import { VFLINKS } from "./registers.ts";
import { VF_STATE_VERSION } from "./state.ts";
import type { VfState } from "./state.ts";
import { clearHeadWriteBack, makeVfParts } from "./vf-parts.ts";
import type { Vf82599Options, VfParts } from "./vf-parts.ts";
import { statisticsOf } from "./vf-statistics.ts";
import type { Resets, VfStatistics } from "./vf-statistics.ts";

export type { Vf82599Options } from "./vf-parts.ts";

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
 * until `start()`, but are not saved. `save()` may be called between any two steps and does not need `stop()`: the state
 * is then of a device that is about to move on, and what it says was written is in memory. `restore()` leaves the VF
 * stopped. `start()` takes up the kept work and sends the messages held back. All of them may be repeated.
 *
 * On a DMA port that answers `later` nothing here waits: a unit without its answer is idle until `wake()`. There, a
 * received frame may be left half written by `stop()`, and a restored VF owes the driver its end.
 */
export class Vf82599 implements PciFunction {
  readonly #options: Vf82599Options;
  readonly #clock: Clock;
  readonly #parts: VfParts;
  readonly #beats: Beats;
  readonly #endpoint: PciEndpoint;
  readonly #resets: Resets = { functionLevel: 0, software: 0, physicalFunction: 0 };
  #ringWatcher: ReceiveRingWatcher | undefined;
  /** Clock time at which VFFRTIMER was zero. */
  #timerZeroMs: number;

  constructor(options: Vf82599Options) {
    this.#options = options;
    this.#clock = options.clock;
    this.#timerZeroMs = options.clock.nowMs();
    this.#parts = makeVfParts(options, {
      timerUs: () => this.#timerUs(),
      onFunctionLevelReset: () => {
        this.#resets.functionLevel++;
        this.#resetFunction();
      },
      onSoftwareReset: () => {
        this.#resets.software++;
        this.#resetFunction();
      },
      onReceiveTail: (queue) => this.#ringWatcher?.tailWritten(queue),
      onReceiveQueue: (queue) => this.#ringWatcher?.queueChanged(queue),
    });
    this.#beats = this.#parts.beats;
    this.#endpoint = this.#parts.endpoint;
  }

  get queuePairs(): number {
    return this.#parts.queuePairs;
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

  /** One beat of receive or of transmit, which real hardware does side by side; what is due by the clock is left alone. */
  stepOne(unit: "receive" | "transmit"): boolean {
    return this.#beats.stepOne(unit);
  }

  /** Steps until idle. */
  run(): void {
    this.#beats.run();
  }

  /** The DMA port has answers for reads that it put off (DmaStatus.later): whatever waits for one tries again. */
  wake(): void {
    this.#beats.retry();
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
    if (this.#parts.wire.admits(frame, this.#beats.isStopped) && this.#parts.receive.frame(frame)) this.#beats.wake();
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

  /**
   * Keeps MSI-X messages as pending bits, which are part of the state, or lets them go: for a machine that takes messages
   * while its guest stands still, and may have saved its interrupt controller by then. `stop` and `start` do it, too.
   */
  holdMessages(isHeld: boolean): void {
    this.#endpoint.msix.hold(isHeld);
  }

  save(): VfState {
    this.#beats.pushPostedWrites();
    return {
      device: "82599-vf",
      version: VF_STATE_VERSION,
      queuePairs: this.queuePairs,
      timerUs: this.#timerUs(),
      pci: this.#endpoint.save(),
      registers: saveRegisters(this.#parts.registers),
      interrupts: this.#parts.interrupts.save(),
      physicalFunction: this.#parts.pf.save(),
      receive: this.#parts.receive.save(),
      transmit: this.#parts.transmit.save(),
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
    restoreRegisters(this.#parts.registers, state.registers);
    this.#timerZeroMs = this.#clock.nowMs() - state.timerUs / 1000;
    this.#parts.receive.restore(state.receive);
    this.#parts.transmit.restore(state.transmit);
    this.#parts.interrupts.restore(state.interrupts);
    this.#parts.pf.restore(state.physicalFunction);
    this.#endpoint.restore(state.pci);
    this.#parts.interrupts.evaluate();
    this.#ringWatcher?.rebuild();
  }

  /**
   * Conventional reset (PCI Express 2.0, section 6.6.1), for a guest that knows nothing of the one before: everything is
   * as after power-on, and running, what the PF knew of the VF included. Only the link is as it was.
   */
  reset(): void {
    const fresh = new Vf82599(this.#options).save();
    const link = this.#parts.registers[VFLINKS >>> 2] as number;
    this.restore({ ...fresh, registers: { ...fresh.registers, VFLINKS: [link] } });
    this.start();
  }

  /** Sets the cause of every vector that has one mapped, once: against the hazard `lost-interrupt`. */
  raiseAllEnabled(): void {
    this.#parts.interrupts.raiseAllEnabled();
  }

  // The host's side.

  /** The cable: the guest's driver sees it at once through a message of the PF. */
  setLink(link: LinkState): void {
    this.#parts.pf.setLink(link);
  }

  /** The PF resets the VF so that the stock driver starts over by itself (strategy `reinit`); see pf-reset.ts. */
  pfReset(means: PfResetMeans = "mailbox"): void {
    this.#resets.physicalFunction++;
    resetQueues(this.#parts);
    clearHeadWriteBack(this.#parts);
    for (let queue = 0; queue < this.queuePairs; queue++) this.#ringWatcher?.queueChanged(queue);
    if (means === "mailbox") this.#parts.pf.withdraw();
  }

  /** Has the registers that `make` is given watched by what it makes, such as the tracker that shadows descriptors. */
  watchReceiveRings<Watcher extends ReceiveRingWatcher>(make: (registers: Uint32Array) => Watcher): Watcher {
    assert(this.#ringWatcher === undefined, "the receive rings are watched already");
    const watcher = make(this.#parts.registers);
    this.#ringWatcher = watcher;
    return watcher;
  }

  rxRing(queue: number): RingView {
    return this.#parts.receive.ring(queue);
  }

  txRing(queue: number): RingView {
    return this.#parts.transmit.ring(queue);
  }

  /** A snapshot of all counters. */
  get statistics(): VfStatistics {
    return statisticsOf(this.#parts, this.#resets);
  }

  /** FLR and VFCTRL.RST (82599 datasheet, section 4.2.2): registers, queues and interrupts; then the PF hears of it. */
  #resetFunction(): void {
    resetRegisters(this.#parts.registers, { powerOn: false });
    this.#parts.interrupts.reset();
    this.#parts.receive.reset();
    this.#parts.transmit.reset();
    this.#ringWatcher?.rebuild();
    this.#parts.pf.functionReset();
  }

  #timerUs(): number {
    return Math.floor((this.#clock.nowMs() - this.#timerZeroMs) * 1000) >>> 0;
  }
}
