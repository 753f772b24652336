// The source's host: starts the guest, moves it out, and keeps what the audit needs of it.
import { assert } from "../base/assert.ts";
import { SeededRandom } from "../base/random.ts";
import { Ledger } from "../audit/ledger.ts";
import type { MigrationEvent } from "../migration/events.ts";
import { runCommand } from "../machine/shell.ts";
import type { VfState } from "../nic/state.ts";
import { hostClock } from "./clock.ts";
import { DeliveryClock } from "./delivery-clock.ts";
import { DeviceRunner } from "./device-runner.ts";
import { writeSourceFiles } from "./evidence-files.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { dropsSince, frameDrops, framesLost, type FrameDrops } from "../audit/frame-drops.ts";
import { startGuest } from "./guests.ts";
import type { HostedGuest } from "./hosted-guest.ts";
import { moveOut } from "./move-out.ts";
import type {
  GuestCommandResult,
  MoveResult,
  MoveSettings,
  SourceEvidence,
  VmHostEvent,
  VmSettings,
} from "./vm-host-messages.ts";

export class SourceHost {
  readonly methods: { readonly cpuDirtyLog: string; readonly tracker: string };
  readonly #settings: VmSettings;
  readonly #guest: HostedGuest;
  readonly #cable: Cable;
  readonly #emit: (event: VmHostEvent) => void;
  readonly #runner: DeviceRunner;
  readonly #ledger: Ledger;
  readonly #deliveries = new DeliveryClock(hostClock);
  readonly #framesInAtStart: number;
  readonly #droppedAtStart: FrameDrops;
  readonly #heldAtStart: number;
  #droppedBeforeMove: FrameDrops;
  #dropsInMove: FrameDrops = {};
  #framesBeforeMove = 0;
  #vfAtPause: VfState | undefined;
  #cancelling = new AbortController();
  #isHandingOver = false;

  private constructor(settings: VmSettings, guest: HostedGuest, cable: Cable, emit: (event: VmHostEvent) => void) {
    this.#settings = settings;
    this.#guest = guest;
    this.#cable = cable;
    this.#emit = emit;
    this.methods = { cpuDirtyLog: guest.machine.cpuDirtyLog.method, tracker: guest.tracker.method };
    this.#runner = new DeviceRunner(guest.vf, hostClock);
    this.#ledger = new Ledger(guest.machine.memory);
    guest.dma.addObserver(this.#ledger);
    guest.dma.addObserver(this.#deliveries);
    this.#framesInAtStart = cable.counters.framesIn;
    this.#heldAtStart = guest.vf.statistics.framesHeld;
    this.#droppedAtStart = frameDrops(guest.vf.statistics);
    this.#droppedBeforeMove = this.#droppedAtStart;
    cable.onFrame = (frame) => guest.vf.receiveFrame(frame);
  }

  static async start(settings: VmSettings, emit: (event: VmHostEvent) => void): Promise<SourceHost> {
    const cable = await plugCable(settings.cable);
    const guest = await startGuest({
      ...settings,
      uplink: cable,
      clock: hostClock,
      onProgress: (text) => emit({ kind: "progress", text }),
    });
    return new SourceHost(settings, guest, cable, emit);
  }

  runCommand(parameters: { command: string; timeoutMs: number }): Promise<GuestCommandResult> {
    return runCommand(this.#guest.console, parameters.command, parameters);
  }

  get framesDropped(): FrameDrops {
    return frameDrops(this.#guest.vf.statistics);
  }

  cancel(): void {
    this.#cancelling.abort();
  }

  async stopDevice(): Promise<void> {
    // What still comes to this port is flooded, and the guest gets it on the destination.
    this.#dropsInMove = dropsSince(frameDrops(this.#guest.vf.statistics), this.#droppedBeforeMove);
    this.#guest.vf.stop();
    this.#runner.close();
    await this.#guest.finishMove();
  }

  async moveOut(move: MoveSettings): Promise<MoveResult> {
    const { machine, vf } = this.#guest;
    this.#droppedBeforeMove = frameDrops(vf.statistics);
    this.#framesBeforeMove = this.#ledger.framesCompleted;
    const cancelling = new AbortController();
    this.#cancelling = cancelling;
    this.#isHandingOver = false;
    const { lost } = this.#guest;
    // Once all of it is on its way, the guest can do without what it has left.
    lost?.addEventListener("abort", () => {
      if (!this.#isHandingOver) cancelling.abort(lost.reason);
    });
    let result: MoveResult | undefined;
    try {
      result = await this.#moveOut(move, await this.#guest.prepareMove());
    } finally {
      // However early it failed, nothing of it is left behind.
      if (result === undefined || result.kind === "resumed") await machine.resume();
    }
    assert(result.kind === "resumed" || machine.isPaused, "one side at most runs the guest");
    return result;
  }

  #moveOut(move: MoveSettings, machineHint: string | undefined): Promise<MoveResult> {
    return moveOut({
      vm: this.#guest,
      move,
      mac: this.#settings.mac,
      machineStateVersion: this.#guest.machineStateVersion,
      machineHint,
      onEvent: (event) => this.#onEvent(event),
      betweenSteps: () => this.#runner.betweenSteps(),
      signal: this.#cancelling.signal,
    });
  }

  /** The bench listens to the same events as everyone; that is all the engine and the ledger have to do with each other. */
  #onEvent(event: MigrationEvent): void {
    // Early: the room that the ledger takes is not to be found while the guest stands still.
    if (event.kind === "phase" && event.phase === "negotiate") this.#ledger.beginUndo();
    if (event.kind === "phase" && event.phase === "switchover") {
      this.#runner.race(new SeededRandom(this.#settings.seed));
    }
    if (event.kind === "vcpus-paused") {
      this.#ledger.markVcpusPaused();
      this.#deliveries.markVcpusPaused();
      this.#vfAtPause = this.#guest.vf.save();
    }
    if (event.kind === "device-stopped") this.#ledger.markDeviceStopped();
    if (event.kind === "phase" && event.phase === "hand-over") {
      this.#isHandingOver = true;
      this.#runner.free();
    }
    if (event.kind === "phase" && event.phase === "resumed") {
      this.#runner.free();
      this.#ledger.markVcpusResumed();
      this.#deliveries.markVcpusResumed();
    }
    this.#emit({ kind: "migration", event });
  }

  async evidence(directory: string): Promise<SourceEvidence> {
    const { vf, machine } = this.#guest;
    assert(vf.isStopped, "the device stops before memory is taken for the audit");
    assert(this.#vfAtPause !== undefined, "there is evidence only of a move");
    const dropped = frameDrops(vf.statistics);
    return {
      ...writeSourceFiles(directory, { memory: machine.memory, ledger: this.#ledger }),
      vfAtPause: this.#vfAtPause,
      // The guest that stands still has changed nothing about them.
      mappingsAtPause: this.#guest.mappings?.(),
      vfAtEnd: vf.save(),
      lastDeliveryBeforePauseMs: this.#deliveries.lastMs,
      deliveriesAfterPause: this.#deliveries.sincePause,
      framesBeforeMove: this.#framesBeforeMove,
      framesOffered: this.#cable.counters.framesIn - this.#framesInAtStart,
      framesDropped: dropsSince(dropped, this.#droppedAtStart),
      framesHeld: vf.statistics.framesHeld - this.#heldAtStart,
      framesLostInMove: framesLost(this.#dropsInMove),
    };
  }
}
