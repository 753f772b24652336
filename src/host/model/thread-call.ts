// Calls from one thread to another that keep the caller waiting for the answer, however busy the other thread's loop is.
import { receiveMessageOnPort, type MessagePort } from "node:worker_threads";
import { assert } from "../../base/assert.ts";
import { OperationError, type ErrorFacts } from "../../base/errors.ts";

/** What a thread can be asked: one parameter in, one result out; both survive structured cloning. */
export type ThreadMethods = Record<string, (parameters: never) => unknown>;

interface Call {
  readonly method: string;
  readonly parameters: unknown;
}

type Reply =
  | { readonly result: unknown }
  | { readonly failure: { code: string; message: string; advice: string; facts: ErrorFacts } }
  /** The programmer's error: the thread has ended. */
  | { readonly death: string };

/** Words shared by both threads: how many calls were asked, and how many answered. */
const ASKED = 0;
const ANSWERED = 1;
const WORDS = 2;
/** No answer takes as long as this; a thread that is silent for longer never will answer. */
const SILENCE_MS = 30_000;

/** What both threads hold. The port is the caller's, or the answerer's. */
export interface ThreadLine {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly port: MessagePort;
}

export function threadWords(): ThreadLine["words"] {
  return new Int32Array(new SharedArrayBuffer(WORDS * 4));
}

/**
 * The caller's half. A call blocks its thread: an engine that asked for the device's state and let its event loop turn
 * meanwhile could not say what came first. The message goes through a port, the word that it is there through shared
 * memory, which also wakes an answerer that sleeps.
 */
export class ThreadCaller<M extends ThreadMethods> {
  readonly #line: ThreadLine;
  #death: string | undefined;

  constructor(line: ThreadLine) {
    this.#line = line;
  }

  /** Throws the OperationError that the method threw. */
  call<Name extends keyof M & string>(method: Name, parameters: Parameters<M[Name]>[0]): ReturnType<M[Name]> {
    const { words, port } = this.#line;
    if (this.#death !== undefined) throw ended(this.#death);
    port.postMessage({ method, parameters } satisfies Call);
    const number = Atomics.add(words, ASKED, 1) + 1;
    Atomics.notify(words, ASKED);
    while (Atomics.load(words, ANSWERED) !== number) {
      const woken = Atomics.wait(words, ANSWERED, number - 1, SILENCE_MS);
      assert(woken !== "timed-out", `the thread of the VM has not answered ${method} for ${SILENCE_MS} ms`);
    }
    return this.#result(receiveMessageOnPort(port)?.message as Reply | undefined) as ReturnType<M[Name]>;
  }

  #result(reply: Reply | undefined): unknown {
    assert(reply !== undefined, "an answer was counted and not sent");
    if ("failure" in reply) throw new OperationError(reply.failure);
    if ("result" in reply) return reply.result;
    this.#death = reply.death;
    throw ended(reply.death);
  }
}

const ended = (death: string): Error => new Error(`the thread of the VM has ended: ${death}`);

/** The answerer's half: looks for calls whenever its loop has the time, and sleeps in between. */
export class ThreadAnswerer {
  readonly #line: ThreadLine;
  #answered = 0;

  constructor(line: ThreadLine) {
    this.#line = line;
  }

  /** Whether somebody asks. Cheap: called in each turn of a busy loop. */
  get isAsked(): boolean {
    return Atomics.load(this.#line.words, ASKED) !== this.#answered;
  }

  /** Answers the next call. What a method throws and is no OperationError ends the thread, and the caller hears of it. */
  answer(methods: ThreadMethods): void {
    const call = receiveMessageOnPort(this.#line.port)?.message as Call | undefined;
    assert(call !== undefined, "a call was counted and not sent");
    const method = Object.hasOwn(methods, call.method) ? methods[call.method] : undefined;
    assert(method !== undefined, `no method ${call.method}`);
    try {
      this.#reply({ result: method(call.parameters as never) });
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      const { code, message, advice, facts } = thrown;
      this.#reply({ failure: { code, message, advice, facts } });
    }
  }

  #reply(reply: Reply): void {
    const { port, words } = this.#line;
    port.postMessage(reply);
    this.#answered++;
    Atomics.store(words, ANSWERED, this.#answered);
    Atomics.notify(words, ANSWERED);
  }

  /** Tells whoever asks, now or next, that this thread is no more. */
  die(death: string): void {
    this.#reply({ death });
  }

  /** Sleeps until somebody asks, at most so long. */
  sleep(ms: number): void {
    Atomics.wait(this.#line.words, ASKED, this.#answered, ms);
  }
}
