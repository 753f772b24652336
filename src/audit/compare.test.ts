import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteSet } from "./byte-set.ts";
import { differences } from "./compare.ts";
import { PageOverlay } from "./page-overlay.ts";

const memoryBytes = 256;
const pageShift = 6;
const changes = fc.array(fc.tuple(fc.nat(memoryBytes - 1), fc.integer({ min: 1, max: 255 })), { maxLength: 12 });
const ranges = fc.array(fc.tuple(fc.nat(memoryBytes - 70), fc.nat(70)), { maxLength: 4 });

test("the comparison finds exactly the bytes that differ and are not excused, on changed pages and others", () => {
  fc.assert(
    fc.property(changes, changes, ranges, (inExpected, inActual, excusedRanges) => {
      const base = Uint8Array.from({ length: memoryBytes }, (_, index) => index);
      const expected = new PageOverlay(base, pageShift);
      for (const [address, value] of inExpected) expected.write(address, Uint8Array.of(value), 0, 1);
      const actual = base.slice();
      for (const [address, value] of inActual) actual[address] = (actual[address] ?? 0) ^ value;
      const excused = new ByteSet(pageShift);
      const isExcused = new Set<number>();
      for (const [address, length] of excusedRanges) {
        excused.add(address, length);
        for (let i = 0; i < length; i++) isExcused.add(address + i);
      }
      assert.equal(excused.size, isExcused.size);

      const wanted: number[] = [];
      const expectedBytes = expected.slice(0, memoryBytes);
      for (let i = 0; i < memoryBytes; i++) if (expectedBytes[i] !== actual[i] && !isExcused.has(i)) wanted.push(i);
      const found = differences(expected, actual, excused);
      assert.equal(found.size, wanted.length);
      assert.deepEqual(found.pages(), [...new Set(wanted.map((address) => address >> pageShift))]);
      for (const address of wanted) {
        assert.deepEqual(found.remove(address, 1), { count: 1, first: address, last: address });
      }
      assert.equal(found.size, 0);
    }),
    { numRuns: 200 },
  );
});

test("what is removed from a byte set is told with its first and last address, once", () => {
  const set = new ByteSet(pageShift);
  set.add(60, 10);
  set.add(200, 1);
  assert.deepEqual(set.remove(62, 4), { count: 4, first: 62, last: 65 });
  assert.equal(set.remove(62, 4), undefined);
  assert.deepEqual(set.remove(0, 256), { count: 7, first: 60, last: 200 });
});
