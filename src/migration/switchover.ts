// Carries out a strategy's switchover, one atomic step at a time, so that whoever calls decides what happens in between.
import { assert } from "../base/assert.ts";
import { unreachable } from "../base/assert.ts";
import { PageSet } from "../memory/page-set.ts";
import type { VfState } from "../nic/state.ts";
import type { Command, PageSource, Strategy } from "../strategy/strategy.ts";
import type { QueueCut } from "./events.ts";
import type { MigratableVm } from "./parts.ts";
import { RingCopy } from "./ring-copy.ts";

/** Takes the pages that a switchover or a round sends. */
export interface PageTarget {
  /** Sends a page of guest memory as it is now. */
  memoryPage(page: number): void;
  /** Sends a page whose content is given; the callee copies. */
  givenPage(page: number, bytes: Uint8Array): void;
}

/**
 * Steps through `strategy.switchover`. One call of `step` does at most one thing that the device could race with: pauses
 * the CPUs, reads half a descriptor, or reads one page.
 */
export class Switchover {
  readonly strategy: Strategy;
  /** The VF's state as `save-device` found it; heads are not yet those of the cut. */
  deviceState: VfState | undefined;
  /** One entry per enabled receive queue once the rings were cut or dropped. */
  readonly cuts: QueueCut[] = [];
  /** Pages taken from the CPU's log, to be put back if the migration fails. */
  readonly fetchedCpuDirty: PageSet;
  readonly fetchedReleased: PageSet;
  readonly fetchedDeviceDirty: PageSet;
  pagesSent = 0;

  readonly #vm: MigratableVm;
  readonly #target: PageTarget;
  readonly #ringCopy: RingCopy;
  readonly #extra: PageSet;
  readonly #covered: PageSet;
  readonly #copying: PageSet;
  #commandIndex = 0;
  #commandStarted = false;
  #nextPage = 0;

  /** `extra` holds pages still owed from pre-copy; they are sent with the first `copy` command. */
  constructor(strategy: Strategy, vm: MigratableVm, extra: PageSet, target: PageTarget) {
    const { count } = vm.machine.memory.pages;
    this.strategy = strategy;
    this.#vm = vm;
    this.#target = target;
    this.#extra = extra;
    this.#ringCopy = new RingCopy(vm);
    this.#covered = new PageSet(count);
    this.#copying = new PageSet(count);
    this.fetchedCpuDirty = new PageSet(count);
    this.fetchedReleased = new PageSet(count);
    this.fetchedDeviceDirty = new PageSet(count);
  }

  /** The command that the next step belongs to, or undefined when all are done. */
  get command(): Command | undefined {
    return this.strategy.switchover[this.#commandIndex];
  }

  /** Does one step. A promise only for `pause-vcpus`; undefined otherwise. */
  step(): Promise<void> | undefined {
    const command = this.command;
    assert(command !== undefined, "the switchover is over");
    switch (command.kind) {
      case "pause-vcpus":
        this.#finishCommand();
        return this.#vm.machine.pause();
      case "stop-device":
        this.#vm.vf.stop();
        break;
      case "stop-transmit":
        this.#vm.vf.stopTransmit();
        break;
      case "save-device":
        this.deviceState = this.#vm.vf.save();
        break;
      case "cut-rings":
        if (!this.#commandStarted) this.#ringCopy.begin(this.#savedState());
        this.#commandStarted = true;
        if (this.#ringCopy.step()) return undefined;
        this.cuts.push(...this.#ringCopy.cut());
        this.#sendRings();
        break;
      case "drop-rings":
        this.#ringCopy.begin(this.#savedState());
        this.cuts.push(...this.#ringCopy.drop());
        this.#sendRings();
        break;
      case "copy":
        if (!this.#commandStarted) this.#gather(command.pages);
        this.#commandStarted = true;
        if (this.#copyOnePage()) return undefined;
        break;
      default:
        unreachable(command);
    }
    this.#finishCommand();
    return undefined;
  }

  #finishCommand(): void {
    this.#commandIndex++;
    this.#commandStarted = false;
    this.#nextPage = 0;
  }

  #savedState(): VfState {
    assert(this.deviceState !== undefined, "a strategy saves the device before it cuts or drops the rings");
    return this.deviceState;
  }

  #sendRings(): void {
    this.#ringCopy.forEachPage((page, bytes) => {
      this.#covered.add(page);
      this.#target.givenPage(page, bytes);
      this.pagesSent++;
    });
  }

  #gather(sources: readonly PageSource[]): void {
    this.#copying.clear();
    this.#extra.drainInto(this.#copying);
    for (const source of sources) this.#gatherFrom(source);
    this.#copying.deleteSet(this.#covered);
  }

  #gatherFrom(source: PageSource): void {
    const { machine, tracker, deviceLog } = this.#vm;
    const fetched = new PageSet(this.#copying.capacity);
    switch (source) {
      case "cpu-dirty":
        machine.cpuDirtyLog.fetchAndClear(fetched);
        this.fetchedCpuDirty.addSet(fetched);
        break;
      case "device-dirty":
        deviceLog.fetchAndClear(fetched);
        this.fetchedDeviceDirty.addSet(fetched);
        break;
      case "released":
        tracker.fetchReleased(fetched);
        this.fetchedReleased.addSet(fetched);
        break;
      case "mapped":
        tracker.mappedInto(fetched);
        break;
      case "rings":
        tracker.ringPagesInto(fetched);
        break;
      default:
        unreachable(source);
    }
    this.#copying.addSet(fetched);
  }

  #copyOnePage(): boolean {
    const page = this.#copying.next(this.#nextPage);
    if (page < 0) return false;
    this.#target.memoryPage(page);
    this.pagesSent++;
    this.#nextPage = page + 1;
    return true;
  }
}
