// A VM that runs on another thread, as the engine sees it: its memory shared, everything else by asking.
import { assert } from "../../base/assert.ts";
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import { BufferMemory, type GuestMemory } from "../../memory/guest-memory.ts";
import type { PageSet } from "../../memory/page-set.ts";
import type { ArrivingVf, MigratableVf, MigratableVm, RingTracker } from "../../migration/parts.ts";
import type { PreparedVm } from "../../migration/destination.ts";
import type { PageLog, PageSource } from "../../strategy/strategy.ts";
import type { EngineMethods, RemoteRing } from "./methods.ts";
import type { ThreadCaller } from "./thread-call.ts";

/** Pages are read straight from the shared memory, with the guest and its device writing; what is asked for is as of one
 * moment between two of the VM's steps. */
export class RemoteVm implements MigratableVm {
  readonly machine: MigratableVm["machine"] & PreparedVm["machine"];
  readonly vf: MigratableVf & ArrivingVf;
  readonly tracker: RingTracker;
  readonly deviceLog: MigratableVm["deviceLog"];
  readonly #thread: ThreadCaller<EngineMethods>;
  readonly #memory: GuestMemory;
  /** Rings as of when the engine last looked at them. What it asks about their slots it asks for that moment. */
  readonly #rings = new Map<number, RemoteRing>();

  constructor(
    thread: ThreadCaller<EngineMethods>,
    options: { readonly memory: SharedArrayBuffer; readonly memoryBytes: number; readonly queuePairs: number },
  ) {
    this.#thread = thread;
    this.#memory = new BufferMemory(options.memoryBytes, { buffer: options.memory });
    this.machine = this.#makeMachine();
    this.vf = this.#makeVf(options.queuePairs);
    this.tracker = this.#makeTracker();
    this.deviceLog = {
      fetchAndClear: (into) => this.#gather("device-dirty", into),
      putBack: (pages) => this.#putBack("device-dirty", pages),
    };
  }

  translate(iova: number): number {
    return iova < this.#memory.sizeBytes ? iova : -1;
  }

  #makeMachine(): RemoteVm["machine"] {
    const thread = this.#thread;
    const cpuDirtyLog: CpuDirtyLog = {
      method: "model",
      start: () => thread.call("logCpu", true),
      stop: () => thread.call("logCpu", false),
      fetchAndClear: (into) => this.#gather("cpu-dirty", into),
      putBack: (pages) => this.#putBack("cpu-dirty", pages),
    };
    return {
      kind: "model",
      memory: this.#memory,
      cpuDirtyLog,
      pause: async () => thread.call("pause", null),
      resume: async () => thread.call("resume", null),
      saveState: () => thread.call("saveMachine", null),
      restoreState: (state) => thread.call("restoreMachine", state),
    };
  }

  #makeVf(queuePairs: number): RemoteVm["vf"] {
    const thread = this.#thread;
    return {
      queuePairs,
      rxRing: (queue) => {
        const ring = thread.call("receiveRing", queue);
        this.#rings.set(queue, ring);
        return ring.view;
      },
      save: () => thread.call("saveVf", null),
      restore: (state) => thread.call("restoreVf", state),
      start: () => thread.call("startVf", null),
      stop: () => thread.call("stopVf", null),
      stopTransmit: () => thread.call("stopTransmit", null),
      pfReset: () => thread.call("resetVf", null),
      raiseAllEnabled: () => thread.call("raiseAllEnabled", null),
    };
  }

  #makeTracker(): RingTracker {
    return {
      method: "descriptor-shadow",
      mappedInto: (into) => this.#gather("mapped", into),
      fetchReleased: (into) => this.#gather("released", into),
      putBackReleased: (pages) => this.#putBack("released", pages),
      ringPagesInto: (into) => this.#gather("rings", into),
      postedWords: (queue, slot, target) => {
        const ring = this.#rings.get(queue);
        assert(ring !== undefined, "the engine looks at a ring before it asks about its slots");
        target.set(ring.posted.subarray(slot * 4, slot * 4 + 4));
        return ring.isPosted[slot] === 1;
      },
    };
  }

  #gather(source: PageSource, into: PageSet): void {
    for (const page of this.#thread.call("pages", source)) into.add(page);
  }

  #putBack(log: PageLog, pages: PageSet): void {
    this.#thread.call("putBack", { log, pages: Uint32Array.from(pages.toArray()) });
  }
}
