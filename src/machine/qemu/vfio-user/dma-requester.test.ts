// DMA messages byte by byte, and answers that are not what was asked for.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { messageRequester, type DmaRequester } from "./dma-requester.ts";
import type { ReplyListener } from "./requests.ts";

interface Sent {
  readonly command: number;
  readonly payload: readonly number[];
  readonly answer: ReplyListener | undefined;
}

function bench(isReachable = true): { requester: DmaRequester; sent: Sent[] } {
  const sent: Sent[] = [];
  const requester = messageRequester((command, payload, answer) => {
    sent.push({ command, payload: [...payload], answer });
    return isReachable;
  });
  return { requester, sent };
}

test("a write is address, count and data, and wants no reply", () => {
  const { requester, sent } = bench();
  requester.write(0x12_3456_789a, Uint8Array.of(5, 6));
  const address = [0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0];
  assert.deepEqual(sent, [{ command: 12, payload: [...address, 2, 0, 0, 0, 0, 0, 0, 0, 5, 6], answer: undefined }]);
});

test("a read is address and count, and its data comes behind the same in the reply", () => {
  const { requester, sent } = bench();
  let found: number[] | undefined;
  assert.ok(requester.read(0x1000, 3, (bytes) => (found = bytes && [...bytes])));
  assert.deepEqual(sent[0]?.payload, [0, 0x10, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(sent[0]?.command, 11);
  sent[0].answer?.({ flags: 1, payload: Uint8Array.from([...sent[0].payload, 7, 8, 9]) });
  assert.deepEqual(found, [7, 8, 9]);
});

test("a reply that is an error or of another length is a refusal", () => {
  fc.assert(
    fc.property(fc.constantFrom(1, 0x21), fc.uint8Array({ maxLength: 40 }), (flags, payload) => {
      const { requester, sent } = bench();
      let answers = 0;
      let found: Uint8Array | undefined;
      requester.read(0x1000, 8, (bytes) => {
        answers++;
        found = bytes;
      });
      sent[0]?.answer?.({ flags, payload });
      assert.equal(answers, 1);
      assert.equal(found?.length, flags === 1 && payload.length === 24 ? 8 : undefined);
    }),
  );
});

test("a read that could not be sent says so", () => {
  assert.equal(
    bench(false).requester.read(0x1000, 8, () => assert.fail("it is not answered")),
    false,
  );
});
