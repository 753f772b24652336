// The logs that a strategy asks, as one number: pages the CPU wrote, pages the device wrote, pages released.
import type { PageLog, Strategy } from "../strategy/strategy.ts";
import { Interner, numbersKey } from "./interner.ts";
import type { LogDelta } from "./source-graph.ts";

export interface LogContents {
  readonly "cpu-dirty": readonly number[];
  readonly "device-dirty": readonly number[];
  readonly released: readonly number[];
}

const empty: LogContents = { "cpu-dirty": [], "device-dirty": [], released: [] };
const kinds = ["cpu-dirty", "device-dirty", "released"] as const;

const ALL = (1 << kinds.length) - 1;

/** Whether a log may still be asked, one bit each in the order of `kinds`. */
export type LiveLogs = number;

/**
 * What is in a log that nobody will ask again makes no difference, and is left out: states that differ in nothing else
 * are one.
 */
export class Logs {
  readonly #contents = new Interner<LogContents>();
  readonly #strategy: Strategy;
  /** What `keep` has found, by its arguments. */
  readonly #kept: number[] = [];

  constructor(strategy: Strategy) {
    this.#strategy = strategy;
    this.#intern(empty);
  }

  #intern(contents: LogContents): number {
    return this.#contents.intern(kinds.map((kind) => numbersKey(contents[kind])).join("|"), () => contents);
  }

  contents(logs: number): LogContents {
    return this.#contents.value(logs);
  }

  /** Which logs may be asked after so many commands of the switchover; -1 before it. */
  live(commandsDone: number): LiveLogs {
    const { preCopy, switchover } = this.#strategy;
    const asked = new Set<string>(commandsDone < 0 ? preCopy : []);
    for (const command of switchover.slice(Math.max(0, commandsDone))) {
      if (command.kind === "copy") for (const source of command.pages) asked.add(source);
    }
    return kinds.reduce((bits, kind, bit) => (asked.has(kind) ? bits | (1 << bit) : bits), 0);
  }

  /** After a step of the source. What is mapped again is not released any more. */
  add(logs: number, delta: LogDelta, mapped: readonly number[]): number {
    const before = this.contents(logs);
    const released = before.released.filter((page) => !mapped.includes(page));
    return this.#intern({
      "cpu-dirty": union(before["cpu-dirty"], delta.cpuDirty),
      "device-dirty": union(before["device-dirty"], delta.deviceDirty),
      released: union(released, delta.released),
    });
  }

  /** After a log was fetched. */
  clear(logs: number, log: PageLog): number {
    return this.keep(logs, ALL & ~(1 << kinds.indexOf(log)));
  }

  /** Without those that nobody will ask. */
  keep(logs: number, live: LiveLogs): number {
    if (live === ALL) return logs;
    const at = logs * (ALL + 1) + live;
    const kept = this.#kept[at] ?? this.#keep(logs, live);
    this.#kept[at] = kept;
    return kept;
  }

  #keep(logs: number, live: LiveLogs): number {
    const { "cpu-dirty": cpu, "device-dirty": device, released } = this.contents(logs);
    return this.#intern({
      "cpu-dirty": (live & 1) === 0 ? [] : cpu,
      "device-dirty": (live & 2) === 0 ? [] : device,
      released: (live & 4) === 0 ? [] : released,
    });
  }
}

function union(left: readonly number[], right: readonly number[]): readonly number[] {
  if (right.length === 0) return left;
  return [...new Set([...left, ...right])].toSorted((a, b) => a - b);
}
