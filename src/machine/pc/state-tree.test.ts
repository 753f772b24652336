import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import { conform, decodeTree, encodeTree, type StateTree } from "./state-tree.ts";

const seed = 462;
const arrayMax = 1 << 20;

const leaf = fc.oneof(
  fc.constantFrom<StateTree[]>(undefined, null, true, false),
  fc.integer(),
  fc.double({ noNaN: true }),
  fc.string({ maxLength: 8 }),
  fc.uint8Array({ maxLength: 300 }),
  fc.int32Array({ maxLength: 40 }),
  fc.float64Array({ maxLength: 10, noNaN: true }),
  fc.uint16Array({ maxLength: 10 }),
);
const tree = fc.letrec<{ tree: StateTree }>((tie) => ({
  tree: fc.oneof({ depthSize: "small", maxDepth: 5 }, leaf, fc.array(tie("tree"), { maxLength: 6 })),
})).tree;

test("a tree reads back as what was written, and has its own shape", () => {
  fc.assert(
    fc.property(tree, (value) => {
      const back = decodeTree(encodeTree(value), arrayMax);
      assert.deepEqual(back, value);
    }),
    { seed },
  );
});

test("runs of zeros cost nothing, wherever they are", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(0xffff), { maxLength: 20 }), fc.nat(3), (places, offset) => {
      const array = new Uint8Array(0x1_0004).subarray(offset);
      for (const place of places) array[place] = 7;
      const bytes = encodeTree(array);
      assert.ok(bytes.length <= 16 + places.length * (64 + 8), `${bytes.length} bytes for ${places.length} places`);
      assert.deepEqual(decodeTree(bytes, arrayMax), array);
    }),
    { seed },
  );
});

const isRefusal = (error: unknown): boolean =>
  error instanceof OperationError && error.code === "machine-state-invalid";

function decodedOrRefused(bytes: Uint8Array): StateTree {
  try {
    return decodeTree(bytes, arrayMax);
  } catch (error) {
    assert.ok(isRefusal(error), String(error));
    return "refused";
  }
}

test("no bytes make decoding throw anything but a typed refusal", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodedOrRefused(bytes);
    }),
    { seed, numRuns: 2000 },
  );
});

test("a tree that is cut off, or has one byte changed, is refused or is another tree", () => {
  const value = [1, [2.5, "name", new Uint8Array([1, 2, 3])], undefined, new Int32Array(100).fill(-1)];
  const bytes = encodeTree(value);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeTree(bytes.subarray(0, length), arrayMax), isRefusal);
  }
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at] = (changed[at] ?? 0) ^ 0x41;
    assert.notDeepEqual(decodedOrRefused(changed), value, `byte ${at}`);
  }
});

test("a few bytes cannot ask for more memory than the limit", () => {
  const bytes = encodeTree(new Uint8Array(arrayMax + 1));
  assert.ok(bytes.length < 100);
  assert.throws(() => decodeTree(bytes, arrayMax), isRefusal);
  const many = encodeTree(Array.from({ length: 5 }, () => new Uint8Array(arrayMax / 4)));
  assert.throws(() => decodeTree(many, arrayMax), isRefusal);
});

test("only the shape of the template is accepted", () => {
  const template = [1, "ide0", new Uint8Array(4), [undefined, false]];
  const good: StateTree[] = [
    [1, "ide0", new Uint8Array(4), [undefined, false]],
    [-7.5, "ide0", Uint8Array.of(1, 2, 3, 4), [9, true]],
  ];
  const bad: StateTree[] = [
    [1, "ide1", new Uint8Array(4), [0, false]],
    [1, 2, new Uint8Array(4), [0, false]],
    ["1", "ide0", new Uint8Array(4), [0, false]],
    [1, "ide0", new Uint8Array(5), [0, false]],
    [1, "ide0", new Int8Array(4), [0, false]],
    [1, "ide0", [0, 0, 0, 0], [0, false]],
    [1, "ide0", new Uint8Array(4), [0]],
    [1, "ide0", new Uint8Array(4), 0],
    [[1], "ide0", new Uint8Array(4), [0, false]],
    [new Uint8Array(1), "ide0", new Uint8Array(4), [0, false]],
    [Number.NaN, "ide0", new Uint8Array(4), [0, false]],
    [1, "ide0", new Uint8Array(4)],
    undefined,
  ];
  for (const value of good) conform(value, template, "state");
  for (const value of bad) assert.throws(() => conform(value, template, "state"), isRefusal, JSON.stringify(value));
});
