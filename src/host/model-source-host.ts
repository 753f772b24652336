// The source's host of a model guest: starts it, moves it out, and keeps what the audit needs of it.
import { guestMac } from "../machine/model/host.ts";
import { MODEL_STATE_VERSION } from "../machine/model/state.ts";
import type { MigrationEvent } from "../migration/events.ts";
import { formatMac, macAt } from "../network/mac.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import { startModelVm, type StartedModelVm } from "./model-vm.ts";
import { moveOut } from "./move-out.ts";
import type { MoveResult, MoveSettings, SourceEvidence, VmHostEvent } from "./vm-host-messages.ts";

export class ModelSourceHost {
  readonly methods: { readonly cpuDirtyLog: string; readonly tracker: string };
  readonly #started: StartedModelVm;
  readonly #emit: (event: VmHostEvent) => void;
  #cancelling = new AbortController();

  constructor(settings: ModelVmSettings, emit: (event: VmHostEvent) => void) {
    this.#emit = emit;
    this.#started = startModelVm(settings);
    this.#started.thread.call("rehearse", null);
    this.#started.thread.call("boot", null);
    const { machine, tracker } = this.#started.vm;
    this.methods = { cpuDirtyLog: machine.cpuDirtyLog.method, tracker: tracker.method };
  }

  cancel(): void {
    this.#cancelling.abort();
  }

  moveOut(move: MoveSettings): Promise<MoveResult> {
    this.#cancelling = new AbortController();
    return moveOut({
      vm: this.#started.vm,
      move,
      mac: formatMac(macAt(guestMac, 0)),
      machineStateVersion: MODEL_STATE_VERSION,
      onEvent: (event) => this.#onEvent(event),
      signal: this.#cancelling.signal,
    });
  }

  #onEvent(event: MigrationEvent): void {
    const { thread } = this.#started;
    if (event.kind === "phase" && event.phase === "negotiate") thread.call("moveBegins", null);
    // The guest's new place has been announced.
    if (event.kind === "running") thread.call("disconnect", null);
    this.#emit({ kind: "migration", event });
  }

  /** After a completed move: the device stops for good. */
  stopDevice(): void {
    this.#started.vm.vf.stop();
  }

  counts(): TrafficCounts {
    return this.#started.thread.call("counts", null);
  }

  offeredFrom(number: number): number {
    return this.#started.thread.call("offeredFrom", number);
  }

  evidence(directory: string): SourceEvidence {
    return this.#started.thread.call("sourceEvidence", { directory });
  }
}
