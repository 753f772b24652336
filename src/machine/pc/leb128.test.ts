import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { signed, unsigned, WasmFormatError, WasmReader } from "./leb128.ts";

const seed = 86;

test("an unsigned integer reads back as what was written", () => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), (value) => {
      const reader = new WasmReader(Uint8Array.from(unsigned(value)));
      assert.equal(reader.u32(), value);
      assert.ok(reader.atEnd);
    }),
    { seed },
  );
});

test("signed integers are the shortest form that the specification's examples and the extremes have", () => {
  assert.deepEqual(signed(0), [0]);
  assert.deepEqual(signed(63), [0x3f]);
  assert.deepEqual(signed(64), [0xc0, 0]);
  assert.deepEqual(signed(-1), [0x7f]);
  assert.deepEqual(signed(-123_456), [0xc0, 0xbb, 0x78]);
  assert.deepEqual(signed(-0x8000_0000), [0x80, 0x80, 0x80, 0x80, 0x78]);
});

test("an integer of more than 32 bits, and one that is cut off, is a format error", () => {
  for (const bytes of [[0xff, 0xff, 0xff, 0xff, 0x10], [0x80, 0x80, 0x80, 0x80, 0x80], [0x80], []]) {
    assert.throws(() => new WasmReader(Uint8Array.from(bytes)).u32(), WasmFormatError);
  }
});

test("a vector longer than the binary is a format error", () => {
  assert.throws(() => new WasmReader(Uint8Array.of(5, 1, 2)).sized(), WasmFormatError);
});
