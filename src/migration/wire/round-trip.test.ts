// Every message survives the wire, in any chunks, has one encoding, and no prefix of a stream passes for a whole.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import { machineKinds } from "../../machine/machine.ts";
import { FrameDecoder } from "./decode.ts";
import { FrameEncoder } from "./encode.ts";
import { messageNumbers, payloadLengths } from "./frame.ts";
import { outcomes, type Message, type MigrationId } from "./protocol.ts";

const kebab = fc.stringMatching(/^[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,3}$/);
const camel = fc
  .stringMatching(/^[a-z][A-Za-z0-9]{0,20}$/)
  .filter((name) => name !== "constructor" && name !== "prototype");
const text = (charactersMax: number): fc.Arbitrary<string> =>
  fc
    .string({ unit: "grapheme", maxLength: charactersMax / 4 })
    .filter((value) => value.length <= charactersMax && !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/u.test(value));
const u32 = fc.nat({ max: 0xffff_ffff });
const migrationId = fc.stringMatching(/^[0-9a-f]{32}$/).map((digits) => digits as MigrationId);
const version = fc.integer({ min: 1, max: 0xffff });
const capabilities = fc.uniqueArray(kebab, { maxLength: 32 }).map((names) => names.toSorted());
const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (value === 0 ? 0 : value));

const milliseconds = fc.double({ min: 0, max: 1e9, noNaN: true }).map(Math.abs);

const pages = fc
  .record({ shift: fc.integer({ min: 6, max: 10 }), pages: fc.uniqueArray(u32, { minLength: 1, maxLength: 20 }) })
  .chain(({ shift, pages: numbers }) => {
    const length = numbers.length * 2 ** shift;
    const bytes = fc.uint8Array({ minLength: length, maxLength: length, size: "max" });
    return fc.record({
      kind: fc.constant("pages" as const),
      round: u32,
      pageBytes: fc.constant(2 ** shift),
      pages: fc.constant(Uint32Array.from(numbers.toSorted((a, b) => a - b))),
      bytes,
    });
  });

/** Ascending ranges from gaps and lengths. */
const ranges = fc
  .array(fc.tuple(fc.nat({ max: 1000 }), fc.integer({ min: 1, max: 1000 })), { minLength: 1, maxLength: 40 })
  .map((steps) => {
    let end = 0;
    return Uint32Array.from(
      steps.flatMap(([gap, count]) => {
        const start = end + gap;
        end = start + count;
        return [start, count];
      }),
    );
  });

const statePart = fc.uint8Array({ minLength: 1, maxLength: 300 }).chain((bytes) =>
  fc.record({
    kind: fc.constantFrom("machine-state" as const, "vf-state" as const),
    totalBytes: fc.integer({ min: bytes.length + 200, max: 1024 * 1024 }),
    offset: fc.nat({ max: 200 }),
    bytes: fc.constant(bytes),
  }),
);

const offer = fc
  .record({ shift: fc.integer({ min: 6, max: 16 }), pageCount: fc.integer({ min: 1, max: 100_000 }) })
  .chain(({ shift, pageCount }) =>
    fc.record({
      kind: fc.constant("offer" as const),
      migrationId,
      machine: fc.constantFrom(...machineKinds),
      memoryBytes: fc.constant(pageCount * 2 ** shift),
      pageBytes: fc.constant(2 ** shift),
      strategy: kebab,
      vfModel: kebab,
      vfStateVersion: fc.nat({ max: 0xffff }),
      machineStateVersion: fc.nat({ max: 0xffff }),
      queuePairs: fc.nat({ max: 255 }),
      mac: fc.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/),
    }),
  );

const bare = fc.constantFrom<Message>(
  { kind: "accept" },
  { kind: "go" },
  { kind: "running" },
  { kind: "goodbye" },
  { kind: "keepalive" },
);

const message: fc.Arbitrary<Message> = fc.oneof(
  bare,
  fc.tuple(version, version, capabilities, text(128)).map(([a, b, names, program]): Message => {
    return {
      kind: "hello",
      minVersion: Math.min(a, b),
      maxVersion: Math.max(a, b),
      capabilities: names,
      program,
    };
  }),
  fc.record({ kind: fc.constant("hello-ack" as const), version, capabilities, program: text(128) }),
  offer,
  pages,
  fc.record({ kind: fc.constant("zero-pages" as const), round: u32, ranges }),
  fc.record({ kind: fc.constant("round-end" as const), round: u32, pages: u32, zeroPages: u32, dirtyAfter: u32 }),
  statePart,
  fc.record({ kind: fc.constant("end-of-state" as const), machineStateBytes: u32, vfStateBytes: u32 }),
  fc.record({
    kind: fc.constant("ready" as const),
    partsMs: fc.dictionary(camel, milliseconds, { maxKeys: 32, noNullPrototype: true }),
  }),
  fc.record({ kind: fc.constant("abort" as const), code: kebab, message: text(512) }),
  fc.record({
    kind: fc.constant("error" as const),
    code: kebab,
    message: text(512),
    advice: text(256),
    facts: fc.dictionary(camel, fc.oneof(text(128), finite, fc.boolean()), { maxKeys: 16, noNullPrototype: true }),
  }),
  fc.record({ kind: fc.constant("query-outcome" as const), migrationId }),
  fc.record({ kind: fc.constant("outcome" as const), migrationId, outcome: fc.constantFrom(...outcomes) }),
);

