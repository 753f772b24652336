import assert from "node:assert/strict";
import { test } from "node:test";
import { BufferMemory } from "./guest-memory.ts";
import { isZeroPage } from "./zero-page.ts";

test("one bit anywhere in a page makes it no zero page, and its neighbours stay zero pages", () => {
  for (const pageBytes of [16, 64, 4096]) {
    const memory = new BufferMemory(3 * pageBytes, { pageBytes });
    for (let offset = 0; offset < pageBytes; offset++) {
      const bit = offset % 8;
      memory.bytes()[pageBytes + offset] = 1 << bit;
      assert.deepEqual(
        [0, 1, 2].map((page) => isZeroPage(memory, page)),
        [true, false, true],
        `byte ${offset}`,
      );
      memory.bytes()[pageBytes + offset] = 0;
    }
    assert.ok(isZeroPage(memory, 1));
  }
});

test("a page of negative zeros is not a zero page", () => {
  const memory = new BufferMemory(4096);
  new Float64Array(memory.bytes().buffer).fill(-0);
  assert.equal(isZeroPage(memory, 0), false);
});
