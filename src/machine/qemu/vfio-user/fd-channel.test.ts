// Descriptors that come with messages, and none that stays behind, over real sockets and files in memory.
import assert from "node:assert/strict";
import { fstatSync } from "node:fs";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { nativeOrNotRun, openDescriptors } from "../native.fixture.ts";
import type { Native } from "../native.ts";
import { serve, TestClient, until, type Served } from "./channel.fixture.ts";
import type { ListenOptions } from "./channel.ts";
import { errno } from "./descriptor-sockets.ts";
import { listenWithDescriptors } from "./fd-channel.ts";
import { anyMessage, concatenate, encodeMessage, messageOf } from "./messages.fixture.ts";

interface Pair {
  readonly native: Native;
  readonly client: TestClient;
  readonly server: Served;
}

/** A client and its connection at the server; both are closed with the test. */
async function connected(t: TestContext, options: Partial<ListenOptions> = {}): Promise<Pair | undefined> {
  const native = nativeOrNotRun(t);
  if (native === undefined) return undefined;
  const { path, served } = await serve(t, (all) => listenWithDescriptors(native, all), options);
  const client = new TestClient(native, path);
  t.after(() => client.close());
  await until(() => served.length === 1);
  const [server] = served as [Served];
  return { native, client, server };
}

function inodes(descriptors: readonly number[]): bigint[] {
  return descriptors.map((descriptor) => fstatSync(descriptor, { bigint: true }).ino);
}

/** Files to send, closed with the test. */
function memfds(t: TestContext, native: Native, count: number): number[] {
  const descriptors = Array.from({ length: count }, (_, i) => native.memfd(`file ${i}`, 4096));
  t.after(() => descriptors.forEach((descriptor) => native.closeDescriptor(descriptor)));
  return descriptors;
}

const limited = { timeout: 60_000 };

test("the server gets the files that the client sent with a message, as descriptors of its own", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { native, client, server } = pair;
  const files = memfds(t, native, 3);
  await client.send(encodeMessage(messageOf(1)));
  await client.send(encodeMessage(messageOf(2, new Uint8Array(40))), files);
  await client.send(encodeMessage(messageOf(3)));
  await until(() => server.messages.length === 3);
  const [first, second, third] = server.descriptors;
  assert.deepEqual([first, third], [[], []]);
  assert.deepEqual(inodes(second ?? []), inodes(files));
  assert.ok((second ?? []).every((descriptor) => !files.includes(descriptor)));
  const before = openDescriptors();
  server.channel.closeDescriptors(second ?? []);
  assert.equal(openDescriptors(), before - 3);
});

test("descriptors keep to their messages however the sender cuts and batches, and none leaks", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { native, client, server } = pair;
  const files = memfds(t, native, 3);
  const sending = fc.record({
    message: fc.oneof({ weight: 5, arbitrary: anyMessage(60) }, { weight: 1, arbitrary: anyMessage(200_000) }),
    files: fc.subarray(files),
    /** How much of the message is sent with the messages before it, which brought no descriptors. */
    cutAt: fc.nat(),
    hasPause: fc.boolean(),
  });
  const before = openDescriptors();
  await fc.assert(
    fc.asyncProperty(fc.array(sending, { maxLength: 10 }), async (sendings) => {
      for (const { message, files: chosen, cutAt, hasPause } of sendings) {
        const bytes = encodeMessage(message);
        const at = cutAt % bytes.length;
        if (at > 0) await client.send(bytes.subarray(0, at));
        if (hasPause) await nextTurn();
        await client.send(bytes.subarray(at), chosen);
      }
      await until(() => server.messages.length === sendings.length);
      const [messages, descriptors] = [server.messages.splice(0), server.descriptors.splice(0)];
      assert.deepEqual(
        messages,
        sendings.map(({ message }) => message),
      );
      const expected = sendings.map((one) => inodes(one.files));
      assert.deepEqual(
        descriptors.map((some) => inodes(some)),
        expected,
      );
      for (const some of descriptors) server.channel.closeDescriptors(some);
      assert.equal(openDescriptors(), before);
    }),
    { numRuns: 60 },
  );
  assert.deepEqual(server.ends, []);
});

test("more descriptors than a message may have end the connection, and none of them stays", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { native, client, server } = pair;
  const files = memfds(t, native, 9);
  const before = openDescriptors();
  await client.send(encodeMessage(messageOf(1)), files);
  await until(() => server.ends.length === 1);
  assert.match(server.ends[0] ?? "", /more descriptors with a message than the 8 allowed/);
  assert.deepEqual(server.messages, []);
  assert.equal(openDescriptors(), before - 1, "only the connection is closed");
});

