import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { captureHeader, packetBlock, statisticsBlock } from "./pcapng.ts";

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Walks the blocks and returns their types; fails on a block whose two lengths disagree or that is not aligned. */
function blockTypes(bytes: Uint8Array): number[] {
  const types: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = view(bytes).getUint32(at + 4, true);
    assert.equal(length % 4, 0);
    assert.equal(view(bytes).getUint32(at + length - 4, true), length);
    types.push(view(bytes).getUint32(at, true));
    at += length;
    assert.ok(at <= bytes.length);
  }
  return types;
}

test("every block is aligned and repeats its length, whatever its contents are", () => {
  const header = captureHeader("test", [{ name: "source" }, { name: "peer", description: "the built-in peer" }]);
  assert.deepEqual(blockTypes(header), [0x0a0d0d0a, 1, 1]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 99 }), fc.option(fc.string(), { nil: undefined }), (bytes, comment) => {
      const block = packetBlock({ interfaceIndex: 0, timeMs: 1, bytes, ...(comment === undefined ? {} : { comment }) });
      assert.deepEqual(blockTypes(block), [6]);
      assert.equal(view(block).getUint32(20, true), bytes.length);
      assert.deepEqual(block.slice(28, 28 + bytes.length), bytes);
    }),
  );
  assert.deepEqual(blockTypes(statisticsBlock({ interfaceIndex: 1, timeMs: 1, received: 2 ** 33, dropped: 0 })), [5]);
});

test("timestamps are nanoseconds since the epoch, right to the precision of the clock's double", () => {
  const timeOf = fc.tuple(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 0, max: 1023 }));
  fc.assert(
    fc.property(timeOf, ([wholeMs, part]) => {
      const timeMs = wholeMs + part / 1024;
      const block = packetBlock({ interfaceIndex: 0, timeMs, bytes: new Uint8Array(14) });
      const written = (BigInt(view(block).getUint32(12, true)) << 32n) | BigInt(view(block).getUint32(16, true));
      assert.equal(written, BigInt(wholeMs) * 1_000_000n + BigInt(Math.floor((timeMs - wholeMs) * 1e6)));
    }),
  );
});
