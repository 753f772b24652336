import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { unsigned } from "./leb128.ts";
import { joined } from "./wasm-module.ts";
import { dirtyMapByFrameExport, dirtyMapExport, rewriteForDirtyLog, rewriteUnchecked } from "./wasm-rewrite.ts";
import { webAssembly, type WasmGlobal, type WasmMemory } from "./web-assembly.ts";

const shipped = new Uint8Array(readFileSync(fileURLToPath(new URL("v86.wasm", import.meta.resolve("v86")))));
const i32 = 0x7f;

const text = (value: string): number[] => [...unsigned(value.length), ...Buffer.from(value)];
const section = (id: number, ...items: number[][]): number[] => {
  const body = [...unsigned(items.length), ...items.flat()];
  return [id, ...unsigned(body.length), ...body];
};

interface ToyFunction {
  readonly name: string;
  readonly parameters: number;
  readonly results: number;
  readonly body: readonly number[];
}

/** The page walk returns its second parameter as the entry; the writes store to memory like v86's. */
const toyFunctions: readonly ToyFunction[] = [
  { name: "_RNvNtNtCs1_3v863cpu3cpu12do_page_walk", parameters: 5, results: 1, body: [0x20, 1] },
  { name: "write8", parameters: 2, results: 0, body: [0x20, 0, 0x20, 1, 0x3a, 0, 0] },
  { name: "write16", parameters: 2, results: 0, body: [0x20, 0, 0x20, 1, 0x3b, 0, 0] },
  { name: "write32", parameters: 2, results: 0, body: [0x20, 0, 0x20, 1, 0x36, 0, 0] },
];

