// Guest memory: how fast pages are scanned, told from zero pages and copied, against the memory's own bandwidth.
//
//   bin/underway-node bench/memory.ts [--mebibytes 256] [--runs 9] [--json]
//
// All in one process and one run, so that the figures can be held against each other. The yardstick is one large
// `Uint8Array.set`: bytes copied, where each is read once and written once. Median of the runs; best beside it.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { SeededRandom } from "../src/base/random.ts";
import { BufferMemory } from "../src/memory/guest-memory.ts";
import { PageSet } from "../src/memory/page-set.ts";
import { isZeroPage } from "../src/memory/zero-page.ts";

const { values } = parseArgs({
  options: {
    mebibytes: { type: "string", default: "256" },
    runs: { type: "string", default: "9" },
    json: { type: "boolean", default: false },
  },
});
const PAGE_BYTES = 4096;
const memoryBytes = Number(values.mebibytes) * 1024 * 1024;
const runs = Number(values.runs);
const random = new SeededRandom(1);

interface Row {
  readonly what: string;
  readonly pages: number;
  readonly pagesPerSecond: number;
  readonly pagesPerSecondBest: number;
  /** Bytes a second over those of the yardstick; null where the pages' bytes are not read through. */
  readonly bandwidthShare: number | null;
}

/** Pages a second of `work`, which handles `pages` of them, in rising order. A run lasts 20 ms at least. */
function rates(pages: number, work: () => number): number[] {
  const list: number[] = [];
  for (let run = -1; run < runs; run++) {
    let handled = 0;
    const startMs = performance.now();
    let elapsedMs = 0;
    for (; elapsedMs < 20; elapsedMs = performance.now() - startMs) {
      if (work() !== pages) throw new Error("not every page was found");
      handled += pages;
    }
    // The first is for warming up.
    if (run >= 0) list.push((handled / elapsedMs) * 1000);
  }
  return list.sort((a, b) => a - b);
}

const memory = new BufferMemory(memoryBytes);
const target = new BufferMemory(memoryBytes);
const { count } = memory.pages;
const zeros = new BufferMemory(memoryBytes);

/** Every page is random, so none is zero; touched once, like all memory here, so that the kernel has given it. */
memory.words().forEach((_, i, words) => (words[i] = (i * 2_654_435_761) | 1));
target.bytes().fill(1);
zeros.bytes().fill(0);

function pagesOf(share: number): PageSet {
  const set = new PageSet(count);
  for (let page = 0; page < count; page++) if (random.chance(share)) set.add(page);
  return set;
}

const scan = (set: PageSet) => (): number => {
  let found = 0;
  for (let page = set.next(0); page >= 0; page = set.next(page + 1)) found++;
  return found;
};

const look = (source: BufferMemory, set: PageSet) => (): number => {
  let looked = 0;
  for (let page = set.next(0); page >= 0; page = set.next(page + 1)) {
    if (isZeroPage(source, page) === (source === zeros)) looked++;
  }
  return looked;
};

const copy = (set: PageSet) => (): number => {
  const from = memory.bytes();
  const to = target.bytes();
  let copied = 0;
  for (let page = set.next(0); page >= 0; page = set.next(page + 1)) {
    const start = page * PAGE_BYTES;
    to.set(from.subarray(start, start + PAGE_BYTES), start);
    copied++;
  }
  return copied;
};

const all = pagesOf(2);
const tenth = pagesOf(0.1);
const few = pagesOf(0.001);
const half = pagesOf(0.5);
const log = new PageSet(count);

/** What is done, with how many pages, and whether their bytes are read through. */
const cases: [string, number, boolean, () => number][] = [
  ["large copy (the yardstick)", count, true, () => (target.bytes().set(memory.bytes()), count)],
  ["copy page by page, every page", all.size, true, copy(all)],
  ["copy page by page, one in ten", tenth.size, true, copy(tenth)],
  ["look for zero pages, all zero", all.size, true, look(zeros, all)],
  ["look for zero pages, none zero", all.size, false, look(memory, all)],
  ["scan a set, every page in it", all.size, false, scan(all)],
  ["scan a set, one page in ten in it", tenth.size, false, scan(tenth)],
  ["scan a set, one page in a thousand in it", few.size, false, scan(few)],
  ["merge one set into another", count, false, () => (log.addSet(half), count)],
];

let yardstick = 0;
const rows = cases.map(([what, pages, readsBytes, work]): Row => {
  const measured = rates(pages, work);
  const pagesPerSecond = measured[measured.length >>> 1] ?? 0;
  if (yardstick === 0) yardstick = pagesPerSecond;
  return {
    what,
    pages,
    pagesPerSecond: Math.round(pagesPerSecond),
    pagesPerSecondBest: Math.round(measured.at(-1) ?? 0),
    bandwidthShare: readsBytes ? pagesPerSecond / yardstick : null,
  };
});

if (values.json) {
  console.log(
    JSON.stringify({ cpu: cpus()[0]?.model, cpus: availableParallelism(), node: process.version, memoryBytes, rows }),
  );
} else {
  console.log("what                                           M pages/s      best     GB/s  of the yardstick");
  for (const { what, pagesPerSecond, pagesPerSecondBest, bandwidthShare } of rows) {
    const rate = (pagesPerSecond / 1e6).toFixed(2).padStart(10);
    const best = (pagesPerSecondBest / 1e6).toFixed(2).padStart(9);
    const gigabytes = ((pagesPerSecond * PAGE_BYTES) / 1e9).toFixed(1).padStart(8);
    const share = bandwidthShare === null ? "" : `${gigabytes} ${(bandwidthShare * 100).toFixed(0).padStart(15)} %`;
    console.log(`${what.padEnd(45)} ${rate} ${best} ${share}`.trimEnd());
  }
}
