// Whole conversations over links that cut the stream into random pieces, break at any byte, or carry what is not legal.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AssertionError } from "../../src/base/assert.ts";
import { OperationError } from "../../src/base/errors.ts";
import { Conversation } from "../../src/migration/wire/conversation.ts";
import { FrameDecoder } from "../../src/migration/wire/decode.ts";
import { FrameEncoder } from "../../src/migration/wire/encode.ts";
import { memoryTransportPair, type MemoryTransportOptions } from "../../src/migration/wire/memory-transport.ts";
import { helloFrom } from "../../src/migration/wire/negotiate.ts";
import type { Message } from "../../src/migration/wire/protocol.ts";
import { offerOf, scriptOf, talkAsDestination, talkAsSource, type EndResult, type Script } from "./scripted-ends.ts";

interface Talk {
  readonly source: EndResult;
  readonly destination: EndResult;
  readonly bytes: { readonly fromSource: number; readonly fromDestination: number };
}

async function talk(script: Script, options: MemoryTransportOptions): Promise<Talk> {
  const { first, second } = memoryTransportPair(options);
  const destination = talkAsDestination(second);
  const source = await talkAsSource(first, script);
  const bytes = { fromSource: first.bytesSent, fromDestination: second.bytesSent };
  return { source, destination: await destination.result, bytes };
}

test("a conversation succeeds in whatever pieces the link delivers it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.nat(), fc.integer({ min: 1, max: 5000 }), async (seed, chunkSeed, chunkBytesMax) => {
      const result = await talk(scriptOf(seed), { chunking: { seed: chunkSeed, chunkBytesMax } });
      assert.deepEqual(result.source, { error: undefined, runsHere: false });
      assert.deepEqual(result.destination, { error: undefined, runsHere: true });
    }),
    { seed: 20_261_130, numRuns: 60 },
  );
});

test("wherever the link breaks, both ends learn it and never do both run the guest", async () => {
  const script: Script = {
    ...scriptOf(7),
    pageCount: 3,
    pageBytes: 64,
    rounds: 1,
    machineStateBytes: 20,
    vfStateBytes: 10,
  };
  const whole = await talk(script, {});
  const seen = new Set<string>();
  for (const side of ["fromSource", "fromDestination"] as const) {
    for (let at = 0; at < whole.bytes[side]; at++) {
      const breakAfterBytes = side === "fromSource" ? { fromFirst: at } : { fromSecond: at };
      const { source, destination } = await talk(script, {
        breakAfterBytes,
        chunking: { seed: at, chunkBytesMax: 50 },
      });
      assert.ok(!(source.runsHere && destination.runsHere), `both run the guest when ${side} breaks at ${at}`);
      assert.ok(source.error !== undefined || destination.error !== undefined);
      seen.add(source.runsHere ? "source" : destination.runsHere ? "destination" : "to be asked");
    }
  }
  assert.deepEqual([...seen].toSorted(), ["destination", "source", "to be asked"]);
});

/** A destination that talks to whoever writes raw frames; resolves with how it ended and what it said last. */
async function confront(messages: readonly Message[]): Promise<{ error: OperationError | undefined; said: Message[] }> {
  const { first, second } = memoryTransportPair();
  const said: Message[] = [];
  const destination = talkAsDestination(second);
  const decoder = new FrameDecoder({ admit: () => {}, onMessage: (message) => void said.push(message) });
  first.start({ onData: (chunk) => decoder.push(chunk), onClose: () => {} });
  const encoder = new FrameEncoder();
  for (const message of messages) void first.send(encoder.encode(message));
  await new Promise((resolve) => void setImmediate(resolve));
  first.close();
  const { error } = await destination.result;
  return { error, said };
}

const hello = helloFrom("raw");
const offer = offerOf({ ...scriptOf(1), pageCount: 10, pageBytes: 64 });

test("a message that is not legal now ends the conversation, and the peer is told which state it was", async () => {
  const { error, said } = await confront([hello, { kind: "go" }]);
  assert.equal(error?.code, "wire-state");
  const last = said.at(-1);
  assert.ok(last?.kind === "error");
  assert.equal(last.code, "wire-state");
  assert.deepEqual(last.facts, { kind: "go", state: "negotiated" });
});

test("a message that contradicts the offer ends the conversation before the handler sees it", async () => {
  const pages: Message = {
    kind: "pages",
    round: 1,
    pageBytes: 64,
    pages: Uint32Array.of(10),
    bytes: new Uint8Array(64),
  };
  const { error } = await confront([hello, offer, pages]);
  assert.equal(error?.code, "wire-contradiction");
});

test("pages longer than the offered page size allows are refused by their header", async () => {
  const count = 256;
  const pages: Message = {
    kind: "pages",
    round: 1,
    pageBytes: 128,
    pages: Uint32Array.from({ length: count }, (_, i) => i),
    bytes: new Uint8Array(128 * count),
  };
  assert.equal((await confront([hello, offer, pages])).error?.code, "wire-length");
});

