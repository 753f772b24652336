import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ReturnPathReader, returnPathShut } from "./return-path.ts";

/** Any message but the last one. */
const other = fc
  .tuple(
    fc.integer({ min: 2, max: 0xffff }),
    fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.constant(new Uint8Array(0xffff))),
  )
  .map(([type, payload]) => {
    const message = Buffer.alloc(4 + payload.length);
    message.writeUInt16BE(type, 0);
    message.writeUInt16BE(payload.length, 2);
    message.set(payload, 4);
    return message;
  });

test("the last word is heard behind any other messages, however they are cut", () => {
  fc.assert(
    fc.property(
      fc.array(other, { maxLength: 5 }),
      fc.nat(0xffff_ffff),
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 9 }),
      (before, value, sizes) => {
        const bytes = Buffer.concat([...before, returnPathShut(value)]);
        const reader = new ReturnPathReader();
        for (let at = 0, i = 0; at < bytes.length; i++) {
          assert.equal(reader.shut, undefined);
          const size = sizes[i % sizes.length] ?? 1;
          reader.push(bytes.subarray(at, at + size));
          at += size;
        }
        assert.equal(reader.shut, value);
        reader.push(returnPathShut(1));
        assert.equal(reader.shut, value, "nothing is said after the last word");
      },
    ),
    { numRuns: 30 },
  );
});
