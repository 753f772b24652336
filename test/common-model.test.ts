// The benchmark's common model: the shipping code against a few lines of plain rules, and its reductions against none.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { OrderName } from "../bench/explore/orders.ts";
import { QueuesJudge } from "../bench/explore/queues-judge.ts";
import { QueuesSystem } from "../bench/explore/queues-system.ts";
import { Queues, type ModelSize } from "../bench/explore/queues.ts";
import { ReducedQueues, type Reductions } from "../bench/explore/reduced-queues.ts";
import { Search } from "../src/explore/search.ts";

const small: ModelSize = { queues: 2, packets: 2 };
const none = { symmetry: false, partialOrder: false };

interface Found {
  readonly states: number;
  readonly isSafe: boolean;
  /** Length of the schedule that breaks the property. */
  readonly steps: number | undefined;
  /** What each end's image has, the queues sorted. */
  readonly ends: ReadonlySet<string>;
}

/** A queue as the plain rules have it: writes done, then by page what the image has, or nothing. */
type Plain = readonly { readonly written: number; readonly ring: number; readonly buffers: readonly number[] }[];

/** By hand what Spin and Murphi are told, each state as text. */
function searchPlainly({ queues, packets }: ModelSize, order: OrderName, isSymmetric: boolean): Found {
  const start: Plain = Array.from({ length: queues }, () => ({
    written: 0,
    ring: -1,
    buffers: Array.from({ length: packets }, () => -1),
  }));
  const textOf = (state: Plain): string => {
    const texts = state.map((queue) => JSON.stringify(queue));
    return (isSymmetric ? texts.toSorted() : texts).join();
  };
  const seen = new Map([[textOf(start), start]]);
  const ends = new Set<string>();
  let steps: number | undefined;
  let front = [start];
  for (let depth = 0; front.length > 0; depth++) {
    const next: Plain[] = [];
    for (const state of front) {
      if (state.every(({ ring, buffers }) => ring >= 0 && !buffers.includes(-1))) {
        ends.add(imageText(state));
        if (state.some(({ ring, buffers }) => buffers.slice(0, ring).includes(0))) steps ??= depth;
      }
      for (const after of plainSteps(state, packets, order)) {
        const text = textOf(after);
        if (seen.has(text)) continue;
        seen.set(text, after);
        next.push(after);
      }
    }
    front = next;
  }
  return { states: seen.size, isSafe: steps === undefined, steps, ends };
}

function imageText(state: Plain): string {
  return state
    .map(({ ring, buffers }) => [ring, ...buffers].join(""))
    .toSorted()
    .join();
}

function plainSteps(state: Plain, packets: number, order: OrderName): Plain[] {
  const ringsLeft = state.some(({ ring }) => ring < 0);
  const buffersLeft = state.some(({ buffers }) => buffers.includes(-1));
  return state.flatMap((queue, q) => {
    const { written, ring, buffers } = queue;
    const changed: Plain[number][] = [];
    if (written < 2 * packets) changed.push({ ...queue, written: written + 1 });
    if (ring < 0 && (order === "rings first" || !buffersLeft)) changed.push({ ...queue, ring: written >>> 1 });
    for (const [i, buffer] of buffers.entries()) {
      if (buffer >= 0 || (order === "rings first" && ringsLeft)) continue;
      changed.push({ ...queue, buffers: buffers.with(i, (written + 1) >>> 1 > i ? 1 : 0) });
    }
    return changed.map((after) => state.with(q, after));
  });
}

/** On the shipping code; with `onEnds` the search goes on after an end that is wrong. */
function search(size: ModelSize, order: OrderName, reductions: Reductions): Found {
  const whole = new QueuesSystem(new Queues(size), order);
  const reduced = new ReducedQueues(whole, reductions);
  const judge = new QueuesJudge(whole, order);
  const ends = new Set<string>();
  let steps: number | undefined;
  const { symmetry, partialOrder } = reductions;
  const searching = new Search({
    system: symmetry || partialOrder ? reduced : whole,
    onEnd: (state) => {
      const schedule = reduced.realSteps(searching.path(state));
      if (judge.judge(schedule) !== undefined) steps ??= schedule.length;
      const contents = whole.images.contents(whole.engines.right(searching.engineOf(state)));
      const images = whole.queues.queues.map(({ pages }) => pages.map((page) => contents[page]).join(""));
      ends.add(images.toSorted().join());
      return false;
    },
  });
  searching.run();
  assert.ok(searching.isExhausted);
  return { states: searching.states, isSafe: steps === undefined, steps, ends };
}

for (const order of ["rings first", "buffers first"] as const) {
  test(`${order}: the shipping code has exactly the states, ends and verdict of the plain rules`, () => {
    assert.deepEqual(search(small, order, none), searchPlainly(small, order, false));
  });

  test(`${order}: states that differ in which queue is which are one, and nothing else is`, () => {
    assert.deepEqual(search(small, order, { ...none, symmetry: true }), searchPlainly(small, order, true));
  });

  test(`${order}: every reduction comes to the same verdict and the same ends`, () => {
    const size = { queues: 3, packets: 1 };
    const whole = search(size, order, none);
    for (const symmetry of [false, true]) {
      for (const partialOrder of [false, true]) {
        const { states, isSafe, ends } = search(size, order, { symmetry, partialOrder });
        assert.equal(isSafe, whole.isSafe);
        assert.deepEqual([...ends].toSorted(), [...whole.ends].toSorted());
        if (symmetry || partialOrder) assert.ok(states < whole.states, `${states} of ${whole.states} states`);
      }
    }
    assert.equal(whole.isSafe, order === "rings first");
  });
}
