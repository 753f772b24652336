// The link in memory: it keeps every byte and their order, in whatever pieces, and breaks where it is told to.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { OperationError } from "../../base/errors.ts";
import { memoryTransportPair } from "./memory-transport.ts";
import type { Transport } from "./transport.ts";

interface Received {
  readonly chunks: number[];
  readonly bytes: number[];
  readonly ends: (OperationError | undefined)[];
}

function record(transport: Transport): Received {
  const received: Received = { chunks: [], bytes: [], ends: [] };
  transport.start({
    onData: (chunk) => {
      received.chunks.push(chunk.length);
      received.bytes.push(...chunk);
    },
    onClose: (error) => void received.ends.push(error),
  });
  return received;
}

function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

const sends = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { minLength: 1, maxLength: 20 });

test("random chunks carry the same bytes in the same order, and the same seed gives the same chunks", async () => {
  await fc.assert(
    fc.asyncProperty(sends, fc.nat(), async (buffers, seed) => {
      const runs = await Promise.all(
        [0, 1].map(async () => {
          const { first, second } = memoryTransportPair({ chunking: { seed, chunkBytesMax: 30 } });
          record(first);
          const received = record(second);
          for (const buffer of buffers) void first.send(buffer);
          first.close();
          await settled();
          return received;
        }),
      );
      const expected = buffers.flatMap((buffer) => [...buffer]);
      assert.deepEqual(runs[0]?.bytes, expected);
      assert.deepEqual(runs[0], runs[1]);
      assert.deepEqual(runs[0]?.ends, [undefined]);
    }),
    { seed: 20_261_128, numRuns: 100 },
  );
});

test("sent bytes are the transport's until its promise resolves: who changes them before is found out", async () => {
  const { first, second } = memoryTransportPair({ chunking: { seed: 1 } });
  const received = record(second);
  record(first);
  const buffer = Uint8Array.of(1, 2, 3);
  const sending = first.send(buffer);
  assert.ok(sending !== undefined);
  buffer.fill(9);
  await sending;
  await settled();
  assert.deepEqual(received.bytes, [9, 9, 9]);
});

test("the link breaks for both sides after exactly the bytes it was told to carry", async () => {
  await fc.assert(
    fc.asyncProperty(sends, fc.nat({ max: 400 }), fc.boolean(), async (buffers, fromFirst, isChunked) => {
      const total = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
      const options = { breakAfterBytes: { fromFirst }, ...(isChunked ? { chunking: { seed: fromFirst } } : {}) };
      const { first, second } = memoryTransportPair(options);
      const here = record(first);
      const there = record(second);
      const sendings = buffers.map((buffer) => first.send(buffer));
      await settled();
      for (const sending of sendings) await sending;
      assert.equal(there.bytes.length, Math.min(total, fromFirst));
      const isBroken = fromFirst <= total;
      for (const { ends } of [here, there]) {
        assert.deepEqual(
          ends.map((error) => error?.code),
          isBroken ? ["peer-closed"] : [],
        );
      }
      if (isBroken) assert.equal(first.send(Uint8Array.of(1)), undefined);
    }),
    { seed: 20_261_129, numRuns: 200 },
  );
});

test("an end that has closed hears nothing more, and its last bytes still arrive", async () => {
  const { first, second } = memoryTransportPair();
  const here = record(first);
  const there = record(second);
  void second.send(Uint8Array.of(7));
  void first.send(Uint8Array.of(1, 2));
  first.close();
  await settled();
  assert.deepEqual(there.bytes, [1, 2]);
  assert.deepEqual(here.bytes, []);
  assert.deepEqual([here.ends, there.ends], [[undefined], [undefined]]);
});
