// Judges the ends of the common model: the schedule is carried out for real, and the image's bytes are looked at.
import { assert } from "../../src/base/assert.ts";
import { EngineRun } from "../../src/explore/engine-run.ts";
import { Steps } from "../../src/explore/search-system.ts";
import type { MigratableVm } from "../../src/migration/parts.ts";
import { DmaDirtyLog } from "../../src/memory/dirty-log.ts";
import type { PageSet } from "../../src/memory/page-set.ts";
import { strategyOf, type OrderName } from "./orders.ts";
import type { QueuesSystem } from "./queues-system.ts";
import { isDone, PAGE_BYTES } from "./queue.ts";

export class QueuesJudge {
  judged = 0;
  readonly #system: QueuesSystem;
  readonly #order: OrderName;
  readonly #vm: MigratableVm;
  readonly #tried = new Steps();

  constructor(system: QueuesSystem, order: OrderName) {
    this.#system = system;
    this.#order = order;
    this.#vm = liveVm(system);
  }

  /** What is wrong with the image that this schedule makes, in words, or undefined. */
  judge(schedule: readonly number[]): string | undefined {
    this.judged++;
    const image = this.#carryOut(schedule);
    this.#compare(image, schedule);
    const { queues } = this.#system;
    for (const { pages } of queues.queues) {
      const [ring = 0, ...buffers] = pages;
      for (const [slot, page] of buffers.entries()) {
        if (!isDone(pageOf(image, ring), slot)) continue;
        const written = queues.bytesOf(page, 1);
        if (!isSame(pageOf(image, page), written)) return `page ${page} lacks the packet of done descriptor ${slot}`;
      }
    }
    return undefined;
  }

  /** The live devices and a live switchover, nothing remembered: the destination's memory. */
  #carryOut(schedule: readonly number[]): Uint8Array {
    const { queues } = this.#system;
    queues.restart();
    const image = queues.memory.bytes().slice();
    let toCopy = -1;
    const sent = { pages: 0 };
    const run = new EngineRun({
      strategy: strategyOf(this.#order),
      roundsMax: 0,
      atomicBytes: PAGE_BYTES,
      vm: this.#vm,
      target: {
        memoryPart: (page) => {
          sent.pages++;
          image.set(queues.pageBytes(page), page * PAGE_BYTES);
        },
        givenPage: () => assert(false, "plain copies give no page"),
      },
      order: (left: PageSet) => {
        assert(left.has(toCopy), `page ${toCopy} is left`);
        return toCopy;
      },
    });
    for (const [i, step] of schedule.entries()) {
      const queue = queues.queues[step];
      if (queue !== undefined) {
        assert(queue.step(), "the device goes on");
        continue;
      }
      toCopy = this.#pageOf(step);
      // What the engine does between two copies goes with the one that follows.
      const goal = sent.pages + 1;
      while (sent.pages < goal && run.phase !== "finished") run.step();
      assert(sent.pages === goal, `step ${i} copies a page`);
    }
    while (run.phase !== "finished") run.step();
    return image;
  }

  #pageOf(step: number): number {
    const { size, stride } = this.#system.queues;
    const copy = step - size.queues;
    return Math.floor(copy / (size.packets + 1)) * stride + (copy % (size.packets + 1));
  }

  /** The search must have come to the same image. */
  #compare(image: Uint8Array, schedule: readonly number[]): void {
    const system = this.#system;
    let source = system.startSource;
    let engine = system.startEngine;
    for (const step of schedule) [source, engine] = system.next(source, engine, step, this.#tried);
    const contents = system.images.contents(system.engines.right(engine));
    for (const page of [...system.queues.ringPages(), ...system.queues.mappedPages()]) {
      const expected = system.queues.bytesOf(page, contents[page] as number);
      assert(isSame(pageOf(image, page), expected), `page ${page} is the same in search and run`);
    }
  }
}

function pageOf(image: Uint8Array, page: number): Uint8Array {
  return image.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, i) => byte === right[i]);
}

/** What the engine sees of the queues: their memory, and their trackers as one. */
function liveVm({ queues }: QueuesSystem): MigratableVm {
  const never = (): never => assert(false, "plain copies ask for pages only") as never;
  const { memory } = queues;
  const [first] = queues.queues;
  assert(first !== undefined, "there is a queue");
  return {
    machine: {
      kind: "model",
      memory,
      cpuDirtyLog: { method: "model", start: () => {}, stop: () => {}, fetchAndClear: never, putBack: never },
      pause: never,
      resume: never,
      saveState: never,
    },
    vf: first.vf,
    tracker: {
      method: "descriptor-shadow",
      mappedInto: (into) => {
        for (const { tracker } of queues.queues) tracker.mappedInto(into);
      },
      ringPagesInto: (into) => {
        for (const { tracker } of queues.queues) tracker.ringPagesInto(into);
      },
      fetchReleased: never,
      putBackReleased: never,
      postedWords: never,
    },
    deviceLog: new DmaDirtyLog(memory.pages.count, memory.pages.shift),
    translate: (iova) => iova,
  };
}
