import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteQueue } from "./byte-queue.ts";
import { GrowingBytes } from "./growing-bytes.ts";

const pieces = fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 12 });
const sizes = fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 30 });

test("bytes are taken, skipped and drained in the order they were pushed, however they were cut", () => {
  const steps = fc.array(fc.record({ kind: fc.constantFrom("push", "take", "skip", "all"), size: fc.nat(12) }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(steps, (all) => {
      const queue = new ByteQueue();
      let expected: number[] = [];
      let next = 0;
      for (const { kind, size } of all) {
        if (kind === "push") {
          const piece = Uint8Array.from({ length: size }, () => next++);
          expected.push(...piece);
          queue.push(piece);
        } else if (kind === "take") {
          const taken = queue.take(size);
          if (size > expected.length) assert.equal(taken, undefined);
          else assert.deepEqual([...(taken ?? [])], expected.splice(0, size));
        } else if (kind === "skip") {
          assert.equal(queue.skip(size), expected.splice(0, size).length);
        } else {
          assert.deepEqual([...queue.takeAll()], expected);
          expected = [];
        }
        assert.equal(queue.length, expected.length);
      }
    }),
  );
});

test("bytes that grow are those that were appended", () => {
  fc.assert(
    fc.property(pieces, sizes, (parts, zeros) => {
      const bytes = new GrowingBytes();
      const all = [...parts, ...zeros.map((size) => new Uint8Array(size * 200))];
      for (const part of all) bytes.append(part);
      assert.equal(Buffer.compare(bytes.bytes(), Buffer.concat(all)), 0);
      assert.equal(bytes.length, bytes.bytes().length);
    }),
  );
});
