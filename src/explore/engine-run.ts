// The engine as the explorer drives it: the shipping rounds and switchover, one atomic step at a time.
import type { QueueCut } from "../migration/events.ts";
import { PageLogs } from "../migration/page-logs.ts";
import type { MigratableVm } from "../migration/parts.ts";
import { Rounds } from "../migration/rounds.ts";
import { Switchover, type PageOrder, type PageTarget } from "../migration/switchover.ts";
import type { PageSet } from "../memory/page-set.ts";
import type { VfState } from "../nic/state.ts";
import type { Strategy } from "../strategy/strategy.ts";

/** Takes pages in the parts in which memory is read; what is in between may be new before and old after. */
export interface PartTarget {
  /** `lengthBytes` from `start` on of a page, as memory has them now. */
  memoryPart(page: number, start: number, lengthBytes: number): void;
  givenPage(page: number, bytes: Uint8Array): void;
}

/**
 * What source.ts does between its messages. The first round, which sends all of memory, is over when it begins; then so
 * many rounds of what the logs name, then the switchover. A step is what source.ts does before it lets anybody else run.
 */
export class EngineRun {
  readonly #strategy: Strategy;
  readonly #vm: MigratableVm;
  readonly #target: PartTarget;
  readonly #atomicBytes: number;
  readonly #pages: PageTarget;
  /** The page that is being copied, and where the next part of it begins. */
  #copying: { readonly page: number; start: number } | undefined;
  readonly #logs: PageLogs;
  readonly #rounds: Rounds;
  readonly #roundsMax: number;
  readonly #order: { readonly order?: PageOrder };
  #sending: PageSet | undefined;
  #nextPage = 0;
  #isRoundDue = false;
  #switchover: Switchover | undefined;

  constructor(parts: {
    readonly strategy: Strategy;
    readonly vm: MigratableVm;
    readonly target: PartTarget;
    readonly roundsMax: number;
    readonly atomicBytes: number;
    readonly order?: PageOrder;
  }) {
    this.#strategy = parts.strategy;
    this.#vm = parts.vm;
    this.#target = parts.target;
    this.#atomicBytes = parts.atomicBytes;
    this.#pages = {
      memoryPage: (page) => {
        this.#copying = { page, start: 0 };
        this.#copyPart(this.#copying);
      },
      givenPage: (page, bytes) => this.#target.givenPage(page, bytes),
    };
    this.#roundsMax = parts.roundsMax;
    this.#order = parts.order === undefined ? {} : { order: parts.order };
    this.#logs = new PageLogs(parts.vm);
    this.#rounds = new Rounds(parts.vm, parts.strategy, this.#logs);
    this.#rounds.begin();
    this.#rounds.nextRound();
  }

  /** What the next step belongs to: a round, a command of the strategy, or the end. */
  get phase(): "round" | "switchover" | "finished" {
    if (this.#switchover === undefined) return "round";
    return this.#switchover.command === undefined ? "finished" : "switchover";
  }

  /** Number of commands that are carried out, or -1 before the switchover. */
  get commandsDone(): number {
    const { command } = this.#switchover ?? {};
    if (this.#switchover === undefined) return -1;
    return command === undefined ? this.#strategy.switchover.length : this.#strategy.switchover.indexOf(command);
  }

  get cuts(): readonly QueueCut[] {
    return this.#switchover?.cuts ?? [];
  }

  /** As `save-device` found it. */
  get deviceState(): VfState | undefined {
    return this.#switchover?.deviceState;
  }

  /** Pages that are sent again in any case, whatever the logs say from now on. */
  get pagesDue(): readonly number[] {
    if (this.#switchover !== undefined) return [...this.#switchover.pagesOwed, ...this.#switchover.pagesLeft];
    const left = this.#sending?.toArray().filter((page) => page >= this.#nextPage) ?? [];
    return [...left, ...this.#rounds.owed().toArray()];
  }

  /** Pages that a switchover's copy under way has still to send. */
  get pagesLeft(): readonly number[] {
    return this.#switchover?.pagesLeft ?? [];
  }

  /** Of the page that is being copied: where the next part of it begins, as one number; -1 between pages. */
  get partDue(): number {
    const { sizeBytes } = this.#vm.machine.memory.pages;
    return this.#copying === undefined ? -1 : this.#copying.page * sizeBytes + this.#copying.start;
  }

  step(): void {
    if (this.#copying !== undefined) this.#copyPart(this.#copying);
    else if (this.#switchover !== undefined) this.#stepSwitchover(this.#switchover);
    else if (this.#sending !== undefined) this.#sendPage(this.#sending);
    else if (this.#isRoundDue) this.#beginRound();
    else this.#endRound();
  }

  #copyPart(copying: { readonly page: number; start: number }): void {
    const { sizeBytes } = this.#vm.machine.memory.pages;
    this.#target.memoryPart(copying.page, copying.start, Math.min(this.#atomicBytes, sizeBytes));
    copying.start += this.#atomicBytes;
    if (copying.start >= sizeBytes) this.#copying = undefined;
  }

  /**
   * A pause and the look at the paused device are one step here: what the device does between them it could as well have
   * done before the pause, and then less is allowed to be missing.
   */
  #stepSwitchover(switchover: Switchover): void {
    const { command } = switchover;
    void switchover.step();
    if (command?.kind === "pause-vcpus") void switchover.step();
  }

  #sendPage(sending: PageSet): void {
    const page = sending.next(this.#nextPage);
    this.#pages.memoryPage(page);
    this.#nextPage = page + 1;
    if (sending.next(this.#nextPage) < 0) this.#sending = undefined;
  }

  #beginRound(): void {
    this.#isRoundDue = false;
    const sending = this.#rounds.nextRound();
    this.#nextPage = 0;
    this.#sending = sending.isEmpty ? undefined : sending;
  }

  #endRound(): void {
    const rounds = this.#rounds;
    rounds.endRound({ pages: 1, zeroPages: 0, bytes: 1, durationMs: 1 });
    this.#isRoundDue = rounds.round <= this.#roundsMax;
    if (this.#isRoundDue) return;
    const parts = { vm: this.#vm, logs: this.#logs, owed: rounds.owed(), target: this.#pages, ...this.#order };
    this.#switchover = new Switchover(this.#strategy, parts);
  }
}
