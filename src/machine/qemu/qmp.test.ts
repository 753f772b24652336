import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import { readQmpMessage, type QmpEvent } from "./qmp-messages.ts";
import { connectQmp, QmpClient } from "./qmp.ts";

const GREETING =
  '{"QMP":{"version":{"qemu":{"major":11,"minor":1,"micro":2},"package":"x"},"capabilities":["oob"]}}\r\n';
const TIMESTAMP = '"timestamp":{"seconds":1000,"microseconds":2500}';

interface Command {
  readonly execute: string;
  readonly arguments?: Record<string, unknown>;
  readonly id: number;
}

/** Plays QEMU: hands out every command after the negotiation, says what it is told to say. */
class FakeQemu {
  readonly commands: Command[] = [];
  readonly clientEnd;
  readonly #end;
  #text = "";
  onCommand: (command: Command) => void = () => {};

  constructor(greeting = GREETING) {
    [this.clientEnd, this.#end] = duplexPair();
    this.say(greeting);
    this.#end.setEncoding("utf8").on("data", (text: string) => {
      const lines = (this.#text + text).split("\n");
      this.#text = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as Command);
    });
  }

  say(text: string | Uint8Array): void {
    this.#end.write(text);
  }

  answer(id: number, value: unknown): void {
    this.say(`${JSON.stringify({ return: value, id })}\r\n`);
  }

  hangUp(): void {
    this.#end.end();
  }

  #take(command: Command): void {
    if (command.execute === "qmp_capabilities") return this.answer(command.id, {});
    this.commands.push(command);
    this.onCommand(command);
  }
}

async function connected(options: Parameters<typeof QmpClient.over>[2] = {}): Promise<[FakeQemu, QmpClient]> {
  const qemu = new FakeQemu();
  return [qemu, await QmpClient.over(qemu.clientEnd, "q", options)];
}

function fails(promise: Promise<unknown>, code: string, facts: Record<string, unknown> = {}): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof OperationError, String(error));
    assert.equal(error.code, code);
    assert.ok(error.advice.length > 0);
    for (const [name, value] of Object.entries(facts)) assert.equal(error.facts[name], value);
    return true;
  });
}

test("the version that QEMU greets with is known once connected", async () => {
  const [, client] = await connected();
  assert.deepEqual(client.version, { major: 11, minor: 1, micro: 2 });
});

test("commands go out without waiting for each other, and each gets its own answer whatever the order", async () => {
  const [qemu, client] = await connected();
  const answers = Promise.all(["a", "b", "c"].map((name) => client.execute(name, v.string(), { arguments: { name } })));
  const all = new Promise<void>((resolve) => {
    qemu.onCommand = () => {
      if (qemu.commands.length === 3) resolve();
    };
  });
  await all;
  assert.deepEqual(
    qemu.commands.map(({ arguments: args }) => args),
    [{ name: "a" }, { name: "b" }, { name: "c" }],
  );
  for (const { id, execute } of qemu.commands.toReversed()) qemu.answer(id, execute.toUpperCase());
  assert.deepEqual(await answers, ["A", "B", "C"]);
});

test("answers come through however the stream is cut", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 30 }), async (sizes) => {
      const [qemu, client] = await connected();
      const seen: QmpEvent[] = [];
      client.onEvent((event) => seen.push(event));
      qemu.onCommand = ({ id }) => {
        const text = `{"event":"STOP",${TIMESTAMP}}\r\n{"return":{"é":"ü"},"id":${id}}\r\n{"event":"RESUME",${TIMESTAMP}}\r\n`;
        const bytes = Buffer.from(text);
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          qemu.say(bytes.subarray(at, at + size));
          at += size;
        }
      };
      assert.deepEqual(await client.execute("x", v.unknown()), { é: "ü" });
      await new Promise(setImmediate);
      assert.deepEqual(
        seen.map(({ kind }) => kind),
        ["STOP", "RESUME"],
      );
      client.close();
    }),
    { numRuns: 30 },
  );
});

test("a refusal carries the command and QEMU's own words", async () => {
  const [qemu, client] = await connected();
  qemu.onCommand = ({ id }) => qemu.say(`{"id":${id},"error":{"class":"GenericError","desc":"no way"}}\r\n`);
  await fails(client.run("cont"), "qmp-error", { command: "cont", class: "GenericError", desc: "no way" });
  assert.equal(client.isClosed, false);
});

test("a reply of the wrong shape fails its command and nothing else", async () => {
  const [qemu, client] = await connected();
  qemu.onCommand = ({ id }) => qemu.answer(id, 5);
  await fails(client.execute("x", v.string()), "qmp-garbled", { command: "x" });
  assert.equal(await client.execute("x", v.number()), 5);
});

test("a command that is not answered in time fails, and its late answer disturbs nobody", async () => {
  const [qemu, client] = await connected();
  await fails(client.run("slow", {}, { timeoutMs: 1 }), "qmp-timeout", { waitingFor: "slow" });
  qemu.onCommand = ({ id }) => {
    qemu.answer(id - 1, "late");
    qemu.answer(id, "now");
  };
  assert.equal(await client.execute("y", v.string()), "now");
});