/** A module with memory, a global of its own, and each function exported as `f0`, `f1`, and so on. */
function toyModule(functions: readonly ToyFunction[]): Uint8Array<ArrayBuffer> {
  const integers = (count: number): number[] => [count, ...Array<number>(count).fill(i32)];
  const type = (f: ToyFunction): number[] => [0x60, ...integers(f.parameters), ...integers(f.results)];
  const body = (f: ToyFunction): number[] => [f.body.length + 2, 0, ...f.body, 0x0b];
  const names = functions.flatMap((f, index) => [index, ...text(f.name)]);
  const nameMap = [...unsigned(functions.length), ...names];
  const nameSection = [...text("name"), 1, ...unsigned(nameMap.length), ...nameMap];
  return joined([
    [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(1, ...functions.map(type)),
    section(2),
    section(3, ...functions.map((_, index) => [index])),
    section(5, [0, 2]),
    section(6, [i32, 0, 0x41, 7, 0x0b]),
    section(7, [...text("memory"), 2, 0], ...functions.map((_, index) => [...text(`f${index}`), 0, index])),
    section(10, ...functions.map(body)),
    [0, ...unsigned(nameSection.length), ...nameSection],
  ]);
}

interface Toy {
  readonly memory: Uint8Array;
  readonly byFrame: WasmGlobal;
  readonly byPage: WasmGlobal;
  readonly call: (index: number, ...values: number[]) => number;
}

async function rewrittenToy(): Promise<Toy> {
  const result = rewriteUnchecked(toyModule(toyFunctions));
  assert.equal(result.kind, "rewritten");
  const { exports } = await webAssembly.instantiate(await webAssembly.compile(result.bytes), {});
  return {
    memory: new Uint8Array((exports["memory"] as WasmMemory).buffer),
    byFrame: exports[dirtyMapByFrameExport] as WasmGlobal,
    byPage: exports[dirtyMapExport] as WasmGlobal,
    call: (index, ...values) => (exports[`f${index}`] as (...values: number[]) => number)(...values),
  };
}

test("the shipped v86.wasm is rewritten to a module that compiles", async () => {
  const result = await rewriteForDirtyLog(shipped);
  assert.equal(result.kind, "rewritten");
  await webAssembly.compile(result.bytes);
});

test("any other binary is refused by its hash, with the hash", async () => {
  const other = shipped.slice();
  other[other.length - 1] = (other[other.length - 1] ?? 0) ^ 1;
  const result = await rewriteForDirtyLog(other);
  assert.equal(result.kind, "refused");
  assert.ok(result.reason === "unknown-binary" && /^[0-9a-f]{64}$/.test(result.sha256));
});

test("a binary that is cut off anywhere is refused as malformed or lacking a function", () => {
  const toy = toyModule(toyFunctions);
  for (let length = 0; length < toy.length; length++) {
    const result = rewriteUnchecked(toy.subarray(0, length));
    assert.equal(result.kind, "refused", `at ${length}`);
  }
  assert.equal(rewriteUnchecked(shipped.subarray(0, shipped.length >>> 1)).kind, "refused");
});

test("a function that is missing, or there twice, is refused by its name", () => {
  for (const [index, name] of ["do_page_walk", "write8", "write16", "write32"].entries()) {
    const without = toyFunctions.with(index, { ...(toyFunctions[index] as ToyFunction), name: "other" });
    assert.deepEqual(rewriteUnchecked(toyModule(without)), { kind: "refused", reason: "function-missing", name });
  }
  const twice = [...toyFunctions, toyFunctions[1] as ToyFunction];
  assert.equal(rewriteUnchecked(toyModule(twice)).kind, "refused");
  const ambiguous = [...toyFunctions, { ...(toyFunctions[0] as ToyFunction), name: "x3cpu3cpu12do_page_walk" }];
  assert.equal(rewriteUnchecked(toyModule(ambiguous)).kind, "refused");
});

test("a function of another type is refused by its name", () => {
  const walk = { ...(toyFunctions[0] as ToyFunction), parameters: 4 };
  const result = rewriteUnchecked(toyModule(toyFunctions.with(0, walk)));
  assert.deepEqual(result, { kind: "refused", reason: "unexpected-type", name: "do_page_walk" });
});

test("a page walk marks its page exactly when the entry is valid, writable and RAM", async () => {
  const toy = await rewrittenToy();
  const map = 0x8000;
  // RAM at frame 3 of wasm memory, so that physical page 0 is frame 3.
  const firstFrame = 3;
  toy.byFrame.value = map - firstFrame;
  const sample = fc.record({
    page: fc.nat(200),
    virtual: fc.nat(0xf_ffff),
    offset: fc.nat(0xfff),
    flags: fc.nat(0x3f),
  });
  fc.assert(
    fc.property(sample, ({ page, virtual, offset, flags }) => {
      toy.memory.fill(0);
      const address = (virtual << 12) | offset;
      const entry = (((page + firstFrame) << 12) ^ (virtual << 12)) | flags;
      assert.equal(toy.call(0, address, entry, 0, 0, 0), entry);
      const isMarked = (flags & 1) !== 0 && (flags & 2) === 0 && (flags & 8) === 0;
      const marks = toy.memory.reduce((sum, byte) => sum + byte, 0);
      assert.equal(marks, isMarked ? 1 : 0);
      assert.equal(toy.memory[map + page], isMarked ? 1 : 0);
    }),
    { seed: 1 },
  );
});

test("a physical write still writes, and marks the one or two pages it touches", async () => {
  const toy = await rewrittenToy();
  toy.byPage.value = 0x8000;
  for (const [index, width] of [1, 2, 4].entries()) {
    toy.memory.fill(0);
    toy.call(index + 1, 0x1fff, 0x0403_0201);
    assert.deepEqual([...toy.memory.subarray(0x1fff, 0x1fff + width)], [1, 2, 3, 4].slice(0, width));
    assert.deepEqual([...toy.memory.subarray(0x8000, 0x8004)], [0, 1, width > 1 ? 1 : 0, 0]);
  }
});

test("without a map nothing is marked and everything works", async () => {
  const toy = await rewrittenToy();
  toy.call(1, 0x5000, 9);
  assert.equal(toy.call(0, 0, 0x7001, 0, 0, 0), 0x7001);
  assert.equal(toy.memory[0x5000], 9);
  assert.equal(
    toy.memory.reduce((sum, byte) => sum + byte, 0),
    9,
  );
});
