// Fields and headers, there and back.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Fields, ReplyBuffer, writeHeader } from "./fields.ts";

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u64 = fc.maxSafeNat();

test("what is written is what is read, at any offset", () => {
  const property = fc.property(u16, u32, u64, fc.nat(20), (a, b, c, at) => {
    const fields = new Fields(new Uint8Array(64).subarray(at));
    fields.setU16(0, a).setU32(2, b).setU64(6, c);
    assert.deepEqual([fields.u16(0), fields.u32(2), fields.u64(6)], [a, b, c]);
  });
  fc.assert(property, { seed: 1, numRuns: 300 });
});

test("64-bit fields at and above 2^53 are larger than any address", () => {
  const property = fc.property(fc.bigInt(2n ** 53n, 2n ** 64n - 1n), (value) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    assert.ok(new Fields(bytes).u64(0) > Number.MAX_SAFE_INTEGER);
  });
  fc.assert(property, { seed: 2, numRuns: 300 });
});

test("a header is id, command, size, flags and error, little-endian", () => {
  const message = new Uint8Array(20);
  writeHeader(message, { id: 0x1234, command: 9, flags: 0x21, error: 22 });
  assert.equal(Buffer.from(message).toString("hex"), "3412090014000000210000001600000000000000");
});

test("a reply has nothing of the one before it, be they short or long", () => {
  const reply = new ReplyBuffer();
  for (const bytes of [10, 8000, 9000, 8176, 3]) {
    const payload = reply.payload(bytes);
    assert.ok(payload.bytes.every((byte) => byte === 0));
    payload.bytes.fill(0xff);
    assert.equal(reply.seal({ id: 1, command: 2, flags: 1 }).length, 16 + bytes);
  }
  reply.clear();
  assert.equal(reply.seal({ id: 1, command: 2, flags: 1 }).length, 16);
});
