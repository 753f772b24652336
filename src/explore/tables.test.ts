// The tables that searches stand on, each against the plainest thing that does the same.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Images } from "./images.ts";
import { PairTable } from "./pair-table.ts";
import { StepList } from "./search-step-list.ts";
import { SearchTree } from "./search-tree.ts";
import { VisitedPairs } from "./search-visited.ts";

const word = fc.oneof(
  fc.nat({ max: 40 }),
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
);
const pairs = fc.array(fc.tuple(word, word), { maxLength: 400 });

test("a pair table numbers pairs as they come, and the same pair always the same", () => {
  fc.assert(
    fc.property(pairs, (added) => {
      const table = new PairTable();
      const numbers = new Map<string, number>();
      for (const [left, right] of added) {
        const key = `${left} ${right}`;
        if (!numbers.has(key)) numbers.set(key, numbers.size);
        const number = table.add(left, right);
        assert.equal(number, numbers.get(key));
        assert.deepEqual([table.left(number), table.right(number)], [left, right]);
      }
      assert.equal(table.size, numbers.size);
    }),
  );
});

test("a pair table of many pairs forgets none as it grows", () => {
  const table = new PairTable();
  const count = 50_000;
  for (let i = 0; i < count; i++) assert.equal(table.add(i % 251, Math.floor(i / 251)), i);
  for (let i = 0; i < count; i++) assert.equal(table.add(i % 251, Math.floor(i / 251)), i);
  assert.equal(table.size, count);
  // Signed and unsigned, a word is the same word.
  assert.equal(table.add(-1, 0), table.add(0xffff_ffff, 0));
});

test("a set of visited pairs has exactly what was added to it", () => {
  fc.assert(
    fc.property(pairs, (added) => {
      const visited = new VisitedPairs();
      const model = new Set<string>();
      for (const [source, engine] of added) {
        const key = `${source} ${engine}`;
        assert.equal(visited.add(source, engine), !model.has(key));
        model.add(key);
      }
      assert.equal(visited.size, model.size);
    }),
  );
});

test("a set of visited pairs of many neighbours forgets none as it grows", () => {
  const visited = new VisitedPairs();
  const count = 60_000;
  const add = (i: number): boolean => visited.add((i * 37) % 300, Math.floor(i / 300));
  for (let i = 0; i < count; i++) assert.ok(add(i));
  for (let i = 0; i < count; i++) assert.ok(!add(i));
  assert.equal(visited.size, count);
  assert.ok(visited.bytes < count * 8, `${visited.bytes} bytes for ${count} pairs, 64 of which may share an entry`);
});

const change = fc.tuple(fc.nat({ max: 1000 }), fc.nat({ max: 5 }));

test("an image is the list of its pages, and two images have one number exactly if their lists are equal", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 40 }), fc.array(change, { maxLength: 60 }), (pageCount, changes) => {
      const images = new Images(pageCount);
      let contents = Array.from({ length: pageCount }, () => 0);
      let image = images.of(contents);
      const numbers = new Map([[contents.join(), image]]);
      for (const [at, content] of changes) {
        const page = at % pageCount;
        contents = contents.with(page, content);
        image = images.with(image, page, content);
        assert.equal(images.page(image, page), content);
        assert.deepEqual(images.contents(image), contents);
        assert.equal(images.of(contents), image);
        assert.equal(numbers.get(contents.join()) ?? image, image);
        numbers.set(contents.join(), image);
      }
      assert.equal(new Set(numbers.values()).size, numbers.size);
    }),
  );
});

test("a part of an image can be put in the place of another, and is equal to it exactly if its pages are", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 2 }), { minLength: 16, maxLength: 16 }),
      fc.nat({ max: 3 }),
      fc.nat({ max: 3 }),
      (contents, from, to) => {
        const images = new Images(16);
        const image = images.of(contents);
        const moved = images.withPart(image, to, 2, images.part(image, from, 2));
        const source = contents.slice(from * 4, from * 4 + 4);
        assert.deepEqual(images.contents(moved), contents.toSpliced(to * 4, 4, ...source));
        const isSame = String(source) === String(contents.slice(to * 4, to * 4 + 4));
        assert.equal(images.part(image, from, 2) === images.part(image, to, 2), isSame);
      },
    ),
  );
});

test("a tree of states gives back every state and the steps to it", () => {
  const tree = new SearchTree();
  const model: { source: number; path: number[] }[] = [];
  for (let i = 0; i < 5000; i++) {
    const parent = Math.max(0, (i * 7919) % Math.max(1, i));
    const step = i % 5;
    const repeats = 1 + (i % 3);
    const before = model[parent]?.path ?? [];
    const path = i === 0 ? [] : [...before, ...Array.from({ length: repeats }, () => step)];
    model.push({ source: i * 3, path });
    tree.add(i * 3, i, parent, step | (repeats << 5));
  }
  for (const [state, { source, path }] of model.entries()) {
    assert.equal(tree.sourceOf(state), source);
    assert.deepEqual(tree.path(state), path);
    assert.equal(tree.statesTo(state).at(-1), state);
  }
  tree.cut(10);
  assert.equal(tree.size, 10);
});

test("a list of steps gives back what was put in, and only what was not cut off", () => {
  const list = new StepList();
  for (let i = 0; i < 3000; i++) list.push(i, i + 1, i + 2, i & 0xffff);
  list.cut(2000);
  list.push(1, 2, 3, 4);
  assert.equal(list.size, 2001);
  const at = (i: number): number[] => [list.sourceAt(i), list.engineAt(i), list.parentAt(i), list.packedStepAt(i)];
  assert.deepEqual(at(1999), [1999, 2000, 2001, 1999]);
  assert.deepEqual(at(2000), [1, 2, 3, 4]);
});