test("descriptors spread over a message's pieces end the connection when they are too many", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { native, client, server } = pair;
  const files = memfds(t, native, 5);
  const before = openDescriptors();
  const bytes = encodeMessage(messageOf(1, new Uint8Array(100)));
  await client.send(bytes.subarray(0, 50), files);
  await client.send(bytes.subarray(50), files);
  await until(() => server.ends.length === 1);
  assert.match(server.ends[0] ?? "", /sent 10 descriptors with a message, where 8 are allowed/);
  assert.deepEqual(server.messages, []);
  assert.equal(openDescriptors(), before - 1);
});

test("a client that dies takes the descriptors of its last, unfinished message along", limited, async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const { path, served } = await serve(t, (all) => listenWithDescriptors(native, all));
  const files = memfds(t, native, 2);
  const before = openDescriptors();
  const bytes = encodeMessage(messageOf(1, new Uint8Array(100)));
  for (const [i, cut] of [1, 16, 115].entries()) {
    const client = new TestClient(native, path);
    await client.send(bytes.subarray(0, cut), files);
    client.close();
    await until(() => served[i]?.ends.length === 1);
    assert.deepEqual(served[i]?.ends, [undefined]);
    assert.deepEqual(served[i]?.messages, []);
    assert.equal(openDescriptors(), before);
  }
});

test("a server that closes with messages unread leaves none of their descriptors open", limited, async (t) => {
  const closing: Partial<ListenOptions> = {
    onConnection(channel) {
      channel.onMessage = (message) => {
        channel.closeDescriptors(message.descriptors);
        channel.close();
      };
    },
  };
  const pair = await connected(t, closing);
  if (pair === undefined) return;
  const { native, client, server } = pair;
  const files = memfds(t, native, 4);
  const before = openDescriptors();
  for (let i = 0; i < 5; i++) await client.send(encodeMessage(messageOf(i)), files);
  await until(() => server.ends.length === 1);
  assert.deepEqual(server.ends, [undefined]);
  assert.deepEqual(await client.receive(), new Uint8Array(0));
  assert.equal(openDescriptors(), before - 1);
});

test("a client that dies with answers unread is just gone, whatever it sent before", limited, async (t) => {
  const native = nativeOrNotRun(t);
  if (native === undefined) return;
  const { path, served } = await serve(t, (all) => listenWithDescriptors(native, all));
  const client = new TestClient(native, path);
  await until(() => served.length === 1);
  served[0]?.channel.send(encodeMessage(messageOf(1)));
  await client.send(concatenate([encodeMessage(messageOf(2)), encodeMessage(messageOf(3))]));
  client.close();
  await until(() => served[0]?.ends.length === 1);
  assert.deepEqual(served[0]?.ends, [undefined]);
  assert.deepEqual(served[0].messages, [messageOf(2), messageOf(3)]);
});

test("a client that sends without end leaves everyone else their turn", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { client, server } = pair;
  const message = encodeMessage(messageOf(1, new Uint8Array(16)));
  const batch = concatenate(Array.from({ length: 10_000 }, () => message));
  const sending = client.send(concatenate([batch, batch, batch]));
  let seen = 0;
  await until(() => {
    const taken = (server.messages.length - seen) * message.length;
    assert.ok(taken <= 0x1_0000, `${taken} bytes were taken at once`);
    seen = server.messages.length;
    return seen === 30_000;
  });
  await sending;
});

test("answers that wait for a slow reader arrive whole and in order", limited, async (t) => {
  const pair = await connected(t);
  if (pair === undefined) return;
  const { client, server } = pair;
  const answers = Array.from({ length: 40 }, (_, i) => encodeMessage(messageOf(i, new Uint8Array(30_000).fill(i))));
  for (const answer of answers) server.channel.send(answer);
  const expected = concatenate(answers);
  const received: Uint8Array[] = [];
  for (let bytes = 0; bytes < expected.length;) {
    const chunk = await client.receive();
    assert.ok(chunk.length > 0, "the connection was closed");
    received.push(chunk);
    bytes += chunk.length;
  }
  assert.ok(Buffer.from(concatenate(received)).equals(expected));
  assert.deepEqual(server.ends, []);
});

test("a server without a free descriptor takes its clients when there is one again", limited, async (t) => {
  const real = nativeOrNotRun(t);
  if (real === undefined) return;
  let refusals = 3;
  const native = new Proxy(real, {
    get(target, name) {
      if (name === "accept" && refusals > 0) return () => (refusals-- > 0 ? -errno.EMFILE : -errno.EAGAIN);
      return (Reflect.get(target, name) as () => unknown).bind(target);
    },
  });
  const { path, served } = await serve(t, (all) => listenWithDescriptors(native, all));
  const socket = connect(path);
  await until(() => served.length === 1);
  assert.equal(refusals, 0);
  socket.destroy();
});
