// Which pages each pre-copy round sends, which wait for the switchover, and when another round is of no more use.
import { PageSet } from "../memory/page-set.ts";
import type { Strategy } from "../strategy/strategy.ts";
import { DowntimeForecast } from "./forecast.ts";
import type { PageLogs } from "./page-logs.ts";
import type { MigratableVm } from "./parts.ts";

/**
 * A page that the switchover sends in any case (mapped, or of a ring) is left out of the rounds, and is owed from then
 * on: it may cease to be such a page without any log naming it. A driver that moves its rings while the guest is being
 * moved leaves the old ones behind like that, with their dirty bits long fetched.
 */
export class Rounds {
  /** Number of the round under way, 1 for the one that sends all of memory. */
  round = 0;
  /** Pages to be sent in the next round. */
  readonly #dirty: PageSet;
  /** Pages left out of a round and not sent since. */
  readonly #leftOut: PageSet;
  readonly #vm: MigratableVm;
  readonly #strategy: Strategy;
  readonly #logs: PageLogs;
  readonly #forecast: DowntimeForecast;
  #pagesOfLastRound = 0;

  constructor(vm: MigratableVm, strategy: Strategy, logs: PageLogs) {
    const { count, sizeBytes } = vm.machine.memory.pages;
    this.#vm = vm;
    this.#strategy = strategy;
    this.#logs = logs;
    this.#dirty = new PageSet(count);
    this.#leftOut = new PageSet(count);
    this.#forecast = new DowntimeForecast(sizeBytes);
  }

  /** Starts the CPU's log and makes every page due. */
  begin(): void {
    this.#vm.machine.cpuDirtyLog.start();
    this.#gatherLogs();
    this.#dirty.addAll();
  }

  /** The pages of the next round. */
  nextRound(): PageSet {
    this.round++;
    this.#leaveOut();
    const sending = this.#dirty.clone();
    this.#dirty.clear();
    return sending;
  }

  /** Asks the logs what the round has missed. */
  endRound(sent: { pages: number; zeroPages: number; bytes: number; durationMs: number }): void {
    this.#gatherLogs();
    this.#leaveOut();
    this.#pagesOfLastRound = sent.pages + sent.zeroPages;
    this.#forecast.observeRound(sent.bytes, sent.durationMs);
  }

  get dirtyPages(): number {
    return this.#dirty.size;
  }

  /** What a switchover now is expected to cost. */
  get expectedDowntimeMs(): number {
    const atSwitchover = this.#sentAtSwitchover();
    atSwitchover.addSet(this.#dirty);
    atSwitchover.addSet(this.#leftOut);
    return this.#forecast.expectedDowntimeMs(atSwitchover.size);
  }

  /** At least one round of dirty pages, and another would not halve them: less downtime is not to be had. */
  get isSettled(): boolean {
    const dirty = this.#dirty.size;
    return this.round >= 2 && (dirty === 0 || dirty * 2 > this.#pagesOfLastRound);
  }

  /** The pages that no round has sent as they are now; the switchover sends them. */
  owed(): PageSet {
    const owed = this.#dirty.clone();
    owed.addSet(this.#leftOut);
    return owed;
  }

  #gatherLogs(): void {
    for (const log of this.#strategy.preCopy) this.#logs.gather(log, this.#dirty);
  }

  /** Takes out of the dirty pages what the switchover sends, and puts in what it does not send any more. */
  #leaveOut(): void {
    const later = this.#sentAtSwitchover();
    this.#dirty.addSet(this.#leftOut);
    this.#leftOut.clear();
    this.#leftOut.addSet(this.#dirty);
    this.#leftOut.intersect(later);
    this.#dirty.deleteSet(later);
  }

  #sentAtSwitchover(): PageSet {
    const set = new PageSet(this.#dirty.capacity);
    if (!this.#strategy.skipsMappedInPreCopy) return set;
    this.#logs.gather("mapped", set);
    this.#logs.gather("rings", set);
    return set;
  }
}