test("an end with no common version says so in an error that names both ranges", async () => {
  const { error, said } = await confront([{ ...hello, minVersion: 2, maxVersion: 9 }]);
  assert.equal(error?.code, "version-unsupported");
  const last = said.at(-1);
  assert.ok(last?.kind === "error");
  assert.equal(last.facts["sourceMinVersion"], 2);
  assert.equal(last.facts["destinationMaxVersion"], 1);
});

test("an OperationError that a handler throws reaches the peer as it is", async () => {
  const { error, said } = await confront([hello, { ...offer, memoryBytes: 1 << 30 }]);
  assert.equal(error?.code, "no-room");
  assert.deepEqual(said.at(-1), {
    kind: "error",
    code: "no-room",
    message: "There is no room for this machine.",
    advice: "Move it elsewhere.",
    facts: { memoryBytes: 1 << 30 },
  });
});

test("a link that ends in the middle of a frame or of a migration is an error with a code of its own", async () => {
  assert.equal((await confront([hello])).error?.code, "peer-closed");
  const { first, second } = memoryTransportPair();
  first.start({ onData: () => {}, onClose: () => {} });
  const { result } = talkAsDestination(second);
  void first.send(new FrameEncoder().encode(hello).subarray(0, 30));
  first.close();
  assert.equal((await result).error?.code, "wire-incomplete");
});

/** A source and a destination in state ready; what the destination hears after that is looked at by nobody. */
async function pairInReady(): Promise<{
  source: Conversation;
  destination: Conversation;
  ends: (string | undefined)[];
}> {
  const { first, second } = memoryTransportPair();
  const ends: (string | undefined)[] = [];
  const source = new Conversation({ role: "source", transport: first, onEnd: (error) => void ends.push(error?.code) });
  const { conversation: destination } = talkAsDestination(second);
  const send = async (message: Message): Promise<void> => source.send(message);
  await send(hello);
  await source.expect("hello-ack");
  await send(offer);
  await source.expect("accept");
  await send({ kind: "machine-state", totalBytes: 1, offset: 0, bytes: new Uint8Array(1) });
  await send({ kind: "end-of-state", machineStateBytes: 1, vfStateBytes: 0 });
  await source.expect("ready");
  return { source, destination, ends };
}

test("a destination that gives up while go is under way never runs, and the source knows that it may resume", async () => {
  const { source, destination, ends } = await pairInReady();
  void source.send({ kind: "go" });
  destination.fail(new OperationError({ code: "device-gone", message: "The device is gone.", advice: "Plug it in." }));
  await assert.rejects(
    source.expect("running"),
    (error) => error instanceof OperationError && error.code === "device-gone",
  );
  assert.equal(source.peerGaveUp, true);
  assert.equal(destination.state, "failed");
  assert.deepEqual(ends, ["device-gone"]);
  assert.throws(
    () => void source.send({ kind: "keepalive" }),
    (error) => error instanceof OperationError && error.code === "device-gone",
  );
});

test("to send what is not legal now is the programmer's error, and takes no effect", async () => {
  const { source } = await pairInReady();
  assert.throws(() => void source.send({ kind: "goodbye" }), AssertionError);
  void source.send({ kind: "go" });
  assert.throws(() => void source.send({ kind: "abort", code: "cancelled", message: "Too late." }), AssertionError);
  await source.expect("running");
});

test("a silent link is kept alive by keepalives, and ends when the peer stays silent", async () => {
  const { source, destination, ends } = await pairInReady();
  source.tick(0);
  source.tick(5000);
  await Promise.resolve();
  assert.equal(destination.state, "ready");
  const sentBytes = source.bytesSent;
  source.tick(9999);
  assert.equal(source.bytesSent, sentBytes, "a keepalive came too early");
  source.tick(20_000);
  assert.deepEqual(ends, ["peer-silent"]);
});

test("a sender is asked to wait while too much is on its way, and page frames are used again", async () => {
  const pageBytes = 4096;
  const script: Script = { ...scriptOf(1), pageCount: 512, pageBytes };
  const { first, second } = memoryTransportPair();
  const source = new Conversation({ role: "source", transport: first, onEnd: () => {} });
  talkAsDestination(second);
  void source.send(hello);
  await source.expect("hello-ack");
  void source.send({ ...offerOf(script), memoryBytes: 256 * pageBytes });
  await source.expect("accept");
  const memory = new Uint8Array(256 * pageBytes);
  const frames = new Set<unknown>();
  let waits = 0;
  for (let i = 0; i < 12; i++) {
    const frame = source.pagesEncoder({ round: 1 + Math.floor(i / 4), pageBytes });
    frames.add(frame);
    for (let page = 0; page < 256; page++) frame.add(page, memory, page * pageBytes);
    const waiting = source.sendPages(frame);
    if (waiting !== undefined) waits++;
    await waiting;
    if (i % 4 === 3)
      void source.send({ kind: "round-end", round: frame.round, pages: 1024, zeroPages: 0, dirtyAfter: 0 });
  }
  assert.ok(waits > 0 && waits < 12, `${waits} waits`);
  assert.ok(frames.size <= 3, `${frames.size} buffers`);
});
