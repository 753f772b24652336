// The control socket, both ends: over real sockets, in front of a server that only pretends.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import type { JobEnd, ServerStatus } from "./answers.ts";
import { askForJob, askForStatus, controlPathOf, type ControlEvents } from "./control-client.ts";
import { listenForControllers, type Controlled } from "./control-server.ts";
import type { JobWatcher } from "./job.ts";
import { REQUEST_BYTES_MAX, type ExpectRequest, type MoveRequest } from "./requests.ts";

const status: ServerStatus = {
  mac: "02:00:0a:00:02:0f",
  uplink: { kind: "none", isUp: false },
  client: "none",
  memoryBytes: null,
  job: null,
  isOutcomeUnknown: false,
  faults: 0,
};
const failure = { code: "cancelled", message: "It was cancelled.", advice: "Ask again.", facts: {} };
const move: MoveRequest = {
  qmp: "/qmp",
  to: { host: "127.0.0.1", port: 4711 },
  strategy: "rings-first",
  downtimeLimitMs: 100,
  roundsMax: 20,
  ifNotConverging: "switch-over",
};

/** Does what the test says, one job at a time. */
class Pretended implements Controlled {
  readonly status = status;
  /** What was asked for, and how often it was cancelled. */
  readonly asked: (MoveRequest | ExpectRequest)[] = [];
  cancelled = 0;
  work: (watcher: JobWatcher) => Promise<JobEnd> = async () => ({ kind: "arrived" });

  move(request: MoveRequest, watcher: JobWatcher): Promise<JobEnd> {
    return this.#do(request, watcher);
  }

  expect(request: ExpectRequest, watcher: JobWatcher): Promise<JobEnd> {
    return this.#do(request, watcher);
  }

  async takeBack(): Promise<JobEnd> {
    throw new OperationError({ code: "nothing-to-take-back", message: "There is none.", advice: "Go on." });
  }

  #do(request: MoveRequest | ExpectRequest, watcher: JobWatcher): Promise<JobEnd> {
    this.asked.push(request);
    watcher.signal.addEventListener("abort", () => this.cancelled++);
    return this.work(watcher);
  }

  /** Works until it is cancelled. */
  untilCancelled = (watcher: JobWatcher): Promise<JobEnd> =>
    new Promise((resolve) => {
      watcher.onStage("working");
      watcher.signal.addEventListener("abort", () => resolve({ kind: "resumed", failure }));
    });
}

async function controlled(t: TestContext): Promise<{ server: Pretended; at: string }> {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const at = controlPathOf(path.join(directory, "vf"));
  const server = new Pretended();
  const hangUp = await listenForControllers(at, server);
  t.after(hangUp);
  return { server, at };
}

function events(changes: Partial<ControlEvents> = {}): ControlEvents & { told: string[] } {
  const told: string[] = [];
  return {
    told,
    onStage: (text) => told.push(text),
    onEvent: (event) => told.push(event.kind),
    onListening: ({ host, port }) => told.push(`${host} ${port}`),
    signal: new AbortController().signal,
    ...changes,
  };
}

const hasCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

/** All that the server says until it hangs up. */
async function untilHungUp(socket: Socket): Promise<string> {
  let said = "";
  socket.setEncoding("utf8").on("data", (text: string) => (said += text));
  socket.on("error", () => {});
  await once(socket, "close");
  return said;
}

test("the socket is this user's alone, the status can be asked at any time, and the path is free again afterwards", async (t) => {
  const { server, at } = await controlled(t);
  assert.equal(statSync(at).mode & 0o777, 0o600);
  server.work = server.untilCancelled;
  const cancelling = new AbortController();
  const working = askForJob(at, { move }, events({ signal: cancelling.signal }));
  assert.deepEqual(await askForStatus(at), status);
  cancelling.abort();
  assert.equal((await working).kind, "resumed");
  await assert.rejects(listenForControllers(at, server), hasCode("socket-in-use"));
  writeFileSync(`${at}.file`, "");
  await assert.rejects(listenForControllers(`${at}.file`, server), hasCode("socket-path-taken"));
});

test("a job's stages and events arrive in order, then its end", async (t) => {
  const { server, at } = await controlled(t);
  server.work = async (watcher) => {
    watcher.onListening({ host: "::1", port: 7 });
    watcher.onStage("one");
    watcher.onEvent({ kind: "vcpus-paused", atMs: 5 });
    watcher.onStage("two");
    return { kind: "arrived" };
  };
  const heard = events();
  const request = { qmp: "/qmp", at: { host: "::1", port: 0 } };
  assert.deepEqual(await askForJob(at, { expect: request }, heard), { kind: "arrived" });
  assert.deepEqual(heard.told, ["::1 7", "one", "vcpus-paused", "two"]);
  assert.deepEqual(server.asked, [request]);
  assert.equal(server.cancelled, 0, "hanging up after the end cancels nothing");
});

