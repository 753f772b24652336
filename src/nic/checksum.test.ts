import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { foldSum, FrameBytes, sctpChecksum, sumBytes, swap16 } from "./checksum.ts";
import { crc32c, internetChecksum } from "./frames.fixture.ts";

test("the sum over memory is RFC 1071's with its bytes swapped, at every start, parity and length", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 200, size: "max" }),
      fc.integer({ min: 0, max: 9 }),
      (data, from) => {
        const frame = new FrameBytes(216);
        frame.bytes.fill(0xa5);
        frame.bytes.set(data, from);
        const sum = foldSum(sumBytes(frame, from, from + data.length));
        assert.equal(0xffff - swap16(sum), internetChecksum([...data]));
      },
    ),
    { numRuns: 1000 },
  );
});

test("the sum of 64 KiB of ones does not overflow", () => {
  const frame = new FrameBytes(65_536);
  frame.bytes.fill(0xff);
  assert.equal(foldSum(sumBytes(frame, 0, 65_536)), 0xffff);
});

test("CRC32c gives the check value of its catalogue entry", () => {
  assert.equal(crc32c([...new TextEncoder().encode("123456789")]), 0xe306_9283);
});

test("the SCTP checksum is the CRC32c of the packet with a checksum field of zero, whatever the field holds", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 12, maxLength: 80, size: "max" }),
      fc.integer({ min: 0, max: 5 }),
      (data, from) => {
        const bytes = new Uint8Array(from + data.length);
        bytes.set(data, from);
        const cleared = [...data].map((byte, i) => (i >= 8 && i < 12 ? 0 : byte));
        assert.equal(sctpChecksum(bytes, from, from + data.length), crc32c(cleared));
      },
    ),
  );
});
