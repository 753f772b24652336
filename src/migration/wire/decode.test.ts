// What the decoder refuses, and with which code: each frame here is well-formed but for one thing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError } from "../../base/errors.ts";
import { writeU32 } from "./bytes.ts";
import { checksum } from "./checksum.ts";
import { FrameDecoder } from "./decode.ts";
import { FrameEncoder } from "./encode.ts";
import type { WireErrorCode } from "./errors.ts";
import { checkedHeaderBytes, headerBytes, headerOffsets, messageNumbers } from "./frame.ts";
import type { Message, MessageKind, MigrationId } from "./protocol.ts";

const migrationId = "00112233445566778899aabbccddeeff" as MigrationId;
const pages: Message = {
  kind: "pages",
  round: 1,
  pageBytes: 64,
  pages: Uint32Array.of(3, 9),
  bytes: new Uint8Array(128).fill(7),
};

function frameOf(message: Message): Uint8Array {
  return new FrameEncoder().encode(message);
}

/** Makes both checksums right again, as a hostile peer would. */
function resealed(frame: Uint8Array): Uint8Array {
  writeU32(frame, headerOffsets.payloadChecksum, checksum(frame.subarray(headerBytes)));
  writeU32(frame, headerOffsets.headerChecksum, checksum(frame.subarray(0, checkedHeaderBytes)));
  return frame;
}

function withByte(message: Message, at: number, value: number): Uint8Array {
  const frame = frameOf(message);
  frame[at] = value;
  return resealed(frame);
}

function withPayload(kind: MessageKind, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(headerBytes + payload.length);
  frame.set(frameOf({ kind: "keepalive" }));
  frame.set(payload, headerBytes);
  frame[headerOffsets.type] = messageNumbers[kind];
  writeU32(frame, headerOffsets.length, payload.length);
  return resealed(frame);
}

function withJson(kind: MessageKind, json: string): Uint8Array {
  return withPayload(kind, new TextEncoder().encode(json));
}

/** The code with which the decoder refuses the frame, or the kind of the message it took. */
function outcomeOf(frame: Uint8Array): string {
  let outcome = "nothing";
  const decoder = new FrameDecoder({
    admit: () => {},
    onMessage: (message) => {
      outcome = message.kind;
    },
  });
  try {
    decoder.push(frame);
  } catch (thrown) {
    assert.ok(thrown instanceof OperationError);
    assert.throws(() => decoder.push(new Uint8Array(1)), thrown, "an error is final");
    assert.throws(() => decoder.end(), thrown);
    outcome = thrown.code;
  }
  return outcome;
}

const hello = '{"minVersion":1,"maxVersion":1,"capabilities":[],"program":"p"}';
const pagesTable = headerBytes + 8 + 128;

const refused: readonly (readonly [what: string, code: WireErrorCode, frame: Uint8Array])[] = [
  ["a foreign protocol", "wire-magic", new TextEncoder().encode("SSH-2.0-OpenSSH_9.2\r\n")],
  ["a foreign protocol that says one byte", "wire-magic", Uint8Array.of(0x16)],
  ["message number 0", "wire-type", withByte({ kind: "keepalive" }, headerOffsets.type, 0)],
  ["an unknown message number", "wire-type", withByte({ kind: "keepalive" }, headerOffsets.type, 20)],
  ["a flag", "wire-reserved", withByte({ kind: "keepalive" }, headerOffsets.flags, 1)],
  ["a stream other than 0", "wire-reserved", withByte({ kind: "keepalive" }, headerOffsets.stream, 1)],
  ["a frame out of sequence", "wire-sequence", withByte({ kind: "keepalive" }, headerOffsets.sequence, 1)],
  ["a payload where none belongs", "wire-length", withPayload("go", new Uint8Array(1))],
  ["a payload longer than its kind allows", "wire-length", withByte(pages, headerOffsets.length + 3, 0xff)],
  ["a round-end that is one byte short", "wire-length", withPayload("round-end", new Uint8Array(15))],
  ["a page size of 32 bytes", "wire-payload", withByte(pages, headerBytes + 6, 5)],
  ["a page size of 2^250 bytes", "wire-payload", withByte(pages, headerBytes + 6, 250)],
  ["no pages", "wire-payload", withByte(pages, headerBytes + 4, 0)],
  ["more pages than the payload holds", "wire-payload", withByte(pages, headerBytes + 4, 3)],
  ["257 pages", "wire-payload", withByte(pages, headerBytes + 5, 1)],
  ["a page twice", "wire-payload", withByte(pages, pagesTable, 9)],
  ["pages that descend", "wire-payload", withByte(pages, pagesTable, 10)],
  ["a reserved byte of pages", "wire-reserved", withByte(pages, headerBytes + 7, 1)],
  ["an empty range", "wire-payload", withPayload("zero-pages", Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0, ...range(0, 0)))],
  [
    "ranges that overlap",
    "wire-payload",
    withPayload("zero-pages", Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, ...range(4, 3), ...range(6, 1))),
  ],
  [
    "fewer ranges than announced",
    "wire-payload",
    withPayload("zero-pages", Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, ...range(0, 1))),
  ],
  [
    "a reserved byte of zero-pages",
    "wire-reserved",
    withPayload("zero-pages", Uint8Array.of(1, 0, 0, 0, 1, 0, 1, 0, ...range(0, 1))),
  ],
  [
    "a machine state of 4 GiB",
    "wire-payload",
    withPayload("machine-state", Uint8Array.of(255, 255, 255, 255, 0, 0, 0, 0, 1)),
  ],
  ["a VF state of 16 MiB", "wire-payload", withPayload("vf-state", Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 1))],
  ["a part behind its total", "wire-payload", withPayload("vf-state", Uint8Array.of(2, 0, 0, 0, 2, 0, 0, 0, 1))],
  [
    "outcome number 0",
    "wire-payload",
    withByte({ kind: "outcome", migrationId, outcome: "running" }, headerBytes + 16, 0),
  ],
  [
    "outcome number 4",
    "wire-payload",
    withByte({ kind: "outcome", migrationId, outcome: "running" }, headerBytes + 16, 4),
  ],
  [
    "a reserved byte of outcome",
    "wire-reserved",
    withByte({ kind: "outcome", migrationId, outcome: "running" }, headerBytes + 23, 1),
  ],
  ["bytes that are not UTF-8", "wire-payload", withPayload("hello", Uint8Array.of(0xff, 0xfe))],
  ["text that is not JSON", "wire-payload", withJson("hello", "{}}")],
  ["JSON behind a byte order mark", "wire-payload", withJson("hello", `\u{feff}${hello}`)],
  ["JSON with white space", "wire-payload", withJson("hello", ` ${hello}`)],
  ["JSON with something behind it", "wire-payload", withJson("hello", `${hello}\n`)],
  ["JSON with a key twice", "wire-payload", withJson("hello", hello.replace("{", '{"minVersion":1,'))],
  ["JSON with its keys in another order", "wire-payload", withJson("abort", '{"message":"","code":"a"}')],
  ["an unknown key", "wire-payload", withJson("abort", '{"code":"a","message":"","more":1}')],
  ["a key __proto__", "wire-payload", withJson("abort", '{"code":"a","message":"","__proto__":{}}')],
  ["a fact called constructor", "wire-payload", withJson("ready", '{"partsMs":{"constructor":1}}')],
  ["another spelling of a number", "wire-payload", withJson("ready", '{"partsMs":{"load":1.0}}')],
  ["another spelling of a character", "wire-payload", withJson("abort", String.raw`{"code":"\u0061","message":""}`)],
  ["a negative duration", "wire-payload", withJson("ready", '{"partsMs":{"load":-1}}')],
  ["a number too large to be one", "wire-payload", withJson("ready", '{"partsMs":{"load":1e999}}')],
  [
    "an escape sequence for the terminal",
    "wire-payload",
    withJson("abort", String.raw`{"code":"a","message":"\u001b[2J"}`),
  ],
  ["text that reverses what follows", "wire-payload", withJson("abort", '{"code":"a","message":"\u{202e}"}')],
  ["half a character", "wire-payload", withJson("abort", String.raw`{"code":"a","message":"\ud800"}`)],
  ["deeply nested JSON", "wire-payload", withJson("hello", "[".repeat(4096))],
  ["an empty version range", "wire-payload", withJson("hello", hello.replace('"minVersion":1', '"minVersion":2'))],
  ["capabilities that are not sorted", "wire-payload", withJson("hello", hello.replace("[]", '["b","a"]'))],
];

