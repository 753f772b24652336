// The VM's side of what the engine asks it, answered on the VM's own thread.
import { PageSet } from "../../memory/page-set.ts";
import type { ModelHost } from "../../machine/model/host.ts";
import type { PageSource } from "../../strategy/strategy.ts";
import type { EngineMethods, RemoteRing } from "./methods.ts";
import { unreachable } from "../../base/assert.ts";

/** Who keeps the ground truth has to know when the CPUs paused, in the same turn; see ModelWitness. */
export interface PauseListener {
  paused(): void;
  resumed(): void;
  deviceStopped(): void;
}

export function engineMethods(host: ModelHost, listener: PauseListener): EngineMethods {
  const { machine, vf, tracker, deviceLog } = host;
  const { count } = machine.memory.pages;
  return {
    pause: () => {
      void machine.pause();
      listener.paused();
    },
    resume: () => {
      void machine.resume();
      listener.resumed();
    },
    saveMachine: () => machine.saveState(),
    restoreMachine: (state) => machine.restoreState(state),
    logCpu: (isOn) => (isOn ? machine.cpuDirtyLog.start() : machine.cpuDirtyLog.stop()),
    pages: (source) => pagesOf(host, source),
    putBack: ({ log, pages }) => {
      const set = PageSet.of(count, pages);
      if (log === "cpu-dirty") machine.cpuDirtyLog.putBack(set);
      else if (log === "device-dirty") deviceLog.putBack(set);
      else tracker.putBackReleased(set);
    },
    receiveRing: (queue) => receiveRing(host, queue),
    saveVf: () => vf.save(),
    restoreVf: (state) => vf.restore(state),
    startVf: () => vf.start(),
    stopVf: () => {
      vf.stop();
      listener.deviceStopped();
    },
    stopTransmit: () => vf.stopTransmit(),
    resetVf: () => vf.pfReset(),
    raiseAllEnabled: () => vf.raiseAllEnabled(),
  };
}

function pagesOf({ machine, tracker, deviceLog }: ModelHost, source: PageSource): Uint32Array {
  const set = new PageSet(machine.memory.pages.count);
  switch (source) {
    case "cpu-dirty":
      machine.cpuDirtyLog.fetchAndClear(set);
      break;
    case "device-dirty":
      deviceLog.fetchAndClear(set);
      break;
    case "released":
      tracker.fetchReleased(set);
      break;
    case "mapped":
      tracker.mappedInto(set);
      break;
    case "rings":
      tracker.ringPagesInto(set);
      break;
    default:
      unreachable(source);
  }
  return Uint32Array.from(set.toArray());
}

function receiveRing({ vf, tracker }: ModelHost, queue: number): RemoteRing {
  const view = vf.rxRing(queue);
  const posted = new Uint32Array(view.descriptors * 4);
  const isPosted = new Uint8Array(view.descriptors);
  const words = new Uint32Array(4);
  for (let slot = 0; slot < view.descriptors; slot++) {
    if (!tracker.postedWords(queue, slot, words)) continue;
    posted.set(words, slot * 4);
    isPosted[slot] = 1;
  }
  return { view, posted, isPosted };
}