test("what the server refuses is the error that its controller gets, with code, advice and facts", async (t) => {
  const { server, at } = await controlled(t);
  server.work = async () => {
    throw new OperationError({ code: "busy", message: "So it is.", advice: "Wait.", facts: { job: "move" } });
  };
  await assert.rejects(askForJob(at, { move }, events()), (error) => {
    assert.ok(error instanceof OperationError);
    assert.deepEqual(
      [error.code, error.message, error.advice, error.facts],
      ["busy", "So it is.", "Wait.", { job: "move" }],
    );
    return true;
  });
  await assert.rejects(askForJob(at, { takeBack: {} }, events()), hasCode("nothing-to-take-back"));
});

test("a controller that hangs up cancels its job, in whatever way it does", async (t) => {
  const { server, at } = await controlled(t);
  for (const leave of [(socket: Socket) => void socket.end(), (socket: Socket) => void socket.destroy()]) {
    const before = server.cancelled;
    const over = Promise.withResolvers<void>();
    server.work = async (watcher) => {
      const end = await server.untilCancelled(watcher);
      over.resolve();
      return end;
    };
    const socket = connect(at);
    socket.write(`${JSON.stringify({ move })}\n`);
    let said = "";
    socket.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes("working")) leave(socket);
    });
    await over.promise;
    assert.equal(server.cancelled, before + 1);
  }
});

test("a second request on a connection is refused, and cancels the first", async (t) => {
  const { server, at } = await controlled(t);
  server.work = server.untilCancelled;
  const socket = connect(at);
  socket.write(`${JSON.stringify({ move })}\n${JSON.stringify({ status: {} })}\n`);
  assert.match(await untilHungUp(socket), /"refused".*A connection asks for one thing/);
  assert.deepEqual([server.asked.length, server.cancelled], [1, 1]);
});

test("hostile lines are refused with a typed answer, begin nothing, and the next controller is served", async (t) => {
  const { server, at } = await controlled(t);
  const line = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.json().map((text) => Buffer.from(text)),
    fc.constant(Buffer.alloc(REQUEST_BYTES_MAX + 2, 0x20)),
    fc.constant(Buffer.from(`{"move":${JSON.stringify({ ...move, qmp: "relative" })}}`)),
    fc.constant(Buffer.from("[".repeat(10_000))),
  );
  await fc.assert(
    fc.asyncProperty(line, async (bytes) => {
      const socket = connect(at);
      socket.write(bytes);
      socket.write("\n");
      // Lines that are blank are no requests, and are waited behind.
      setTimeout(() => socket.end(), 20);
      const said = await untilHungUp(socket);
      const answers = said
        .split("\n")
        .filter((each) => each !== "")
        .map((each) => JSON.parse(each) as { kind: string; failure?: { code: string } });
      assert.equal(answers[0]?.kind, "hello");
      for (const { kind, failure: why } of answers.slice(1)) {
        assert.deepEqual([kind, why?.code], ["refused", "control-request-invalid"]);
      }
      assert.deepEqual(server.asked, []);
    }),
    { numRuns: 40 },
  );
  assert.deepEqual(await askForStatus(at), status);
});

test("a client of something else than a VF server says so, whatever that says", async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), "uw-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const at = path.join(directory, "other");
  await assert.rejects(askForStatus(at), hasCode("vf-server-unreachable"));
  let says: string | Uint8Array = "";
  const other = createServer((socket) => {
    socket.on("error", () => {});
    socket.end(says);
  });
  await new Promise<void>((resolve) => other.listen(at, resolve));
  t.after(() => other.close());
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.json().map((text) => `${text}\n`),
    fc.constantFrom(
      '{"kind":"hello","program":"underway","protocol":99}\n',
      '{"kind":"status","status":{}}\n',
      '{"kind":"hello","program":"underway","protocol":1}\n{"kind":"hello","program":"underway","protocol":1}\n',
      '{"kind":"hello","program":"underway","protocol":1}\n{"kind":"ended","end":{"kind":"arrived"}}\n',
    ),
  );
  await fc.assert(
    fc.asyncProperty(anything, async (text) => {
      says = text;
      await assert.rejects(
        askForStatus(at),
        (error) => error instanceof OperationError && /^vf-server-(?:gone|other-version|unreachable)$/.test(error.code),
      );
    }),
    { numRuns: 40 },
  );
});

test("what is cancelled before the server has greeted is not begun", async (t) => {
  const { server, at } = await controlled(t);
  await assert.rejects(askForJob(at, { move }, events({ signal: AbortSignal.abort() })), hasCode("cancelled"));
  assert.deepEqual(server.asked, []);
});
