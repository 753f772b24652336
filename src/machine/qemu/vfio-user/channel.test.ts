// What every channel owes its server, whichever it is: the client is one of Node's own sockets, so no descriptor is sent.
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import path from "node:path";
import { describe, test, type TestContext } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { nativeOrNotRun } from "../native.fixture.ts";
import { serve, socketDirectory, until, type Listen } from "./channel.fixture.ts";
import { listenWithDescriptors } from "./fd-channel.ts";
import { concatenate, encodeMessage, messageOf } from "./messages.fixture.ts";
import { listenOnStream } from "./stream-channel.ts";

async function client(socketPath: string): Promise<Socket> {
  const socket = connect(socketPath);
  // A server that ends the connection may reset it.
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

function conformance(name: string, listenFor: (t: TestContext) => Listen | undefined): void {
  const channelTest = (sentence: string, body: (t: TestContext, listen: Listen) => Promise<void>): void => {
    test(sentence, { timeout: 30_000 }, async (t) => {
      const listen = listenFor(t);
      if (listen !== undefined) await body(t, listen);
    });
  };

  describe(name, () => {
    channelTest("messages come in and answers go out, long ones too", async (t, listen) => {
      const { path: socketPath, served } = await serve(t, listen);
      const socket = await client(socketPath);
      const sent = [messageOf(1), messageOf(2, new Uint8Array(300_000).fill(7)), messageOf(3, new Uint8Array(5))];
      socket.write(concatenate(sent.map((message) => encodeMessage(message))));
      await until(() => served[0]?.messages.length === 3);
      assert.deepEqual(served[0]?.messages, sent);

      const answer = encodeMessage(
        messageOf(
          4,
          new Uint8Array(1_000_000).map((_, i) => i),
        ),
      );
      const mine = answer.slice();
      served[0].channel.send(mine);
      mine.fill(0);
      const received: Buffer[] = [];
      let bytes = 0;
      socket.on("data", (chunk: Buffer) => {
        received.push(chunk);
        bytes += chunk.length;
      });
      await until(() => bytes >= answer.length);
      assert.ok(Buffer.concat(received).equals(answer), "the answer came out changed");
      socket.destroy();
      await until(() => served[0]?.ends.length === 1);
      assert.deepEqual(served[0].ends, [undefined]);
    });

    channelTest("nobody but the owner can open the socket, whatever the umask", async (t, listen) => {
      const before = process.umask(0);
      t.after(() => void process.umask(before));
      const { path: socketPath, listener } = await serve(t, listen);
      assert.equal(statSync(socketPath).mode & 0o777, 0o600);
      await listener.close();
      assert.equal(existsSync(socketPath), false, "the socket's file was left behind");
    });

    channelTest("a dead server's socket is replaced, a live one's is not", async (t, listen) => {
      const directory = socketDirectory(t);
      const [first, second] = [path.join(directory, "first"), path.join(directory, "second")];
      const { listener } = await serve(t, listen, { path: first });
      await assert.rejects(serve(t, listen, { path: first }), { code: "socket-in-use" });
      await listener.close();

      // A server that dies leaves its file; moving the file away from one that closes leaves one just like it.
      const dying = createServer().listen(second);
      await once(dying, "listening");
      renameSync(second, first);
      dying.close();
      await once(dying, "close");
      const { served } = await serve(t, listen, { path: first });
      const socket = await client(first);
      await until(() => served.length === 1);
      socket.destroy();
    });

    channelTest("a file that is no socket stays, and so does a successor's socket", async (t, listen) => {
      const directory = socketDirectory(t);
      const taken = path.join(directory, "file");
      writeFileSync(taken, "precious");
      await assert.rejects(serve(t, listen, { path: taken }), { code: "socket-path-taken" });
      await assert.rejects(serve(t, listen, { path: path.join(directory, "x".repeat(108)) }), {
        code: "socket-path-too-long",
      });

      const { path: socketPath, listener } = await serve(t, listen);
      rmSync(socketPath);
      mkdirSync(socketPath);
      await listener.close();
      assert.ok(existsSync(socketPath), "something that is not ours was removed");
    });

    channelTest("a message that is too long, or has no room for its header, ends the connection", async (t, listen) => {
      const { path: socketPath, served } = await serve(t, listen, { messageBytesMax: 100 });
      for (const [i, size] of [101, 15, 0xffff_ffff].entries()) {
        const socket = await client(socketPath);
        socket.write(concatenate([encodeMessage(messageOf(1)), encodeMessage(messageOf(2), size)]));
        await until(() => served[i]?.ends.length === 1);
        assert.match(served[i]?.ends[0] ?? "", new RegExp(`announced a message of ${size} bytes`));
        assert.deepEqual(served[i]?.messages, [messageOf(1)]);
        if (!socket.destroyed) await once(socket, "close");
      }
    });

    channelTest("a client that goes away in the middle of a message is just gone", async (t, listen) => {
      const { path: socketPath, served } = await serve(t, listen);
      const whole = encodeMessage(messageOf(1, new Uint8Array(100)));
      for (const [i, bytes] of [0, 7, 16, 115].entries()) {
        const socket = await client(socketPath);
        socket.end(whole.subarray(0, bytes));
        await until(() => served[i]?.ends.length === 1);
        assert.deepEqual(served[i]?.ends, [undefined]);
        assert.deepEqual(served[i]?.messages, []);
      }
    });

    channelTest("a client that reads nothing is cut off, and what waits for it is bounded", async (t, listen) => {
      const { path: socketPath, served } = await serve(t, listen, { queuedBytesMax: 1_000_000 });
      const socket = await client(socketPath);
      socket.pause();
      await until(() => served.length === 1);
      const message = encodeMessage(messageOf(1, new Uint8Array(100_000)));
      let sent = 0;
      while (served[0]?.ends.length === 0) {
        served[0].channel.send(message);
        sent++;
        assert.ok(sent < 1000, "it never gave up");
        await nextTurn();
      }
      assert.match(served[0]?.ends[0] ?? "", /left \d+ bytes unread/);
      socket.destroy();
    });

    channelTest(
      "a server that closes from within a message gets no other, and is told once, later",
      async (t, listen) => {
        const { path: socketPath, served } = await serve(t, listen, {
          onConnection(channel) {
            const record = channel.onMessage;
            channel.onMessage = (message) => {
              record(message);
              channel.close();
              channel.close();
              channel.send(encodeMessage(messageOf(9)));
              assert.deepEqual(served[0]?.ends, [], "told from within its own call");
            };
          },
        });
        const socket = await client(socketPath);
        socket.write(concatenate([encodeMessage(messageOf(1)), encodeMessage(messageOf(2))]));
        socket.resume();
        if (!socket.destroyed) await once(socket, "close");
        await until(() => served[0]?.ends.length === 1);
        await nextTurn();
        assert.deepEqual(served[0]?.ends, [undefined]);
        assert.deepEqual(served[0].messages, [messageOf(1)]);
      },
    );
  });
}

conformance("over recvmsg", (t) => {
  const native = nativeOrNotRun(t);
  return native && ((options) => listenWithDescriptors(native, options));
});
conformance("over Node's own sockets", () => listenOnStream);
