// The controller's end of a VF server's control socket: one request, what happens meanwhile, and how it ended.
import { connect } from "node:net";
import { OperationError } from "../../base/errors.ts";
import { JsonLines } from "../../machine/qemu/json-lines.ts";
import type { MigrationEvent } from "../../migration/events.ts";
import { ANSWER_BYTES_MAX, readAnswer, type Answer, type JobEnd, type ServerStatus } from "./answers.ts";
import { errorOf } from "./failure.ts";
import { CONTROL_PROTOCOL, type Request } from "./requests.ts";

/** Where the control socket of the VF at `vfSocketPath` is, unless it was put elsewhere. */
export const controlPathOf = (vfSocketPath: string): string => `${vfSocketPath}.control`;

export interface ControlEvents {
  readonly onStage: (text: string) => void;
  readonly onEvent: (event: MigrationEvent) => void;
  readonly onListening: (address: { readonly host: string; readonly port: number }) => void;
  /** Cancels what was asked for; the end is waited for all the same. */
  readonly signal: AbortSignal;
}

type Job = Exclude<Request, { cancel: unknown } | { status: unknown }>;

/**
 * Has a VF server do something. Rejects with the error that it refuses with, and with OperationError
 * `vf-server-unreachable`, `vf-server-gone` or `vf-server-other-version`.
 */
export async function askForJob(path: string, request: Job, events: ControlEvents): Promise<JobEnd> {
  const last = await converse(path, request, events);
  if (last.kind === "ended") return last.end;
  throw otherVersion(path);
}

/** Rejects as askForJob. */
export async function askForStatus(path: string): Promise<ServerStatus> {
  const signal = new AbortController().signal;
  const nothing = (): void => {};
  const events = { onStage: nothing, onEvent: nothing, onListening: nothing, signal };
  const last = await converse(path, { status: {} }, events);
  if (last.kind === "status") return last.status;
  throw otherVersion(path);
}

type LastAnswer = Extract<Answer, { kind: "ended" | "status" }>;

function converse(path: string, request: Request, events: ControlEvents): Promise<LastAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let isGreeted = false;
    const say = (what: Request): void => void socket.write(`${JSON.stringify(what)}\n`);
    const cancel = (): void => {
      if (isGreeted) say({ cancel: {} });
      else socket.destroy();
    };
    const fail = (error: OperationError): void => {
      reject(error);
      socket.destroy();
    };
    const take = (value: unknown): void => {
      const answer = readAnswer(value);
      if (answer === undefined || (answer.kind === "hello") === isGreeted) return fail(otherVersion(path));
      switch (answer.kind) {
        case "hello":
          if (answer.protocol !== CONTROL_PROTOCOL) return fail(otherVersion(path));
          isGreeted = true;
          say(request);
          return undefined;
        case "stage":
          return events.onStage(answer.text);
        case "listening":
          return events.onListening(answer);
        case "migration":
          return events.onEvent(answer.event);
        case "refused":
          return fail(errorOf(answer.failure));
        case "ended":
        case "status":
          resolve(answer);
          socket.destroy();
          return undefined;
      }
    };
    const lines = new JsonLines({ lineBytesMax: ANSWER_BYTES_MAX, onValue: take });
    socket.on("data", (chunk: Uint8Array) => {
      if (!lines.push(chunk)) fail(otherVersion(path));
    });
    socket.on("error", (cause) => fail(isGreeted ? gone(path) : unreachableServer(path, cause)));
    // Whatever was settled before stays so.
    socket.on("close", () => {
      events.signal.removeEventListener("abort", cancel);
      reject(!isGreeted && events.signal.aborted ? cancelled() : gone(path));
    });
    events.signal.addEventListener("abort", cancel);
    if (events.signal.aborted) cancel();
  });
}

function unreachableServer(path: string, cause: Error): OperationError<"vf-server-unreachable"> {
  return new OperationError({
    code: "vf-server-unreachable",
    message: `No VF server answers at ${path}: ${cause.message}`,
    advice:
      "Start `underway vf serve` first, as the same user; --vf takes the path that was given to its --socket, and --control that of its --control.",
    facts: { path },
    cause,
  });
}

function gone(path: string): OperationError<"vf-server-gone"> {
  return new OperationError({
    code: "vf-server-gone",
    message: `The VF server at ${path} has gone, or has hung up.`,
    advice:
      "See what `underway vf serve` printed last. Its QEMU's guest has lost the card; if it stands still and does not run on the destination, QMP's cont lets it go on without.",
    facts: { path },
  });
}

function otherVersion(path: string): OperationError<"vf-server-other-version"> {
  return new OperationError({
    code: "vf-server-other-version",
    message: `What answers at ${path} is not a VF server of this version.`,
    advice: "Run the same version of Underway for `sidecar` and for `vf serve`.",
    facts: { path },
  });
}

function cancelled(): OperationError<"cancelled"> {
  return new OperationError({
    code: "cancelled",
    message: "It was cancelled before it began.",
    advice: "Nothing has changed; ask again when you want it done.",
  });
}
