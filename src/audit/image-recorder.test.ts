import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { pageGeometry } from "../memory/geometry.ts";
import { deserializeImage, ImageRecorder, serializeImage } from "./image-recorder.ts";

const memoryBytes = 1024;
const pages = pageGeometry(memoryBytes, 64);

function recorded(): ImageRecorder {
  const recorder = new ImageRecorder(pages);
  recorder.page(3, new Uint8Array(64).fill(1));
  recorder.page(5, new Uint8Array(64).fill(2));
  recorder.page(
    15,
    Uint8Array.from({ length: 64 }, (_, index) => (index === 63 ? 1 : 0)),
  );
  recorder.zeroPage(5);
  return recorder;
}

test("an image keeps the last content of each page, and only pages that are not zero travel", () => {
  const recorder = recorded();
  const expected = new Uint8Array(memoryBytes);
  expected.fill(1, 3 * 64, 4 * 64);
  expected[memoryBytes - 1] = 1;
  assert.deepEqual(recorder.bytes, expected);
  const bytes = serializeImage(recorder.bytes, 64);
  assert.equal(bytes.length, 20 + 2 * (4 + 64));
  assert.deepEqual(deserializeImage(bytes, memoryBytes), expected);
});

test("damaged images are refused with image-invalid or read as an image of the right size", () => {
  const damage = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { minLength: 1, maxLength: 3 });
  let refused = 0;
  fc.assert(
    fc.property(damage, fc.option(fc.nat(200)), (changes, cutAt) => {
      const bytes = serializeImage(recorded().bytes, 64);
      for (const [at, value] of changes) bytes[at] = value;
      try {
        const image = deserializeImage(cutAt === null ? bytes : bytes.subarray(0, cutAt), memoryBytes);
        assert.equal(image.length, memoryBytes);
      } catch (error) {
        assert.ok(error instanceof OperationError && error.code === "image-invalid", String(error));
        refused++;
      }
    }),
    { numRuns: 500 },
  );
  assert.ok(refused > 200, `only ${refused} refused`);
});
