// A client of QMP, the protocol that QEMU is driven by: commands pipelined with ids, typed events, typed errors.
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import { JsonLines } from "./json-lines.ts";
import { qmpClosed, qmpError, qmpGarbled, qmpMismatch, qmpSilent, qmpUnreachable } from "./qmp-errors.ts";
import { readQmpMessage, type QemuVersion, type QmpEvent, type QmpMessage } from "./qmp-messages.ts";

/** `query-qmp-schema`, the longest reply there is, has some 250 KB. */
const LINE_BYTES_MAX = 4 << 20;
const COMMAND_TIMEOUT_MS = 10_000;
const GREETING_TIMEOUT_MS = 5000;

export interface QmpOptions {
  /** How long a command may take unless it says otherwise. */
  readonly commandTimeoutMs?: number;
  readonly greetingTimeoutMs?: number;
  readonly lineBytesMax?: number;
}

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: OperationError) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * Connects to QEMU's QMP socket and leaves the negotiation behind. Rejects with OperationError `qmp-unreachable`,
 * `qmp-timeout` (nobody greets: QEMU serves one client at a time), `qmp-closed` or `qmp-garbled`.
 */
export async function connectQmp(socketPath: string, options: QmpOptions = {}): Promise<QmpClient> {
  const socket = connect(socketPath);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", (cause) => reject(qmpUnreachable(socketPath, cause)));
  });
  return QmpClient.over(socket, socketPath, options);
}

/**
 * QEMU takes the commands in order, one at a time; those given without awaiting the ones before go out together. A
 * command that timed out may still be carried out: its late reply is dropped.
 */
export class QmpClient {
  /** Resolves when the connection is no more, with the reason; never rejects. */
  readonly closed: Promise<OperationError>;
  readonly #name: string;
  readonly #socket: Duplex;
  readonly #commandTimeoutMs: number;
  readonly #greeted = Promise.withResolvers<QemuVersion>();
  readonly #ended = Promise.withResolvers<OperationError>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #abandoned = new Set<number>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #version: QemuVersion = { major: 0, minor: 0, micro: 0 };
  #lastId = 0;
  #end: OperationError | undefined;

