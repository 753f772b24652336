// The rounds' bookkeeping: what is sent when, what waits for the switchover, and when more rounds are of no use.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { CpuDirtyLog } from "../memory/dirty-log.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { PageSet } from "../memory/page-set.ts";
import { deviceLog } from "../strategy/device-log.ts";
import { ringsFirst } from "../strategy/rings-first.ts";
import type { Strategy } from "../strategy/strategy.ts";
import { PageLogs } from "./page-logs.ts";
import type { MigratableVm } from "./parts.ts";
import { Rounds } from "./rounds.ts";

const PAGES = 16;

/** Logs that are filled by hand. */
class Pages {
  readonly cpu = new PageSet(PAGES);
  readonly device = new PageSet(PAGES);
  readonly released = new PageSet(PAGES);
  readonly mapped = new PageSet(PAGES);
  readonly rings = new PageSet(PAGES);

  get vm(): MigratableVm {
    const cpuDirtyLog: CpuDirtyLog = {
      method: "test",
      start: () => this.cpu.clear(),
      stop: () => {},
      fetchAndClear: (into) => this.cpu.drainInto(into),
      putBack: (pages) => this.cpu.addSet(pages),
    };
    return {
      machine: { memory: new BufferMemory(PAGES * 64, { pageBytes: 64 }), cpuDirtyLog },
      deviceLog: {
        fetchAndClear: (into: PageSet) => this.device.drainInto(into),
        putBack: (pages: PageSet) => this.device.addSet(pages),
      },
      tracker: {
        mappedInto: (into: PageSet) => into.addSet(this.mapped),
        ringPagesInto: (into: PageSet) => into.addSet(this.rings),
        fetchReleased: (into: PageSet) => this.released.drainInto(into),
        putBackReleased: (pages: PageSet) => this.released.addSet(pages),
      },
    } as unknown as MigratableVm;
  }
}

function begun(strategy: Strategy): { pages: Pages; rounds: Rounds; logs: PageLogs } {
  const pages = new Pages();
  const logs = new PageLogs(pages.vm);
  const rounds = new Rounds(pages.vm, strategy, logs);
  return { pages, rounds, logs };
}

const add = (set: PageSet, ...pages: number[]): void => {
  for (const page of pages) set.add(page);
};
const sent = (set: PageSet): { pages: number; zeroPages: number; bytes: number; durationMs: number } => ({
  pages: set.size,
  zeroPages: 0,
  bytes: set.size * 64,
  durationMs: 1,
});

test("the first round sends all of memory but what the switchover sends anyway, which is owed", () => {
  const { pages, rounds } = begun(ringsFirst);
  add(pages.mapped, 3, 4);
  add(pages.rings, 1);
  rounds.begin();
  const first = rounds.nextRound();
  assert.deepEqual(first.toArray(), [0, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  add(pages.cpu, 1, 3, 7);
  rounds.endRound(sent(first));
  assert.deepEqual(rounds.nextRound().toArray(), [7]);
  assert.deepEqual(rounds.owed().toArray(), [1, 3, 4]);
});

test("a page that was left out is sent as soon as the switchover would not send it, though no log names it", () => {
  const { pages, rounds } = begun(ringsFirst);
  add(pages.mapped, 3);
  add(pages.rings, 1, 2);
  rounds.begin();
  rounds.endRound(sent(rounds.nextRound()));
  pages.rings.clear();
  pages.mapped.clear();
  add(pages.rings, 9);
  assert.deepEqual(rounds.nextRound().toArray(), [1, 2, 3]);
  assert.deepEqual(rounds.owed().toArray(), []);
});

test("released pages are sent in the next round, or with the switchover if they are mapped again", () => {
  const { pages, rounds } = begun(ringsFirst);
  rounds.begin();
  const first = rounds.nextRound();
  add(pages.released, 5, 6);
  add(pages.mapped, 6);
  rounds.endRound(sent(first));
  assert.deepEqual(rounds.nextRound().toArray(), [5]);
  assert.deepEqual(rounds.owed().toArray(), [6]);
});

test("a strategy with a device log leaves nothing out", () => {
  const { pages, rounds } = begun(deviceLog);
  add(pages.mapped, 3);
  rounds.begin();
  const first = rounds.nextRound();
  assert.equal(first.size, PAGES);
  add(pages.device, 3, 8);
  add(pages.released, 12);
  rounds.endRound(sent(first));
  assert.deepEqual(rounds.owed().toArray(), [3, 8]);
});

test("what happened before the first round is not sent twice, and is put back with the rest if the move fails", () => {
  const { pages, rounds, logs } = begun(ringsFirst);
  add(pages.released, 2);
  rounds.begin();
  const first = rounds.nextRound();
  add(pages.cpu, 4);
  rounds.endRound(sent(first));
  assert.deepEqual(rounds.owed().toArray(), [4]);
  logs.putBack();
  assert.deepEqual(pages.cpu.toArray(), [4]);
  assert.deepEqual(pages.released.toArray(), [2]);
});

test("an idle guest has settled after its second round, a busy one when rounds stop getting smaller", () => {
  const { pages, rounds } = begun(ringsFirst);
  rounds.begin();
  rounds.endRound(sent(rounds.nextRound()));
  assert.equal(rounds.isSettled, false);
  rounds.endRound(sent(rounds.nextRound()));
  assert.equal(rounds.isSettled, true);

  add(pages.cpu, 1, 2, 3, 4, 5, 6, 7, 8);
  rounds.endRound(sent(rounds.nextRound()));
  const large = rounds.nextRound();
  add(pages.cpu, 1, 2, 3);
  rounds.endRound(sent(large));
  assert.equal(rounds.isSettled, false, "another round would halve it");
  const small = rounds.nextRound();
  add(pages.cpu, 1, 2);
  rounds.endRound(sent(small));
  assert.equal(rounds.isSettled, true);
});
