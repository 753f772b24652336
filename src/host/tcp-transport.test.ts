// TCP on loopback: bytes and their owners, orderly and disorderly ends, and what the system's refusals are called.
import assert from "node:assert/strict";
import { createServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import type { Transport } from "../migration/wire/transport.ts";
import { connectTcp, listenTcp } from "./tcp-transport.ts";

const loopback = { host: "127.0.0.1", port: 0 };

async function joined(context: TestContext): Promise<{ here: Transport; there: Transport }> {
  const accepted = Promise.withResolvers<Transport>();
  const listener = await listenTcp(loopback, (transport) => accepted.resolve(transport));
  context.after(() => listener.close());
  const here = await connectTcp(listener.address);
  return { here, there: await accepted.promise };
}

interface Heard {
  readonly chunks: Uint8Array[];
  readonly end: Promise<OperationError | undefined>;
}

function listen(transport: Transport): Heard {
  const chunks: Uint8Array[] = [];
  const { promise, resolve } = Promise.withResolvers<OperationError | undefined>();
  let ends = 0;
  transport.start({
    onData: (chunk) => void chunks.push(chunk.slice()),
    onClose: (error) => {
      assert.equal(++ends, 1, "the end came twice");
      resolve(error);
    },
  });
  return { chunks, end: promise };
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof OperationError && error.code === code;
}

test("every byte arrives in order, from one buffer that is used again whenever it is given back", async (context) => {
  const { here, there } = await joined(context);
  const received = listen(there);
  const back = listen(here);
  const random = new SeededRandom(5);
  const buffer = new Uint8Array(300_000);
  const sent: Uint8Array[] = [];
  for (let i = 0; i < 40; i++) {
    const part = buffer.subarray(0, 1 + random.below(buffer.length));
    part.fill(random.u32());
    sent.push(part.slice());
    await here.send(part);
  }
  here.close();
  assert.equal(await received.end, undefined);
  assert.equal(await back.end, undefined);
  assert.ok(Buffer.concat(sent).equals(Buffer.concat(received.chunks)), "the stream is not the same");
  assert.equal(here.bytesSent, there.bytesReceived);
});

test("whoever closes with unread bytes before it still gets its last word through", async (context) => {
  const { here, there } = await joined(context);
  const heardHere = listen(here);
  listen(there);
  const flood = Array.from({ length: 64 }, () => here.send(new Uint8Array(256 * 1024)));
  void there.send(Uint8Array.of(1, 2, 3));
  there.close();
  assert.equal(await heardHere.end, undefined);
  assert.deepEqual(Buffer.concat(heardHere.chunks), Buffer.of(1, 2, 3));
  for (const sending of flood) await sending;
});

test("a sender that is not read is made to wait, and its promises resolve when the link ends", async (context) => {
  const { here, there } = await joined(context);
  const heard = listen(here);
  const waiting = Array.from({ length: 64 }, () => here.send(new Uint8Array(1024 * 1024)));
  assert.ok(waiting.some((promise) => promise !== undefined));
  there.close();
  await heard.end;
  for (const promise of waiting) await promise;
  assert.equal(here.send(new Uint8Array(1)), undefined);
});

test("a connection that is reset is peer-closed", async (context) => {
  const server = createServer((socket) => void socket.once("data", () => socket.resetAndDestroy()));
  context.after(() => server.close());
  await new Promise<void>((resolve) => void server.listen(loopback, resolve));
  const { port } = server.address() as AddressInfo;
  const transport = await connectTcp({ host: "127.0.0.1", port });
  const heard = listen(transport);
  void transport.send(Uint8Array.of(1));
  assert.ok(hasCode("peer-closed")(await heard.end));
});

test("connecting where nobody listens is peer-refused, to a name nobody has is peer-unreachable", async () => {
  const listener = await listenTcp(loopback, () => {});
  listener.close();
  await assert.rejects(connectTcp(listener.address), hasCode("peer-refused"));
  await assert.rejects(connectTcp({ host: "underway.invalid", port: 1 }), hasCode("peer-unreachable"));
});

test("listening on a taken port is address-in-use, on a foreign address address-unavailable", async (context) => {
  const listener = await listenTcp(loopback, () => {});
  context.after(() => listener.close());
  await assert.rejects(
    listenTcp(listener.address, () => {}),
    hasCode("address-in-use"),
  );
  await assert.rejects(
    listenTcp({ host: "192.0.2.1", port: 0 }, () => {}),
    hasCode("address-unavailable"),
  );
});
