import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PageSet } from "./page-set.ts";

const capacity = 131;
const pages = fc.array(fc.integer({ min: 0, max: capacity - 1 }));

test("a page set holds exactly what a Set holds after the same operations", () => {
  fc.assert(
    fc.property(pages, pages, (a, b) => {
      const left = PageSet.of(capacity, a);
      const right = PageSet.of(capacity, b);
      const model = new Set(a);
      const sorted = (set: Set<number>): number[] => [...set].toSorted((x, y) => x - y);
      assert.deepEqual(left.toArray(), sorted(model));
      assert.equal(left.size, model.size);
      const union = left.clone();
      union.addSet(right);
      assert.deepEqual(union.toArray(), sorted(model.union(new Set(b))));
      const difference = left.clone();
      difference.deleteSet(right);
      assert.deepEqual(difference.toArray(), sorted(model.difference(new Set(b))));
      left.intersect(right);
      assert.deepEqual(left.toArray(), sorted(model.intersection(new Set(b))));
    }),
  );
});

test("addAll fills the set to its capacity and not beyond", () => {
  for (const size of [1, 31, 32, 33, 64, 131]) {
    const set = new PageSet(size);
    set.addAll();
    assert.equal(set.size, size);
    assert.equal(set.next(size), -1);
  }
});

test("a byte range adds every page it touches and leaves out what lies beyond the set", () => {
  const set = new PageSet(4);
  set.addBytes(4095, 2, 12);
  assert.deepEqual(set.toArray(), [0, 1]);
  set.addBytes(3 * 4096 + 1, 1 << 20, 12);
  assert.deepEqual(set.toArray(), [0, 1, 3]);
  set.addBytes(0, 0, 12);
  assert.deepEqual(set.toArray(), [0, 1, 3]);
});
