import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PageSet } from "../memory/page-set.ts";
import { Domain, IdentityDomain, TRANSLATION_FORBIDDEN, TRANSLATION_UNMAPPED } from "./domain.ts";
import { DmaAccess } from "./fault-log.ts";
import { IommuTracker } from "./iommu-tracker.ts";

const pageBytes = 64;
const targetPages = 24;

/** Pages around the borders of leaves (512 pages), so that ranges cross them. */
const iovaPage = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 505, max: 520 }));
const mapOperation = fc.record({
  kind: fc.constant("map" as const),
  page: iovaPage,
  target: fc.integer({ min: 0, max: targetPages + 4 }),
  count: fc.integer({ min: 1, max: 10 }),
  access: fc.integer({ min: 1, max: 3 }),
});
const unmapOperation = fc.record({
  kind: fc.constant("unmap" as const),
  page: iovaPage,
  count: fc.integer({ min: 0, max: 600 }),
});
const fetchOperation = fc.record({ kind: fc.constant("fetch" as const) });
const operations = fc.array(fc.oneof(mapOperation, unmapOperation, fetchOperation), { maxLength: 40, size: "max" });

interface Entry {
  readonly target: number;
  readonly access: number;
}

function expectedTranslation(table: Map<number, Entry>, iova: number, access: number): number {
  const entry = table.get(Math.floor(iova / pageBytes));
  if (entry === undefined) return TRANSLATION_UNMAPPED;
  if ((entry.access & access) === 0) return TRANSLATION_FORBIDDEN;
  return entry.target * pageBytes + (iova % pageBytes);
}

const writableTargets = (table: Map<number, Entry>): number[] =>
  [...new Set([...table.values()].filter((e) => (e.access & DmaAccess.write) !== 0).map((e) => e.target))]
    .filter((page) => page < targetPages)
    .sort((a, b) => a - b);

test("a domain and its tracker hold what a plain map of pages holds after the same operations", () => {
  fc.assert(
    fc.property(operations, (list) => {
      const tracker = new IommuTracker(targetPages);
      const domain = new Domain({ pageBytes, listener: tracker });
      const table = new Map<number, Entry>();
      const released = new Set<number>();
      for (const operation of list) {
        const writableBefore = writableTargets(table);
        if (operation.kind === "map") {
          const pages = Array.from({ length: operation.count }, (_, i) => operation.page + i);
          const isFree = pages.every((page) => !table.has(page));
          const outcome = domain.map({
            iova: operation.page * pageBytes,
            address: operation.target * pageBytes,
            lengthBytes: operation.count * pageBytes,
            access: operation.access,
          });
          assert.equal(outcome, isFree ? "mapped" : "overlapping");
          if (isFree)
            pages.forEach((page, i) => table.set(page, { target: operation.target + i, access: operation.access }));
        } else if (operation.kind === "unmap") {
          const inRange = [...table.keys()].filter((p) => p >= operation.page && p < operation.page + operation.count);
          assert.equal(domain.unmap(operation.page * pageBytes, operation.count * pageBytes), inRange.length);
          for (const page of inRange) table.delete(page);
        } else {
          const fetched = new PageSet(targetPages);
          tracker.fetchReleased(fetched);
          assert.deepEqual(
            fetched.toArray(),
            [...released].sort((a, b) => a - b),
          );
          released.clear();
        }
        const writable = writableTargets(table);
        for (const page of writableBefore) if (!writable.includes(page)) released.add(page);
        for (const page of writable) released.delete(page);
        const mapped = new PageSet(targetPages);
        tracker.mappedInto(mapped);
        assert.deepEqual(mapped.toArray(), writable);
      }
      assert.equal(domain.mappedPages, table.size);
      for (const page of [0, 3, 11, 12, 20, 504, 505, 511, 512, 515, 529, 530]) {
        for (const access of [DmaAccess.read, DmaAccess.write]) {
          const iova = page * pageBytes + 17;
          assert.equal(domain.translate(iova, access), expectedTranslation(table, iova, access));
        }
      }
    }),
  );
});

