import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MessageAssembler } from "./framing.ts";
import { anyMessage, concatenate, encodeMessage, keep, messageOf, type TestMessage } from "./messages.fixture.ts";

interface Chunk {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
}

interface Delivered {
  readonly message: TestMessage;
  readonly descriptors: readonly number[];
}

/** An assembler for messages of up to 100 bytes with up to 4 descriptors, and all that comes out of it. */
function collect(onMessage: (assembler: MessageAssembler) => void = () => undefined): {
  readonly assembler: MessageAssembler;
  readonly delivered: Delivered[];
  readonly dropped: number[];
} {
  const delivered: Delivered[] = [];
  const dropped: number[] = [];
  const assembler = new MessageAssembler({
    messageBytesMax: 100,
    descriptorsMax: 4,
    onMessage(message) {
      delivered.push({ message: keep(message), descriptors: message.descriptors });
      onMessage(assembler);
    },
    onDropped: (descriptors) => dropped.push(...descriptors),
  });
  return { assembler, delivered, dropped };
}

/** Gives a chunk to the assembler and writes over it afterwards, as the next recvmsg(2) does. */
function push(assembler: MessageAssembler, { bytes, descriptors }: Chunk): string | undefined {
  const copy = bytes.slice();
  const problem = assembler.push(copy, descriptors);
  copy.fill(0xee);
  return problem;
}

/** Reads pieces that were sent as the kernel does: into a buffer, until it is full or a piece had descriptors. */
function* receive(pieces: readonly Chunk[], bufferSizes: readonly number[]): Generator<Chunk> {
  const waiting = [...pieces];
  for (let i = 0; waiting.length > 0; i++) {
    const room = bufferSizes[i % bufferSizes.length] ?? 1;
    const parts: Uint8Array[] = [];
    let taken = 0;
    let descriptors: readonly number[] = [];
    while (taken < room && descriptors.length === 0) {
      const piece = waiting.shift();
      if (piece === undefined) break;
      const part = piece.bytes.subarray(0, room - taken);
      parts.push(part);
      taken += part.length;
      descriptors = piece.descriptors;
      const rest = piece.bytes.subarray(part.length);
      if (rest.length > 0) waiting.unshift({ bytes: rest, descriptors: [] });
    }
    yield { bytes: concatenate(parts), descriptors };
  }
}

const sending = fc.record({
  message: anyMessage(84),
  descriptorCount: fc.integer({ min: 0, max: 4 }),
  /** Where the message is cut into two sendmsg(2) calls, and which of the two has the descriptors. */
  cutAt: fc.integer({ min: 0, max: 100 }),
  isWithFirst: fc.boolean(),
});

test("every message comes out once, in order, with the descriptors it was sent with, however the stream is cut", () => {
  const bufferSizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(sending, { maxLength: 12 }), bufferSizes, (sendings, sizes) => {
      let next = 10;
      const expected: Delivered[] = [];
      const pieces: Chunk[] = [];
      for (const { message, descriptorCount, cutAt, isWithFirst } of sendings) {
        const descriptors = Array.from({ length: descriptorCount }, () => next++);
        expected.push({ message, descriptors });
        const bytes = encodeMessage(message);
        const at = cutAt % bytes.length;
        if (at > 0) pieces.push({ bytes: bytes.subarray(0, at), descriptors: isWithFirst ? descriptors : [] });
        pieces.push({ bytes: bytes.subarray(at), descriptors: at > 0 && isWithFirst ? [] : descriptors });
      }
      const sent = pieces.filter((piece) => piece.bytes.length > 0);
      const { assembler, delivered, dropped } = collect();
      for (const chunk of receive(sent, sizes)) assert.equal(push(assembler, chunk), undefined);
      assert.deepEqual(delivered, expected);
      assert.deepEqual(dropped, []);
    }),
    { numRuns: 1000 },
  );
});

test("a size that is not allowed ends the stream for good, after the messages before it", () => {
  const badSize = fc.oneof(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 101, max: 0xffff_ffff }));
  const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(anyMessage(84), { maxLength: 6 }), badSize, sizes, (messages, size, bufferSizes) => {
      const stream = concatenate([
        ...messages.map((message) => encodeMessage(message)),
        encodeMessage(messageOf(1, new Uint8Array(40)), size),
        encodeMessage(messageOf(2)),
      ]);
      const { assembler, delivered } = collect();
      let problem: string | undefined;
      for (const chunk of receive([{ bytes: stream, descriptors: [] }], bufferSizes)) {
        const now = push(assembler, chunk);
        assert.ok(problem === undefined || now === problem, "a broken stream came back to life");
        problem = now;
      }
      assert.match(problem ?? "", new RegExp(`a message of ${size} bytes, where 16 to 100 are allowed`));
      assert.deepEqual(
        delivered.map(({ message }) => message),
        messages,
      );
    }),
    { numRuns: 500 },
  );
});

test("whatever arrives, every descriptor is handed out or dropped, and exactly once", () => {
  const chunk = fc.record({
    bytes: fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      anyMessage(84).map((message) => encodeMessage(message)),
      fc.array(anyMessage(20), { maxLength: 4 }).map((messages) => concatenate(messages.map((m) => encodeMessage(m)))),
    ),
    descriptorCount: fc.integer({ min: 0, max: 5 }),
  });
  const stopAfter = fc.integer({ min: 1, max: 20 });
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 10 }), stopAfter, (chunks, messagesMax) => {
      let next = 10;
      let count = 0;
      const { assembler, delivered, dropped } = collect((stopped) => {
        count++;
        if (count === messagesMax) stopped.stop();
      });
      for (const { bytes, descriptorCount } of chunks) {
        push(assembler, { bytes, descriptors: Array.from({ length: descriptorCount }, () => next++) });
      }
      assembler.stop();
      assert.ok(delivered.length <= messagesMax, "a message was handed out after the end");
      for (const { descriptors } of delivered) assert.ok(descriptors.length <= 4);
      const all = [...dropped, ...delivered.flatMap(({ descriptors }) => descriptors)].sort((a, b) => a - b);
      assert.deepEqual(
        all,
        Array.from({ length: next - 10 }, (_, i) => 10 + i),
      );
    }),
    { numRuns: 2000 },
  );
});

test("a message with more descriptors than allowed ends the stream, and they are dropped", () => {
  const { assembler, delivered, dropped } = collect();
  const bytes = encodeMessage(messageOf(1, new Uint8Array(20)));
  push(assembler, { bytes: bytes.subarray(0, 20), descriptors: [10, 11, 12] });
  const problem = push(assembler, { bytes: bytes.subarray(20), descriptors: [13, 14] });
  assert.match(problem ?? "", /sent 5 descriptors with a message, where 4 are allowed/);
  assert.deepEqual(delivered, []);
  assert.deepEqual(dropped, [10, 11, 12, 13, 14]);
});
