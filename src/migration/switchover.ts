// Carries out a strategy's switchover, one atomic step at a time, so that whoever calls decides what happens in between.
import { assert, unreachable } from "../base/assert.ts";
import { PageSet } from "../memory/page-set.ts";
import type { VfState } from "../nic/state.ts";
import type { Command, PageSource, Strategy } from "../strategy/strategy.ts";
import type { QueueCut } from "./events.ts";
import type { PageLogs } from "./page-logs.ts";
import type { MigratableVm } from "./parts.ts";
import { RingCopy } from "./ring-copy.ts";

/** Takes the pages that a switchover or a round sends. */
export interface PageTarget {
  /** Sends a page of guest memory as it is now. */
  memoryPage(page: number): void;
  /** Sends a page whose content is given; the callee copies. */
  givenPage(page: number, bytes: Uint8Array): void;
}

/** Says which of the pages that a copy has left comes next; it is one of them. */
export type PageOrder = (left: PageSet) => number;

/**
 * Steps through `strategy.switchover`. One call of `step` does at most one thing that the device could race with: pauses
 * the CPUs, looks where the device is, reads half a descriptor, or reads one page.
 */
export class Switchover {
  readonly strategy: Strategy;
  /** The VF's state as `save-device` found it; heads are not yet those of the cut. */
  deviceState: VfState | undefined;
  /** One entry per enabled receive queue once the rings were cut or dropped. */
  readonly cuts: QueueCut[] = [];

  readonly #vm: MigratableVm;
  readonly #logs: PageLogs;
  readonly #target: PageTarget;
  readonly #ringCopy: RingCopy;
  readonly #owed: PageSet;
  readonly #covered: PageSet;
  readonly #copying: PageSet;
  readonly #order: PageOrder | undefined;
  #stateAtPause: VfState | undefined;
  #commandIndex = 0;
  #commandStarted = false;
  #nextPage = 0;

  /**
   * `owed` holds pages that pre-copy still owes; they are sent with the first `copy` command. Without an `order` a copy
   * sends its pages upwards.
   */
  constructor(
    strategy: Strategy,
    parts: {
      readonly vm: MigratableVm;
      readonly logs: PageLogs;
      readonly owed: PageSet;
      readonly target: PageTarget;
      readonly order?: PageOrder;
    },
  ) {
    const { count } = parts.vm.machine.memory.pages;
    this.strategy = strategy;
    this.#vm = parts.vm;
    this.#logs = parts.logs;
    this.#target = parts.target;
    this.#owed = parts.owed;
    this.#order = parts.order;
    this.#ringCopy = new RingCopy(parts.vm);
    this.#covered = new PageSet(count);
    this.#copying = new PageSet(count);
  }

  /** The command that the next step belongs to, or undefined when all are done. */
  get command(): Command | undefined {
    return this.strategy.switchover[this.#commandIndex];
  }

  /** Pages that the copy under way has still to send. */
  get pagesLeft(): number[] {
    return this.#commandStarted ? this.#copying.toArray() : [];
  }

  /** Pages that the next copy sends in any case. */
  get pagesOwed(): number[] {
    return this.#owed.toArray();
  }

  /** Does one step. A promise only for the first of `pause-vcpus`, kept once the CPUs stand still; undefined otherwise. */
  step(): Promise<void> | undefined {
    const command = this.command;
    assert(command !== undefined, "the switchover is over");
    switch (command.kind) {
      case "pause-vcpus":
        if (!this.#commandStarted) {
          this.#commandStarted = true;
          return this.#vm.machine.pause();
        }
        this.#stateAtPause = this.#vm.vf.save();
        break;
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
        if (!this.#commandStarted) this.#ringCopy.begin(this.#stateToCut());
        this.#commandStarted = true;
        if (this.#ringCopy.step()) return undefined;
        this.cuts.push(...this.#ringCopy.cut());
        this.#sendRings();
        break;
      case "drop-rings":
        this.#ringCopy.begin(this.#stateToCut());
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

  /**
   * The cut begins where the device was when the CPUs were seen to stand still, not where it was when it was saved: a
   * frame that it began in between is nobody's business yet, and goes back as a whole if its end does not come along.
   */
  #stateToCut(): VfState {
    const state = this.#stateAtPause ?? this.deviceState;
    assert(state !== undefined, "a strategy pauses the CPUs or saves the device before it cuts or drops the rings");
    return state;
  }

  #sendRings(): void {
    this.#ringCopy.forEachPage((page, bytes) => {
      this.#covered.add(page);
      this.#target.givenPage(page, bytes);
    });
  }

  #gather(sources: readonly PageSource[]): void {
    this.#copying.clear();
    this.#owed.drainInto(this.#copying);
    for (const source of sources) this.#logs.gather(source, this.#copying);
    this.#copying.deleteSet(this.#covered);
  }

  #copyOnePage(): boolean {
    const lowest = this.#copying.next(this.#order === undefined ? this.#nextPage : 0);
    if (lowest < 0) return false;
    const page = this.#order?.(this.#copying) ?? lowest;
    this.#target.memoryPage(page);
    this.#copying.delete(page);
    this.#nextPage = page + 1;
    return true;
  }
}