function range(start: number, count: number): number[] {
  return [start, 0, 0, 0, count, 0, 0, 0];
}

for (const [what, code, frame] of refused) {
  test(`${what} is refused with ${code}`, () => {
    assert.equal(outcomeOf(frame), code);
  });
}

test("a damaged header and a damaged payload are refused with wire-checksum", () => {
  const header = frameOf(pages);
  header[headerOffsets.length] = 1;
  assert.equal(outcomeOf(header), "wire-checksum");
  const payload = frameOf(pages);
  payload[payload.length - 1] = 1;
  assert.equal(outcomeOf(payload), "wire-checksum");
});

test("the frames of this test are taken when nothing is wrong with them", () => {
  assert.equal(outcomeOf(frameOf(pages)), "pages");
  assert.equal(outcomeOf(withJson("hello", hello)), "hello");
  assert.equal(
    outcomeOf(withPayload("zero-pages", Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0, ...range(0, 1)))),
    "zero-pages",
  );
  assert.equal(outcomeOf(withPayload("vf-state", Uint8Array.of(2, 0, 0, 0, 1, 0, 0, 0, 1))), "vf-state");
});

test("a frame that may not come is refused before a byte of its payload is kept", () => {
  const refusal = new OperationError({ code: "no", message: "no", advice: "no" });
  const decoder = new FrameDecoder({
    admit: () => {
      throw refusal;
    },
    onMessage: () => assert.fail("nothing was admitted"),
  });
  const heldBytes = decoder.heldBytes;
  assert.throws(() => decoder.push(frameOf(pages).subarray(0, headerBytes + 10)), refusal);
  assert.equal(decoder.heldBytes, heldBytes);
});

test("an announced megabyte costs no more than what came of it", () => {
  const decoder = new FrameDecoder({ admit: () => {}, onMessage: () => {} });
  const frame = frameOf({ kind: "machine-state", totalBytes: 1 << 20, offset: 0, bytes: new Uint8Array(1 << 20) });
  decoder.push(frame.subarray(0, headerBytes + 10_000));
  assert.ok(decoder.heldBytes <= 20_000 + headerBytes, `${decoder.heldBytes} bytes are held`);
});

test("a decoder that was stopped looks at nothing any more, not even the rest of its chunk", () => {
  let messages = 0;
  const decoder: FrameDecoder = new FrameDecoder({
    admit: () => {},
    onMessage: () => {
      messages++;
      decoder.stop();
    },
  });
  const encoder = new FrameEncoder();
  const two = Buffer.concat([encoder.encode({ kind: "keepalive" }), encoder.encode({ kind: "keepalive" })]);
  decoder.push(Buffer.concat([two, new TextEncoder().encode("and rubbish")]));
  decoder.push(new TextEncoder().encode("more rubbish"));
  decoder.end();
  assert.equal(messages, 1);
});
