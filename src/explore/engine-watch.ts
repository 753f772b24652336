// Watches an engine at work: notes what it asks of its VM and what it sends, step by step.
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { PageSet } from "../memory/page-set.ts";
import type { MigratableVm } from "../migration/parts.ts";
import type { VfState } from "../nic/state.ts";
import type { PageLog } from "../strategy/strategy.ts";
import type { EngineParts } from "./experiment.ts";

export type EngineDeed =
  | { readonly kind: "fetch"; readonly log: PageLog; readonly pages: readonly number[] }
  | { readonly kind: "pause" }
  | { readonly kind: "stop-device" }
  | { readonly kind: "stop-transmit" }
  | { readonly kind: "save"; readonly state: VfState }
  /** Read the little-endian word at four times the index. */
  | { readonly kind: "word"; readonly index: number; readonly value: number }
  | {
      readonly kind: "copy";
      readonly page: number;
      readonly start: number;
      readonly lengthBytes: number;
    }
  | { readonly kind: "give"; readonly page: number };

/** Puts itself between an engine and its parts; whatever is done goes through as it is. */
export class EngineWatch {
  #deeds: EngineDeed[] = [];

  /** What was done since this was last asked. */
  take(): EngineDeed[] {
    const deeds = this.#deeds;
    this.#deeds = [];
    return deeds;
  }

  #note(deed: EngineDeed): void {
    this.#deeds.push(deed);
  }

  watch({ vm, target }: EngineParts): EngineParts {
    return {
      vm: this.#watchVm(vm),
      target: {
        memoryPart: (page, start, lengthBytes) => {
          this.#note({ kind: "copy", page, start, lengthBytes });
          target.memoryPart(page, start, lengthBytes);
        },
        givenPage: (page, bytes) => {
          this.#note({ kind: "give", page });
          target.givenPage(page, bytes);
        },
      },
    };
  }

  #watchVm(live: MigratableVm): MigratableVm {
    const { machine, vf, tracker, deviceLog } = live;
    const { cpuDirtyLog } = machine;
    return {
      machine: {
        kind: machine.kind,
        memory: this.#watchMemory(machine.memory),
        cpuDirtyLog: {
          method: cpuDirtyLog.method,
          start: () => cpuDirtyLog.start(),
          stop: () => cpuDirtyLog.stop(),
          putBack: (pages) => cpuDirtyLog.putBack(pages),
          fetchAndClear: this.#fetch("cpu-dirty", (into) => cpuDirtyLog.fetchAndClear(into)),
        },
        pause: () => {
          this.#note({ kind: "pause" });
          return machine.pause();
        },
        resume: () => machine.resume(),
        saveState: () => machine.saveState(),
      },
      vf: {
        queuePairs: vf.queuePairs,
        rxRing: (queue) => vf.rxRing(queue),
        save: () => {
          const state = vf.save();
          this.#note({ kind: "save", state });
          return state;
        },
        stop: () => {
          this.#note({ kind: "stop-device" });
          vf.stop();
        },
        stopTransmit: () => {
          this.#note({ kind: "stop-transmit" });
          vf.stopTransmit();
        },
        start: () => vf.start(),
        raiseAllEnabled: () => vf.raiseAllEnabled(),
      },
      tracker: {
        method: tracker.method,
        mappedInto: (into) => tracker.mappedInto(into),
        fetchReleased: this.#fetch("released", (into) => tracker.fetchReleased(into)),
        putBackReleased: (pages) => tracker.putBackReleased(pages),
        ringPagesInto: (into) => tracker.ringPagesInto(into),
        postedWords: (queue, slot, words) => tracker.postedWords(queue, slot, words),
      },
      deviceLog: {
        putBack: (pages) => deviceLog.putBack(pages),
        fetchAndClear: this.#fetch("device-dirty", (into) => deviceLog.fetchAndClear(into)),
      },
      translate: (iova) => live.translate(iova),
    };
  }

  /** Logs are fetched into an empty set. */
  #fetch(log: PageLog, fetch: (into: PageSet) => void): (into: PageSet) => void {
    return (into) => {
      fetch(into);
      this.#note({ kind: "fetch", log, pages: into.toArray() });
    };
  }

  #watchMemory(memory: GuestMemory): GuestMemory {
    return {
      sizeBytes: memory.sizeBytes,
      pages: memory.pages,
      bytes: () => memory.bytes(),
      words: () => memory.words(),
      deviceWrote: (address, length) => memory.deviceWrote(address, length),
      wordInOrder: (index) => {
        const value = memory.wordInOrder(index);
        this.#note({ kind: "word", index, value });
        return value;
      },
    };
  }
}
