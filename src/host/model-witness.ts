// Ground truth of a model VM's move, kept on the VM's own thread: the ledger, when frames came, and what was dropped.
import { assert } from "../base/assert.ts";
import { Ledger } from "../audit/ledger.ts";
import type { VfState } from "../nic/state.ts";
import { DeliveryClock } from "./delivery-clock.ts";
import { dropsSince, frameDrops, framesLost, type FrameDrops } from "../audit/frame-drops.ts";
import { writeSourceFiles } from "./evidence-files.ts";
import type { PauseListener } from "./model/engine-methods.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { ModelVm } from "./model/vm.ts";
import type { SourceEvidence } from "./vm-host-messages.ts";

/** Far above what the rings can take in while the CPUs stand still. */
const UNDO_BYTES = 16 << 20;

/**
 * Sits with the VM, since the pause has to be noted before the device's next write, and another thread would come too
 * late for that. The engine never sees it.
 */
export class ModelWitness implements PauseListener {
  readonly #vm: ModelVm;
  readonly #ledger: Ledger;
  readonly #deliveries: DeliveryClock;
  #droppedBeforeMove: FrameDrops = {};
  #framesBeforeMove = 0;
  #interruptsBefore = 0;
  #vfAtPause: VfState | undefined;

  constructor(vm: ModelVm) {
    this.#vm = vm;
    this.#ledger = new Ledger(vm.host.machine.memory, { undoBytesMax: UNDO_BYTES });
    this.#deliveries = new DeliveryClock(vm.clock);
    vm.host.dma.addObserver(this.#deliveries);
  }

  /** On the source: before the first frame. */
  watchWrites(): void {
    this.#vm.host.dma.addObserver(this.#ledger);
  }

  moveBegins(): void {
    this.#ledger.beginUndo();
    this.#droppedBeforeMove = frameDrops(this.#vm.host.vf.statistics);
    this.#framesBeforeMove = this.#ledger.framesCompleted;
  }

  /** On the destination: before the VF starts. */
  arrivalBegins(): void {
    const { statistics } = this.#vm.host.vf;
    this.#interruptsBefore = statistics.interruptsSent;
    this.#droppedBeforeMove = frameDrops(statistics);
  }

  paused(): void {
    this.#ledger.markVcpusPaused();
    this.#deliveries.markVcpusPaused();
    this.#vfAtPause = this.#vm.host.vf.save();
  }

  resumed(): void {
    this.#ledger.markVcpusResumed();
    this.#deliveries.markVcpusResumed();
  }

  deviceStopped(): void {
    this.#ledger.markDeviceStopped();
  }

  counts(): TrafficCounts {
    const { host, load, outgoing } = this.#vm;
    const { counters, panic } = host.machine;
    const { offered, skipped, next } = load;
    const guest = { ...counters };
    return { guest, panic: panic ?? null, offered, skipped, next, sent: outgoing.frames, sentWrong: outgoing.wrong };
  }

  /** After a completed move, and with the device stopped. */
  sourceEvidence(directory: string): SourceEvidence {
    const { host, load } = this.#vm;
    const { vf, machine } = host;
    assert(vf.isStopped, "the device stops before memory is taken for the audit");
    assert(this.#vfAtPause !== undefined, "there is evidence only of a move");
    const { statistics } = vf;
    const dropped = frameDrops(statistics);
    return {
      ...writeSourceFiles(directory, { memory: machine.memory, ledger: this.#ledger }),
      vfAtPause: this.#vfAtPause,
      mappingsAtPause: undefined,
      vfAtEnd: vf.save(),
      lastDeliveryBeforePauseMs: this.#deliveries.lastMs,
      deliveriesAfterPause: this.#deliveries.sincePause,
      framesBeforeMove: this.#framesBeforeMove,
      framesOffered: load.offered,
      framesDropped: dropped,
      framesHeld: statistics.framesHeld,
      framesLostInMove: framesLost(dropsSince(dropped, this.#droppedBeforeMove)),
    };
  }

  arrivalEvidence(): { raisedEveryVector: boolean; firstDeliveryMs: number | null; framesLost: number } {
    const { statistics } = this.#vm.host.vf;
    return {
      raisedEveryVector: statistics.interruptsSent > this.#interruptsBefore,
      firstDeliveryMs: this.#deliveries.firstMs,
      framesLost: framesLost(dropsSince(frameDrops(statistics), this.#droppedBeforeMove)),
    };
  }
}
