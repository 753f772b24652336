import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PacketBuffer } from "./packet-buffer.ts";

const operation = fc.oneof(
  fc.record({
    kind: fc.constant("push" as const),
    length: fc.integer({ min: 1, max: 600 }),
    skip: fc.constantFrom(0, 4),
  }),
  fc.record({ kind: fc.constant("pop" as const), length: fc.constant(0), skip: fc.constant(0) }),
);

test("frames come out whole and in order, and one is refused only when it and the largest one do not both fit", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120, size: "max" }), (operations) => {
      const size = 1024;
      const buffer = new PacketBuffer(size);
      const model: { mark: number; length: number; skip: number }[] = [];
      let largest = 0;
      let mark = 0;
      const words = new Uint32Array(4);
      for (const { kind, length, skip } of operations) {
        if (kind === "pop") {
          if (model.shift() !== undefined) buffer.pop();
        } else {
          const start = buffer.reserve(skip + length);
          if (start < 0) {
            const room = (bytes: number): number => Math.ceil(bytes / 64) * 64;
            const used = model.reduce((sum, frame) => sum + room(frame.length + frame.skip), 0);
            const free = size - used;
            assert.ok(room(skip + length) + Math.max(room(skip + length), largest) > free, `${length} bytes refused`);
            continue;
          }
          mark = (mark + 1) & 0xff;
          buffer.frame.bytes.fill(mark, start + skip, start + skip + length);
          const record = buffer.push(start, skip, length, mark & 7);
          buffer.describe(record, mark, mark * 2, mark * 3, mark * 4);
          model.push({ mark, length, skip });
          largest = Math.max(largest, Math.ceil((skip + length) / 64) * 64);
        }
        assert.equal(buffer.count, model.length);
        const oldest = model[0];
        if (oldest === undefined) continue;
        assert.deepEqual([buffer.length, buffer.queue], [oldest.length, oldest.mark & 7]);
        const { offset } = buffer;
        assert.ok(buffer.frame.bytes.subarray(offset, offset + oldest.length).every((byte) => byte === oldest.mark));
        buffer.described(words);
        assert.deepEqual(
          [...words],
          [1, 2, 3, 4].map((i) => oldest.mark * i),
        );
      }
    }),
    { numRuns: 500 },
  );
});

test("clear forgets every frame and gives all the room back", () => {
  const buffer = new PacketBuffer(256);
  for (let i = 0; i < 4; i++) buffer.push(buffer.reserve(64), 0, 64, 0);
  assert.equal(buffer.reserve(1), -1);
  buffer.clear();
  assert.equal(buffer.count, 0);
  assert.equal(buffer.reserve(256), 0);
});