  /** Speaks over a stream that is connected already; `name` is how errors call it. As connectQmp. */
  static async over(socket: Duplex, name: string, options: QmpOptions = {}): Promise<QmpClient> {
    const client = new QmpClient(socket, name, options);
    const timeoutMs = options.greetingTimeoutMs ?? GREETING_TIMEOUT_MS;
    const timer = setTimeout(() => client.#close(qmpSilent(name, timeoutMs)), timeoutMs);
    try {
      client.#version = await client.#greeted.promise;
    } finally {
      clearTimeout(timer);
    }
    await client.execute("qmp_capabilities", v.unknown());
    return client;
  }

  private constructor(socket: Duplex, name: string, options: QmpOptions) {
    this.#socket = socket;
    this.#name = name;
    this.#commandTimeoutMs = options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS;
    this.closed = this.#ended.promise;
    const lines = new JsonLines({
      lineBytesMax: options.lineBytesMax ?? LINE_BYTES_MAX,
      onValue: (value) => {
        if (this.#end === undefined) this.#take(readQmpMessage(value));
      },
    });
    socket.on("data", (chunk: Uint8Array) => {
      if (this.#end === undefined && !lines.push(chunk)) this.#garbled(lines.problem ?? "not-json");
    });
    socket.on("error", (cause) => this.#close(qmpClosed(name, cause)));
    socket.on("end", () => this.#close(qmpClosed(name)));
    socket.on("close", () => this.#close(qmpClosed(name)));
  }

  /** Of the QEMU at the other end. */
  get version(): QemuVersion {
    return this.#version;
  }

  get isClosed(): boolean {
    return this.#end !== undefined;
  }

  /**
   * Runs one command and checks its reply. Rejects with OperationError `qmp-error` (QEMU refused; facts `class`, `desc`),
   * `qmp-timeout`, `qmp-garbled` (the reply is not what the schema says) or `qmp-closed`.
   */
  async execute<Schema extends v.GenericSchema>(
    command: string,
    reply: Schema,
    options: { readonly arguments?: Readonly<Record<string, unknown>>; readonly timeoutMs?: number } = {},
  ): Promise<v.InferOutput<Schema>> {
    const value = await this.#send(command, options.arguments, options.timeoutMs ?? this.#commandTimeoutMs);
    const checked = v.safeParse(reply, value, { abortEarly: true });
    if (checked.success) return checked.output;
    const [issue] = checked.issues;
    throw qmpMismatch(this.#name, command, `${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
  }

  /** A command whose reply says no more than that it was carried out. Rejects as `execute`. */
  async run(
    command: string,
    args?: Readonly<Record<string, unknown>>,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<void> {
    await this.execute(command, v.unknown(), { ...options, ...(args === undefined ? {} : { arguments: args }) });
  }

  /** Tells of every event from now on; returns what ends that. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Waits for the first event from now on that `accept` has something to say about. Ask before giving the command that
   * causes the event. Rejects with OperationError `qmp-timeout` or `qmp-closed`.
   */
  async waitFor<Found>(
    what: string,
    accept: (event: QmpEvent) => Found | undefined,
    options: { readonly timeoutMs: number },
  ): Promise<Found> {
    const found = Promise.withResolvers<Found>();
    const stop = this.onEvent((event) => {
      const result = accept(event);
      if (result !== undefined) found.resolve(result);
    });
    const timer = setTimeout(() => found.reject(qmpSilent(this.#name, options.timeoutMs, what)), options.timeoutMs);
    try {
      const first = await Promise.race([found.promise, this.closed]);
      if (first === this.#end) throw this.#end;
      return first as Found;
    } finally {
      clearTimeout(timer);
      stop();
    }
  }

  /** Hangs up; QEMU goes on and takes the next client. Commands under way reject with `qmp-closed`. */
  close(): void {
    this.#close(qmpClosed(this.#name));
  }

  #send(command: string, args: unknown, timeoutMs: number): Promise<unknown> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#abandon(id, timeoutMs), timeoutMs);
      this.#waiting.set(id, { command, resolve, reject, timer });
      if (this.#socket.writableCorked === 0) {
        this.#socket.cork();
        process.nextTick(() => this.#socket.uncork());
      }
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  #abandon(id: number, timeoutMs: number): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    this.#abandoned.add(id);
    waiting.reject(qmpSilent(this.#name, timeoutMs, waiting.command));
  }

  #take(message: QmpMessage | undefined): void {
    switch (message?.kind) {
      case "greeting":
        return this.#greeted.resolve(message.version);
      case "event":
        for (const listener of this.#listeners) listener(message.event);
        return;
      case "return":
        this.#settle(message.id)?.resolve(message.value);
        return;
      case "error":
        if (message.id === undefined) return this.#garbled(`it could not read a command: ${message.desc}`);
        this.#refused(message);
        return;
      case undefined:
        return this.#garbled("not QMP");
    }
  }

  #refused(message: QmpMessage & { kind: "error" }): void {
    const waiting = this.#settle(message.id ?? 0);
    waiting?.reject(qmpError({ name: this.#name, command: waiting.command, class: message.class, desc: message.desc }));
  }

  /** The command that a reply belongs to, unless nobody waits for it any more. */
  #settle(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) {
      if (!this.#abandoned.delete(id)) this.#garbled(`a reply to a command ${id} that was not given`);
      return undefined;
    }
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    return waiting;
  }

  #garbled(problem: string): void {
    this.#close(qmpGarbled(this.#name, problem));
  }

  #close(reason: OperationError): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#socket.destroy();
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(reason);
    }
    this.#waiting.clear();
    this.#greeted.reject(reason);
    this.#greeted.promise.catch(() => {});
    this.#ended.resolve(reason);
  }
}