/** A message with arrays of its own, for keeping it beyond the handler. */
function kept(view: Message): Message {
  return structuredClone(view);
}

function decoderInto(messages: Message[]): FrameDecoder {
  return new FrameDecoder({ admit: () => {}, onMessage: (view) => void messages.push(kept(view)) });
}

function encodeAll(messages: readonly Message[]): Uint8Array {
  const encoder = new FrameEncoder();
  return Buffer.concat(messages.map((each) => encoder.encode(each)));
}

/** Pushes the stream in chunks of the given sizes, taken in turn, and overwrites each chunk afterwards. */
function pushInChunks(decoder: FrameDecoder, stream: Uint8Array, sizes: readonly number[]): void {
  for (let at = 0, turn = 0; at < stream.length; turn++) {
    const chunk = stream.slice(at, at + (sizes[turn % sizes.length] ?? 1));
    decoder.push(chunk);
    chunk.fill(0xa5);
    at += chunk.length;
  }
}

test("every message comes out of the wire as it went in, whatever the chunks", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 10 }),
      (messages, sizes) => {
        const decoded: Message[] = [];
        const decoder = decoderInto(decoded);
        pushInChunks(decoder, encodeAll(messages), sizes);
        decoder.end();
        assert.deepEqual(decoded, messages.map(kept));
        for (const each of messages) seen.add(each.kind);
      },
    ),
    { seed: 20_261_123, numRuns: 500 },
  );
  assert.deepEqual([...seen].toSorted(), Object.keys(messageNumbers).toSorted(), "a message was never tried");
});

test("a decoded message encodes to the very bytes it came from", () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), (messages) => {
      const stream = encodeAll(messages);
      const decoded: Message[] = [];
      decoderInto(decoded).push(stream);
      assert.deepEqual(Buffer.from(encodeAll(decoded)), Buffer.from(stream));
    }),
    { seed: 20_261_124, numRuns: 300 },
  );
});

test("a payload that lies in one chunk is decoded where it lies", () => {
  const stream = new Uint8Array(encodeAll([{ ...samplePages, bytes: new Uint8Array(128).fill(7) }]));
  let buffer: ArrayBufferLike | undefined;
  const decoder = new FrameDecoder({
    admit: () => {},
    onMessage: (view) => {
      if (view.kind === "pages") buffer = view.bytes.buffer;
    },
  });
  decoder.push(stream);
  assert.equal(buffer, stream.buffer);
});

const samplePages = { kind: "pages", round: 1, pageBytes: 64, pages: Uint32Array.of(3, 9) } as const;

test("every prefix of a stream is incomplete and ends in a typed error, except at the end of a frame", () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 3 }), (messages) => {
      const encoder = new FrameEncoder();
      const frames = messages.map((each) => encoder.encode(each));
      const boundaries = new Set([0]);
      for (let i = 0, at = 0; i < frames.length; i++) boundaries.add((at += frames[i]?.length ?? 0));
      const stream = Buffer.concat(frames);
      for (let length = 0; length < stream.length; length += length < 200 ? 1 : 61) {
        const decoder = decoderInto([]);
        decoder.push(stream.subarray(0, length));
        if (boundaries.has(length)) decoder.end();
        else assert.throws(() => decoder.end(), isWireError("wire-incomplete"));
      }
    }),
    { seed: 20_261_125, numRuns: 60 },
  );
});

test("any bit that flips in a stream is found, and the decoder never holds more than twice what came", () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 3 }), fc.nat(), fc.nat(), (messages, place, chunk) => {
      const stream = new Uint8Array(encodeAll(messages));
      const bit = place % (8 * stream.length);
      stream[bit >>> 3] = (stream[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      const decoder = decoderInto([]);
      assert.throws(
        () => {
          pushInChunks(decoder, stream, [1 + (chunk % 300)]);
          decoder.end();
        },
        (error) => error instanceof OperationError,
      );
      assert.ok(decoder.heldBytes <= Math.max(4096, 2 * stream.length) + 24);
    }),
    { seed: 20_261_126, numRuns: 500 },
  );
});

test("the longest control messages fit their payload limit", () => {
  const wide = "\u{ffff}";
  const facts = Object.fromEntries(
    Array.from({ length: 16 }, (_, i) => [`k${String(i).padStart(31, "0")}`, wide.repeat(128)]),
  );
  const longest: Message = {
    kind: "error",
    code: "x".repeat(64),
    message: wide.repeat(512),
    advice: wide.repeat(256),
    facts,
  };
  assert.ok(new FrameEncoder().encode(longest).length <= payloadLengths.error.maxBytes);
});

function isWireError(code: string): (error: unknown) => boolean {
  return (error) => error instanceof OperationError && error.code === code;
}
