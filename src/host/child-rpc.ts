// Calls from a process to its child and events the other way, over Node's own channel between the two.
import { fork, type ChildProcess } from "node:child_process";
import { assert } from "../base/assert.ts";
import { OperationError, type ErrorFacts } from "../base/errors.ts";

/** What a child can be asked: one parameter object in, one result out; both survive structured cloning. */
export type Methods = Record<string, (parameters: never) => Promise<unknown>>;

interface Call {
  readonly id: number;
  readonly method: string;
  readonly parameters: unknown;
}

interface SerializedError {
  readonly code: string;
  readonly message: string;
  readonly advice: string;
  readonly facts: ErrorFacts;
}

type Reply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: SerializedError }
  | { readonly event: unknown };

const ORPHAN_GRACE_MS = 200;

/** The child's half: answers calls until the parent goes away, and then ends the process. */
export function serveParent(methods: Methods, onOrphaned: () => void): { emit(event: unknown): void } {
  assert(process.send !== undefined, "this process was not started as a child with a channel");
  // A parent that went away while it was written to is noticed below, by its channel.
  const send = (reply: Reply): void => void (process.connected && process.send?.(reply, undefined, {}, () => {}));
  process.on("message", (call: Call) => {
    const method = Object.hasOwn(methods, call.method) ? methods[call.method] : undefined;
    assert(method !== undefined, `no method ${call.method}`);
    method(call.parameters as never).then(
      (result) => send({ id: call.id, result }),
      (thrown: unknown) => send({ id: call.id, error: serializeError(thrown) }),
    );
  });
  process.on("disconnect", () => {
    onOrphaned();
    setTimeout(() => process.exit(0), ORPHAN_GRACE_MS).unref();
  });
  // A person's Ctrl-C reaches the whole group: the parent decides what it means.
  process.on("SIGINT", () => {});
  return { emit: (event) => send({ event }) };
}

/** The parent's half: a child process that answers `M` and emits `Event`. */
export class Child<M extends Methods, Event> {
  readonly name: string;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;
  #death: OperationError | undefined;

  constructor(options: {
    name: string;
    module: URL;
    onEvent: (event: Event) => void;
    /** Node's own options for the child, beside those of this process. */
    nodeOptions?: readonly string[];
  }) {
    this.name = options.name;
    this.#process = fork(options.module, {
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      execArgv: [...process.execArgv, ...(options.nodeOptions ?? [])],
    });
    this.#process.on("message", (reply: Reply) => {
      if ("event" in reply) return options.onEvent(reply.event as Event);
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if ("error" in reply) waiting?.reject(new OperationError(reply.error));
      else waiting?.resolve(reply.result);
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    const die = (how: string): void => {
      this.#died(how);
      resolve();
    };
    this.#process.on("exit", (code, signal) => die(signal === null ? `exit status ${code}` : signal));
    this.#process.on("error", (error) => die(error.message));
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Rejects with the child's OperationError, or `process-ended` when the child is gone. */
  call<Name extends keyof M & string>(
    method: Name,
    parameters: Parameters<M[Name]>[0],
  ): Promise<Awaited<ReturnType<M[Name]>>> {
    if (this.#death !== undefined) return Promise.reject(this.#death);
    const waiting = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    this.#waiting.set(id, waiting);
    this.#process.send({ id, method, parameters } satisfies Call);
    return waiting.promise as Promise<Awaited<ReturnType<M[Name]>>>;
  }

  /** Lets the child go; it ends itself. What is still waiting is rejected. */
  async close(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    const impatience = setTimeout(() => this.#process.kill("SIGKILL"), ORPHAN_GRACE_MS * 10);
    await this.ended;
    clearTimeout(impatience);
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }

  #died(how: string): void {
    this.#death = new OperationError({
      code: "process-ended",
      message: `The ${this.name} process ended (${how}).`,
      advice: "Start again; if it happens every time, report it with the seed that was printed.",
      facts: { name: this.name, how },
    });
    for (const waiting of this.#waiting.values()) waiting.reject(this.#death);
    this.#waiting.clear();
  }
}

function serializeError(thrown: unknown): SerializedError {
  if (thrown instanceof OperationError) {
    const { code, message, advice, facts } = thrown;
    return { code, message, advice, facts };
  }
  // A programmer's error must not be mistaken for an operation that failed: it ends the child with its stack.
  queueMicrotask(() => {
    throw thrown;
  });
  return {
    code: "internal",
    message: thrown instanceof Error ? thrown.message : String(thrown),
    advice: "This is a mistake in Underway; please report it with what is printed above.",
    facts: {},
  };
}
