// What a failed move took out of the logs is back in them, so that whoever else relies on them misses nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DmaDirtyLog } from "../../src/memory/dirty-log.ts";
import { PageSet } from "../../src/memory/page-set.ts";
import type { MigratableVm } from "../../src/migration/parts.ts";
import type { Strategy } from "../../src/strategy/strategy.ts";
import { guestKinds, shippedStrategies } from "./guests.ts";
import { Scene } from "./move.ts";

/**
 * Someone who keeps a copy of the guest up to date by the same logs, such as a backup. The copy is made when the move's
 * pre-copy begins, and is brought up to date when the move has failed.
 */
class Backup {
  readonly #vm: MigratableVm;
  readonly #copy: Uint8Array;
  /** Pages the device wrote since the copy was made, noted apart from everybody's logs. */
  readonly #written: DmaDirtyLog;

  constructor(scene: Scene) {
    const { memory } = scene.source.machine;
    const { pages } = memory;
    this.#vm = scene.source;
    this.#copy = memory.bytes().slice();
    this.#written = new DmaDirtyLog(pages.count, pages.shift);
    scene.source.dma.addObserver({ after: (address, length) => this.#written.deviceWrote(address, length) });
  }

  /** Pages of which the logs say nothing although they changed, by who changed them. */
  missed(strategy: Strategy): { byCpu: number; byDevice: number } {
    const { machine, tracker, deviceLog } = this.#vm;
    const { count, sizeBytes } = machine.memory.pages;
    const [byCpu, byDevice, written] = [new PageSet(count), new PageSet(count), new PageSet(count)];
    machine.cpuDirtyLog.fetchAndClear(byCpu);
    this.#written.fetchAndClear(written);
    if (strategy.preCopy.includes("device-dirty")) deviceLog.fetchAndClear(byDevice);
    else {
      tracker.fetchReleased(byDevice);
      tracker.mappedInto(byDevice);
      tracker.ringPagesInto(byDevice);
    }
    const missed = { byCpu: 0, byDevice: 0 };
    for (let page = 0; page < count; page++) {
      const range = [page * sizeBytes, (page + 1) * sizeBytes] as const;
      const isSame = Buffer.compare(this.#copy.subarray(...range), machine.memory.bytes().subarray(...range)) === 0;
      if (isSame || byCpu.has(page) || byDevice.has(page)) continue;
      if (written.has(page)) missed.byDevice++;
      else missed.byCpu++;
    }
    return missed;
  }
}

/** A move that is cancelled somewhere, and what a backup would miss after it. */
async function missedAfter(
  seed: number,
  strategy: Strategy,
  change: (vm: MigratableVm) => MigratableVm,
): Promise<{ byCpu: number; byDevice: number }> {
  const scene = await Scene.begin(seed, guestKinds.toy(), 300);
  const controller = new AbortController();
  const cancelAt = 3 + scene.world.random.below(14);
  let backup: Backup | undefined;
  let events = 0;
  const moved = await scene.move({
    strategy,
    signal: controller.signal,
    change,
    limits: { roundsMax: 6, downtimeLimitMs: 0 },
    onSourceEvent: (event) => {
      if (event.kind === "phase" && event.phase === "pre-copy") backup = new Backup(scene);
      if (++events === cancelAt) controller.abort();
    },
  });
  assert.equal(moved.source.kind, "resumed", `seed ${seed}`);
  assert.ok(backup !== undefined);
  for (let turn = 0; turn < 50; turn++) scene.world.turn();
  return backup.missed(strategy);
}

for (const strategy of shippedStrategies) {
  test(`${strategy.name}: after a cancelled move the logs still name every page that changed since it began`, async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const missed = await missedAfter(seed, strategy, (vm) => vm);
      assert.deepEqual(missed, { byCpu: 0, byDevice: 0 }, `seed ${seed}`);
    }
  });
}

const byName = (name: string): Strategy => {
  const found = shippedStrategies.find((strategy) => strategy.name === name);
  assert.ok(found !== undefined);
  return found;
};

/** Engines that fetch and clear, fail, and put nothing back (hazard `lost-clear`). */
const specimens: Readonly<Record<string, { strategy: Strategy; change: (vm: MigratableVm) => MigratableVm }>> = {
  "the CPU's dirty pages": {
    strategy: byName("rings-first"),
    change: (vm) => {
      const { cpuDirtyLog } = vm.machine;
      cpuDirtyLog.putBack = () => {};
      return vm;
    },
  },
  "released pages": {
    strategy: byName("rings-first"),
    change: (vm) => {
      vm.tracker.putBackReleased = () => {};
      return vm;
    },
  },
  "the device's dirty pages": {
    strategy: byName("device-log"),
    change: (vm) => {
      vm.deviceLog.putBack = () => {};
      return vm;
    },
  },
};

for (const [name, { strategy, change }] of Object.entries(specimens)) {
  test(`an engine that does not put back ${name} is found out`, async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const { byCpu, byDevice } = await missedAfter(seed, strategy, change);
      if (byCpu + byDevice > 0) return;
    }
    assert.fail("nothing was ever missed");
  });
}