test("a mapping that is not whole pages, gives no access or leads beyond 2^32 pages is refused and changes nothing", () => {
  const domain = new Domain();
  const good = { iova: 4096, address: 8192, lengthBytes: 4096, access: 3 };
  const bad = [
    { ...good, iova: 4097 },
    { ...good, address: 1 },
    { ...good, lengthBytes: 4095 },
    { ...good, lengthBytes: 0 },
    { ...good, lengthBytes: -4096 },
    { ...good, iova: Number.NaN },
    { ...good, iova: 2 ** 53 - 4096, lengthBytes: 8192 },
    { ...good, address: 2 ** 44 },
    { ...good, access: 0 },
    { ...good, access: 4 },
  ];
  for (const mapping of bad) assert.equal(domain.map(mapping), "invalid", JSON.stringify(mapping));
  assert.equal(domain.mappedPages, 0);
  assert.equal(domain.map(good), "mapped");
});

test("sparse mappings are refused once their tables would exceed the bound, and room comes back with unmap", () => {
  const domain = new Domain({ leavesMax: 3 });
  const at = (leaf: number): number => leaf * 512 * 4096;
  const mapAt = (leaf: number): string =>
    domain.map({ iova: at(leaf), address: 0, lengthBytes: 4096, access: DmaAccess.write });
  assert.deepEqual([mapAt(0), mapAt(9), mapAt(1_000_000), mapAt(5)], ["mapped", "mapped", "mapped", "full"]);
  assert.equal(domain.map({ iova: 0, address: 0, lengthBytes: 2 ** 40, access: 1 }), "full");
  assert.equal(domain.unmap(at(9), 4096), 1);
  assert.equal(mapAt(5), "mapped");
  domain.unmapAll();
  assert.equal(domain.mappedPages, 0);
});

test("a page that is mapped again is no longer among those released", () => {
  const tracker = new IommuTracker(4);
  const domain = new Domain({ listener: tracker });
  const mapping = { iova: 0, address: 4096, lengthBytes: 8192, access: DmaAccess.write };
  domain.map(mapping);
  domain.unmapAll();
  domain.map({ ...mapping, iova: 65_536, lengthBytes: 4096 });
  const released = new PageSet(4);
  tracker.fetchReleased(released);
  assert.deepEqual(released.toArray(), [2]);
});

test("no address leads anywhere in an emptied domain", () => {
  const domain = new Domain();
  domain.map({ iova: 0, address: 0, lengthBytes: 4096, access: 3 });
  assert.equal(domain.translate(5, DmaAccess.read), 5);
  domain.unmapAll();
  for (const iova of [-4091, -1, 0, 5]) assert.equal(domain.translate(iova, DmaAccess.read), TRANSLATION_UNMAPPED);
});

test("pages put back after a failed round are released again unless they were mapped meanwhile", () => {
  const tracker = new IommuTracker(4);
  const domain = new Domain({ listener: tracker });
  domain.map({ iova: 0, address: 0, lengthBytes: 3 * 4096, access: DmaAccess.write });
  domain.unmapAll();
  const round = new PageSet(4);
  tracker.fetchReleased(round);
  domain.map({ iova: 0, address: 4096, lengthBytes: 4096, access: DmaAccess.write });
  tracker.putBackReleased(round);
  const again = new PageSet(4);
  tracker.fetchReleased(again);
  assert.deepEqual(again.toArray(), [0, 2]);
});

test("an identity domain passes every address and refuses what is none", () => {
  const domain = new IdentityDomain();
  assert.equal(domain.translate(12_345), 12_345);
  assert.equal(domain.translate(-1), TRANSLATION_UNMAPPED);
  assert.equal(domain.translate(2 ** 60), TRANSLATION_UNMAPPED);
});
