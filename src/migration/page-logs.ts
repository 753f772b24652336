// The places that know which pages have to be sent again, and a memory of what was taken out of them.
import { unreachable } from "../base/assert.ts";
import { PageSet } from "../memory/page-set.ts";
import type { PageLog, PageSource } from "../strategy/strategy.ts";
import type { MigratableVm } from "./parts.ts";

/**
 * Fetching from a log clears it. Whatever was fetched for a migration that then fails must go back (hazard `lost-clear`),
 * so it is all remembered here, over rounds and switchover.
 */
export class PageLogs {
  readonly #vm: MigratableVm;
  readonly #taken: Record<PageLog, PageSet>;

  constructor(vm: MigratableVm) {
    const { count } = vm.machine.memory.pages;
    this.#vm = vm;
    this.#taken = {
      "cpu-dirty": new PageSet(count),
      "device-dirty": new PageSet(count),
      released: new PageSet(count),
    };
  }

  /** Adds the pages that a source names now. */
  gather(source: PageSource, into: PageSet): void {
    const { tracker } = this.#vm;
    switch (source) {
      case "cpu-dirty":
      case "device-dirty":
      case "released":
        this.#fetch(source, into);
        break;
      case "mapped":
        tracker.mappedInto(into);
        break;
      case "rings":
        tracker.ringPagesInto(into);
        break;
      default:
        unreachable(source);
    }
  }

  #fetch(log: PageLog, into: PageSet): void {
    const { machine, tracker, deviceLog } = this.#vm;
    const fetched = new PageSet(into.capacity);
    if (log === "cpu-dirty") machine.cpuDirtyLog.fetchAndClear(fetched);
    else if (log === "device-dirty") deviceLog.fetchAndClear(fetched);
    else tracker.fetchReleased(fetched);
    this.#taken[log].addSet(fetched);
    into.addSet(fetched);
  }

  /** Puts everything back that was ever fetched here. */
  putBack(): void {
    const { machine, tracker, deviceLog } = this.#vm;
    machine.cpuDirtyLog.putBack(this.#taken["cpu-dirty"]);
    deviceLog.putBack(this.#taken["device-dirty"]);
    tracker.putBackReleased(this.#taken.released);
  }
}
