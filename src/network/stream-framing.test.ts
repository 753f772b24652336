import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FRAME_PREFIX_BYTES, StreamDecoder, writeStreamFrame } from "./stream-framing.ts";

function encode(frames: readonly Uint8Array[]): Uint8Array {
  const stream = new Uint8Array(frames.reduce((sum, frame) => sum + FRAME_PREFIX_BYTES + frame.length, 0));
  let at = 0;
  for (const frame of frames) at = writeStreamFrame(stream, at, frame);
  assert.equal(at, stream.length);
  return stream;
}

function* chunksOf(stream: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  let at = 0;
  for (let i = 0; at < stream.length; i++) {
    const size = sizes.length === 0 ? stream.length : (sizes[i % sizes.length] ?? 1);
    // A buffer that is overwritten afterwards, as sockets may do: the decoder must not keep it.
    const chunk = stream.slice(at, at + size);
    yield chunk;
    chunk.fill(0xee);
    at += size;
  }
}

const framesOf = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 });
const sizesOf = fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 6 });

test("frames come out as they went in, however the stream is cut", () => {
  fc.assert(
    fc.property(framesOf, sizesOf, (frames, sizes) => {
      const got: Uint8Array[] = [];
      const decoder = new StreamDecoder({ frameBytesMax: 40, onFrame: (frame) => got.push(frame.slice()) });
      for (const chunk of chunksOf(encode(frames), sizes)) assert.equal(decoder.push(chunk), true);
      assert.deepEqual(got, frames);
      assert.equal(decoder.failure, undefined);
    }),
    { numRuns: 1000 },
  );
});

test("a length beyond the limit fails the stream at its offset, after the frames before it, and for good", () => {
  const badLength = fc.integer({ min: 41, max: 0xffff_ffff });
  fc.assert(
    fc.property(framesOf, badLength, sizesOf, fc.uint8Array({ maxLength: 80 }), (frames, length, sizes, rest) => {
      const good = encode(frames);
      const stream = new Uint8Array(good.length + 4 + rest.length);
      stream.set(good);
      new DataView(stream.buffer).setUint32(good.length, length);
      stream.set(rest, good.length + 4);
      const got: Uint8Array[] = [];
      const decoder = new StreamDecoder({ frameBytesMax: 40, onFrame: (frame) => got.push(frame.slice()) });
      let alive = true;
      for (const chunk of chunksOf(stream, sizes)) {
        const result = decoder.push(chunk);
        assert.ok(alive || !result, "a failed stream came back to life");
        alive = result;
      }
      assert.equal(alive, false);
      assert.deepEqual(got, frames);
      assert.deepEqual(decoder.failure, { announcedBytes: length, streamOffset: good.length });
    }),
    { numRuns: 1000 },
  );
});

test("arbitrary bytes never make the decoder throw or hand out a frame beyond the limit", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 10 }), (chunks) => {
      const decoder = new StreamDecoder({ frameBytesMax: 30, onFrame: (frame) => assert.ok(frame.length <= 30) });
      for (const chunk of chunks) {
        // Make plausible lengths common.
        if (chunk.length > 4 && (chunk[4] ?? 0) < 200) chunk.fill(0, 0, 3);
        decoder.push(chunk);
      }
    }),
    { numRuns: 2000 },
  );
});
