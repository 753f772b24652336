// The control socket of a VF server: who may open it is the file's mode; what comes over it is checked line by line.
import { createServer, type Socket } from "node:net";
import { unreachable } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { JsonLines } from "../../machine/qemu/json-lines.ts";
import { clearSocketPath, removeSocketFile } from "../../machine/qemu/vfio-user/socket-file.ts";
import { bindPrivately } from "../../machine/qemu/vfio-user/stream-channel.ts";
import { greeting, type Answer, type JobEnd, type ServerStatus } from "./answers.ts";
import { failureOf } from "./failure.ts";
import type { JobWatcher } from "./job.ts";
import { readRequest, REQUEST_BYTES_MAX, type ExpectRequest, type MoveRequest, type Request } from "./requests.ts";

/** What the socket is in front of. */
export interface Controlled {
  readonly status: ServerStatus;
  move(request: MoveRequest, watcher: JobWatcher): Promise<JobEnd>;
  expect(request: ExpectRequest, watcher: JobWatcher): Promise<JobEnd>;
  takeBack(): Promise<JobEnd>;
}

const CONNECTIONS_MAX = 16;
/** A controller that reads slowly misses progress first; then it is cut off, which cancels. */
const PROGRESS_QUEUE_BYTES_MAX = 64 * 1024;
const QUEUE_BYTES_MAX = 4 << 20;

/**
 * Listens at `path`, for this user only (mode 0600), and gives what ends that. Rejects with OperationError `socket-in-use`,
 * `socket-path-taken` or `socket-path-too-long`.
 */
export async function listenForControllers(path: string, controlled: Controlled): Promise<() => void> {
  await clearSocketPath(path);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    void new ControlConnection(socket, controlled);
  });
  server.maxConnections = CONNECTIONS_MAX;
  // A connection that cannot be taken (no descriptor is free) is that controller's trouble.
  server.on("error", () => undefined);
  const file = await bindPrivately(server, path);
  return () => {
    removeSocketFile(path, file);
    server.close();
    for (const socket of open) socket.destroy();
  };
}

/** One request, its answers, and the end; a `cancel` may come in between. */
class ControlConnection {
  readonly #socket: Socket;
  readonly #controlled: Controlled;
  readonly #cancelling = new AbortController();
  #hasAsked = false;

  constructor(socket: Socket, controlled: Controlled) {
    this.#socket = socket;
    this.#controlled = controlled;
    const lines = new JsonLines({ lineBytesMax: REQUEST_BYTES_MAX, onValue: (value) => this.#take(value) });
    socket.on("data", (chunk: Uint8Array) => {
      if (!lines.push(chunk)) this.#refuse(garbled(lines.problem ?? "not-json"));
    });
    socket.on("error", () => socket.destroy());
    // Half of a connection is a controller that is gone.
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#cancelling.abort());
    this.#send(greeting);
  }

  #take(value: unknown): void {
    try {
      const request = readRequest(value);
      if ("cancel" in request) {
        this.#cancelling.abort();
        return;
      }
      if (this.#hasAsked) throw askedAlready();
      this.#hasAsked = true;
      void this.#carryOut(request);
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      this.#refuse(thrown);
    }
  }

  async #carryOut(request: Exclude<Request, { cancel: unknown }>): Promise<void> {
    try {
      this.#send(await this.#answerTo(request));
      this.#socket.end();
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      this.#refuse(thrown);
    }
  }

  async #answerTo(request: Exclude<Request, { cancel: unknown }>): Promise<Answer> {
    if ("status" in request) return { kind: "status", status: this.#controlled.status };
    if ("takeBack" in request) return { kind: "ended", end: await this.#controlled.takeBack() };
    if ("move" in request) return { kind: "ended", end: await this.#controlled.move(request.move, this.#watcher()) };
    if ("expect" in request) {
      return { kind: "ended", end: await this.#controlled.expect(request.expect, this.#watcher()) };
    }
    return unreachable(request);
  }

  #watcher(): JobWatcher {
    return {
      onStage: (text) => this.#send({ kind: "stage", text }),
      onEvent: (event) => {
        const isMissable = event.kind === "round-progress" && this.#socket.writableLength > PROGRESS_QUEUE_BYTES_MAX;
        if (!isMissable) this.#send({ kind: "migration", event });
      },
      onListening: ({ host, port }) => this.#send({ kind: "listening", host, port }),
      signal: this.#cancelling.signal,
    };
  }

  /** After this nothing is read any more. */
  #refuse(error: OperationError): void {
    this.#send({ kind: "refused", failure: failureOf(error) });
    this.#socket.end();
    this.#socket.removeAllListeners("data").resume();
    this.#cancelling.abort();
  }

  #send(answer: Answer): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#socket.write(`${JSON.stringify(answer)}\n`);
    if (this.#socket.writableLength > QUEUE_BYTES_MAX) this.#socket.destroy();
  }
}

function garbled(problem: string): OperationError<"control-request-invalid"> {
  return new OperationError({
    code: "control-request-invalid",
    message: `What came over the control socket is not a line of JSON (${problem}).`,
    advice: "Talk to it with `underway sidecar`.",
    facts: { problem },
  });
}

function askedAlready(): OperationError<"control-request-invalid"> {
  return new OperationError({
    code: "control-request-invalid",
    message: "A connection asks for one thing.",
    advice: "Open another connection for the next request.",
  });
}