test("a socket on which nobody greets is said to be in use by another client", async () => {
  const qemu = new FakeQemu("");
  await assert.rejects(QmpClient.over(qemu.clientEnd, "q", { greetingTimeoutMs: 1 }), {
    code: "qmp-timeout",
    advice: /one client/,
  });
});

test("when QEMU hangs up, commands under way and all later ones fail with qmp-closed", async () => {
  const [qemu, client] = await connected();
  const underWay = client.run("x");
  const awaited = client.waitFor("STOP", ({ kind }) => kind === "STOP" || undefined, { timeoutMs: 60_000 });
  qemu.hangUp();
  await Promise.all([fails(underWay, "qmp-closed"), fails(awaited, "qmp-closed")]);
  await fails(client.run("y"), "qmp-closed");
  assert.equal((await client.closed).code, "qmp-closed");
});

const hostile: Record<string, string> = {
  "not JSON": "hello\r\n",
  "JSON that is no object": "7\r\n",
  "an answer to nothing": '{"return":{},"id":99}\r\n',
  "an answer without an id": '{"return":{}}\r\n',
  "a refusal of nothing": '{"error":{"class":"GenericError","desc":"JSON parse error"}}\r\n',
  "an event without a time": '{"event":"STOP"}\r\n',
  "a line without end": "x".repeat(2000),
};
for (const [what, text] of Object.entries(hostile)) {
  test(`${what} ends the connection as garbled`, async () => {
    const [qemu, client] = await connected({ lineBytesMax: 1000 });
    const underWay = client.run("x");
    qemu.say(text);
    await fails(underWay, "qmp-garbled");
    assert.equal((await client.closed).code, "qmp-garbled");
  });
}

test("events that are known come typed with their time; unknown ones and unknown data are passed on as they are", () => {
  const read = (event: string, data: unknown): unknown =>
    readQmpMessage({ event, data, timestamp: { seconds: 3, microseconds: 1500 } });
  assert.deepEqual(read("MIGRATION", { status: "active" }), {
    kind: "event",
    event: { kind: "MIGRATION", atMs: 3001.5, data: { status: "active" } },
  });
  assert.deepEqual(read("UNPLUG_PRIMARY", { "device-id": "vf0" }), {
    kind: "event",
    event: { kind: "UNPLUG_PRIMARY", atMs: 3001.5, data: { "device-id": "vf0" } },
  });
  for (const [name, data] of [
    ["MIGRATION", { status: "new" }],
    ["NIC_RX_FILTER_CHANGED", { a: 1 }],
    ["__proto__", undefined],
  ] as const) {
    assert.deepEqual(read(name, data), { kind: "event", event: { kind: "other", atMs: 3001.5, name, data } });
  }
});

test("whatever value a line holds, it is a message or it is refused", () => {
  const messages = fc.oneof(
    fc.jsonValue(),
    fc.record(
      {
        event: fc.oneof(fc.constantFrom("STOP", "MIGRATION", "SHUTDOWN"), fc.string()),
        data: fc.jsonValue(),
        timestamp: fc.oneof(fc.constant({ seconds: 1, microseconds: 2 }), fc.jsonValue()),
        id: fc.jsonValue(),
        error: fc.jsonValue(),
        return: fc.jsonValue(),
        QMP: fc.jsonValue(),
      },
      { requiredKeys: [] },
    ),
  );
  fc.assert(
    fc.property(messages, (value) => {
      const message = readQmpMessage(value);
      if (message?.kind === "return" || (message?.kind === "error" && message.id !== undefined)) {
        assert.ok(Number.isSafeInteger(message.id));
      }
    }),
    { numRuns: 500 },
  );
});

test("a listener that was taken away hears no more, and waitFor takes the first event that fits", async () => {
  const [qemu, client] = await connected();
  let heard = 0;
  const stop = client.onEvent(() => {
    if (++heard === 1) stop();
  });
  const status = client.waitFor(
    "the end of the migration",
    (event) => (event.kind === "MIGRATION" && event.data.status !== "active" ? event.data.status : undefined),
    { timeoutMs: 60_000 },
  );
  for (const name of ["active", "completed", "failed"]) {
    qemu.say(`{"event":"MIGRATION","data":{"status":"${name}"},${TIMESTAMP}}\r\n`);
  }
  assert.equal(await status, "completed");
  assert.equal(heard, 1);
});

test("a path where nobody listens is qmp-unreachable; a real socket is talked to and left", async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-qmp-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const socketPath = path.join(directory, "q");
  await fails(connectQmp(socketPath), "qmp-unreachable", { socketPath });
  const server = createServer((socket) => {
    socket.write(GREETING);
    socket.on("data", () => socket.write('{"return":{},"id":1}\n'));
  });
  await new Promise<void>((resolve) => {
    server.listen(socketPath, resolve);
  });
  const client = await connectQmp(socketPath);
  assert.equal(client.version.major, 11);
  client.close();
  server.close();
});
