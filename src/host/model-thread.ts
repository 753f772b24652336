// The thread of a model VM: runs the VM turn by turn, and answers who asks between two turns.
import { isMainThread, workerData } from "node:worker_threads";
import { assert } from "../base/assert.ts";
import { ManualClock } from "../base/clock.ts";
import type { ModelMachine } from "../machine/model/machine.ts";
import { hostClock } from "./clock.ts";
import { ModelWitness } from "./model-witness.ts";
import { engineMethods } from "./model/engine-methods.ts";
import type { EngineMethods, TrafficCounts } from "./model/methods.ts";
import { ThreadAnswerer, type ThreadLine } from "./model/thread-call.ts";
import { ModelVm, type ModelVmSettings } from "./model/vm.ts";
import type { SourceEvidence } from "./vm-host-messages.ts";

export interface ModelThreadSetup {
  readonly settings: ModelVmSettings;
  readonly memory: SharedArrayBuffer;
  readonly line: ThreadLine;
}

/** The bench's methods, beside the engine's. */
export type ModelThreadMethods = EngineMethods & {
  /** Source: the guest starts, and the network sends to it. */
  boot(parameters: null): void;
  /** Before a guest starts here, or long before one arrives. */
  rehearse(parameters: null): void;
  moveBegins(parameters: null): void;
  arrivalBegins(parameters: null): void;
  /** The network sends here from now on. */
  connect(parameters: null): void;
  disconnect(parameters: null): void;
  counts(parameters: null): TrafficCounts;
  /** How many of the network's frames from this number on came here. */
  offeredFrom(number: number): number;
  sourceEvidence(parameters: { directory: string }): SourceEvidence;
  arrivalEvidence(parameters: null): ReturnType<ModelWitness["arrivalEvidence"]>;
};

const RESTORES_REHEARSED = 4;
const TURNS_REHEARSED = 2000;
const TURN_MS = 0.05;
const REHEARSAL_MEMORY_BYTES = 16 << 20;
const REHEARSAL_LOAD = { bitsPerSecond: 1e9, frameBytes: "mix" } as const;

/**
 * Runs a guest that is thrown away. A real processor does not have to compile its guest's driver first; this one would, for
 * the first second of a load, or while the guest that arrives has frames waiting and its source is no more.
 */
function rehearseGuest(settings: ModelVmSettings): void {
  const clock = new ManualClock();
  const small = { ...settings, memoryBytes: REHEARSAL_MEMORY_BYTES, load: REHEARSAL_LOAD, epochMs: clock.nowMs() };
  const vm = new ModelVm(small, new SharedArrayBuffer(REHEARSAL_MEMORY_BYTES), clock);
  vm.boot();
  for (let turn = 0; turn < TURNS_REHEARSED; turn++) {
    clock.advance(TURN_MS);
    vm.turn(() => false);
  }
}

/** Loads the state of a guest that has not begun, before one is loaded that stands still meanwhile. */
function rehearseRestore(machine: ModelMachine): void {
  for (let i = 0; i < RESTORES_REHEARSED; i++) machine.restoreState(machine.saveState());
}

/** Until the process ends. */
function runThread({ settings, memory, line }: ModelThreadSetup): never {
  const answerer = new ThreadAnswerer(line);
  const vm = new ModelVm(settings, memory, hostClock);
  const witness = new ModelWitness(vm);
  const isAsked = (): boolean => answerer.isAsked;
  const methods: ModelThreadMethods = {
    ...engineMethods(vm.host, witness),
    boot: () => {
      witness.watchWrites();
      vm.boot();
    },
    moveBegins: () => witness.moveBegins(),
    rehearse: () => rehearseGuest(settings),
    arrivalBegins: () => {
      rehearseRestore(vm.host.machine);
      witness.arrivalBegins();
    },
    connect: () => vm.load.start(vm.clock.tick()),
    disconnect: () => vm.load.stop(),
    counts: () => witness.counts(),
    offeredFrom: (number) => vm.load.offeredFrom(number),
    sourceEvidence: ({ directory }) => witness.sourceEvidence(directory),
    arrivalEvidence: () => witness.arrivalEvidence(),
  };
  try {
    for (;;) {
      if (answerer.isAsked) answerer.answer(methods);
      else if (!vm.turn(isAsked)) answerer.sleep(vm.restMs);
    }
  } catch (thrown) {
    answerer.die(String(thrown));
    throw thrown;
  }
}

assert(!isMainThread, "the VM has a thread of its own");
runThread(workerData as ModelThreadSetup);
