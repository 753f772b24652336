// A conversation: one side's end of a migration link, with framing, legality and backpressure behind typed messages.
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { errorMessageOf, errorOfMessage } from "./control-payloads.ts";
import { FrameDecoder } from "./decode.ts";
import type { PagesEncoder } from "./encode.ts";
import { wireError } from "./errors.ts";
import { legalKinds, nextState, type ConversationState } from "./legal.ts";
import { Liveness, type LivenessLimits } from "./liveness.ts";
import { Outbox } from "./outbox.ts";
import type { Message, MessageKind, MessageOf, Role } from "./protocol.ts";
import { StreamRules, type RuledMessage } from "./rules.ts";
import type { Transport } from "./transport.ts";

export interface ConversationOptions {
  readonly role: Role;
  readonly transport: Transport;
  /**
   * Every message of the peer, in order, keepalives left out. Views inside it are good until the handler returns. An
   * OperationError thrown here is sent to the peer as `error` and ends the conversation.
   */
  readonly onMessage?: (message: Message) => void;
  /**
   * The end, once; possibly from within `send`, `fail` or `close`. Without an error `goodbye` was said; an `error` or
   * `abort` of the peer comes as an OperationError with the peer's code.
   */
  readonly onEnd: (error: OperationError | undefined) => void;
  readonly liveness?: LivenessLimits;
}

/** Messages that answer the source's questions: those that `expect` waits for. */
export type AnswerKind = "hello-ack" | "accept" | "ready" | "running" | "outcome";
const answerKinds: ReadonlySet<MessageKind> = new Set<AnswerKind>([
  "hello-ack",
  "accept",
  "ready",
  "running",
  "outcome",
]);

function isAnswer(message: Message): message is MessageOf<AnswerKind> {
  return answerKinds.has(message.kind);
}

interface Waiter {
  readonly kind: AnswerKind;
  readonly resolve: (message: MessageOf<AnswerKind>) => void;
  readonly reject: (error: OperationError) => void;
}

export class Conversation {
  readonly role: Role;
  readonly #peer: Role;
  readonly #options: ConversationOptions;
  readonly #transport: Transport;
  readonly #outbox: Outbox;
  readonly #decoder: FrameDecoder;
  readonly #rules = new StreamRules();
  readonly #liveness: Liveness;
  #state: ConversationState = "greeting";
  #ended = false;
  #endError: OperationError | undefined;
  #peerGaveUp = false;
  #answer: MessageOf<AnswerKind> | undefined;
  #waiter: Waiter | undefined;

  constructor(options: ConversationOptions) {
    this.role = options.role;
    this.#peer = options.role === "source" ? "destination" : "source";
    this.#options = options;
    this.#transport = options.transport;
    this.#outbox = new Outbox(options.transport);
    this.#liveness = new Liveness(options.liveness);
    this.#decoder = new FrameDecoder({
      admit: (kind, payloadBytes) => this.#admit(kind, payloadBytes),
      onMessage: (message) => this.#receive(message),
    });
    this.#transport.start({
      onData: (chunk) => this.#onData(chunk),
      onClose: (error) => this.#onClose(error),
    });
  }

  get state(): ConversationState {
    return this.#state;
  }

  /** The peer itself said `error` or `abort`. From the destination that means that it does not run the guest and never will. */
  get peerGaveUp(): boolean {
    return this.#peerGaveUp;
  }

  get bytesSent(): number {
    return this.#transport.bytesSent;
  }

  get bytesReceived(): number {
    return this.#transport.bytesReceived;
  }

  /** Bytes allocated for a frame that has not arrived whole. */
  get heldBytes(): number {
    return this.#decoder.heldBytes;
  }

  /**
   * Sends a message; the caller keeps what is in it. It is the programmer's error to send what is not legal now.
   * Throws the OperationError that ended the conversation when it has ended. A promise means backpressure; it never
   * rejects. `goodbye`, `abort` and `error` end the conversation.
   */
  send(message: Message): Promise<void> | undefined {
    this.#advance(message);
    const waiting = this.#outbox.send(message);
    if (message.kind === "goodbye") this.#finish("done", undefined);
    if (message.kind === "abort" || message.kind === "error") this.#finish("failed", errorOfMessage(message, "self"));
    return waiting;
  }

  /** An empty frame for pages of one round, to be filled and given to `sendPages`. Frames are used again. */
  pagesEncoder(options: { round: number; pageBytes: number }): PagesEncoder {
    return this.#outbox.pagesEncoder(options.round, options.pageBytes);
  }

  /** Sends the pages gathered in a frame, which is the conversation's from now on. Otherwise like `send`. */
  sendPages(pages: PagesEncoder): Promise<void> | undefined {
    this.#advance({ kind: "pages", round: pages.round, pageBytes: pages.pageBytes, pages: pages.pages });
    return this.#outbox.sendPages(pages);
  }

  /** The peer's answer to what was asked last; rejects with the error that ended the conversation. One wait at a time. */
  expect<Kind extends AnswerKind>(kind: Kind): Promise<MessageOf<Kind>> {
    assert(this.#waiter === undefined, "somebody waits for an answer already");
    const { promise, resolve, reject } = Promise.withResolvers<MessageOf<AnswerKind>>();
    this.#waiter = { kind, resolve, reject };
    this.#settleWaiter();
    return promise as Promise<MessageOf<Kind>>;
  }

  /** Tells the peer what failed, where that is still legal, and ends. Nothing happens when it has ended already. */
  fail(error: OperationError): void {
    if (this.#ended) return;
    if (nextState(this.#state, this.role, "error") !== undefined) {
      void this.#outbox.send(errorMessageOf(error));
    }
    this.#finish("failed", error);
  }

  /** Ends without another word. Nothing happens when it has ended already. */
  close(): void {
    if (!this.#ended) this.#finish("failed", closedHere());
  }

  /** To be called about once a second: keeps the link alive, and ends it with `peer-silent` when the peer is gone. */
  tick(nowMs: number): void {
    if (this.#ended) return;
    const verdict = this.#liveness.observe(nowMs, this.bytesSent, this.bytesReceived);
    if (verdict === "peer-silent") {
      const { silenceMs } = this.#liveness.limits;
      this.fail(
        wireError("peer-silent", `Nothing was heard from the ${this.#peer} for ${silenceMs} ms.`, { silenceMs }),
      );
    } else if (verdict === "keepalive-due" && nextState(this.#state, this.role, "keepalive") !== undefined) {
      void this.send({ kind: "keepalive" });
    }
  }

  /** Asserts that the message is legal for this side now and keeps the rules, and goes to the state after it. */
  #advance(message: RuledMessage): void {
    if (this.#ended) throw this.#endError ?? closedHere();
    const next = nextState(this.#state, this.role, message.kind);
    assert(next !== undefined, `the ${this.role} may not send ${message.kind} in state ${this.#state}`);
    const violation = this.#rules.violation(message);
    assert(violation === undefined, `${message.kind}: ${violation}`);
    this.#state = next;
  }

  #onData(chunk: Uint8Array): void {
    if (this.#ended) return;
    try {
      this.#decoder.push(chunk);
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      this.fail(thrown);
    }
  }

  #admit(kind: MessageKind, payloadBytes: number): void {
    if (nextState(this.#state, this.#peer, kind) === undefined) {
      const legal = legalKinds(this.#state, this.#peer).join(", ");
      const message = `The ${this.#peer} sent ${kind} in state ${this.#state}, where only ${legal || "nothing"} may come.`;
      throw wireError("wire-state", message, { kind, state: this.#state });
    }
    if (kind === "pages" && payloadBytes > this.#rules.pagesPayloadBytesMax) {
      throw wireError("wire-length", `pages with a payload of ${payloadBytes} bytes`, { kind, payloadBytes });
    }
  }

  #receive(message: Message): void {
    const violation = this.#rules.violation(message);
    if (violation !== undefined) {
      throw wireError("wire-contradiction", `${message.kind}: ${violation}.`, {
        kind: message.kind,
        state: this.#state,
      });
    }
    const next = nextState(this.#state, this.#peer, message.kind);
    assert(next !== undefined, "the message was admitted");
    this.#state = next;
    if (message.kind === "keepalive") return;
    if (message.kind === "error" || message.kind === "abort") this.#peerGaveUp = true;
    if (isAnswer(message)) {
      this.#answer = message;
      this.#settleWaiter();
    }
    this.#options.onMessage?.(message);
    if (message.kind === "error" || message.kind === "abort") this.#finish("failed", errorOfMessage(message, "peer"));
    if (message.kind === "goodbye") this.#finish("done", undefined);
  }

  #settleWaiter(): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    if (this.#answer !== undefined) {
      assert(this.#answer.kind === waiter.kind, `${this.#answer.kind} came for who waits for ${waiter.kind}`);
      waiter.resolve(this.#answer);
      this.#answer = undefined;
      this.#waiter = undefined;
    } else if (this.#ended) {
      waiter.reject(this.#endError ?? closedHere());
      this.#waiter = undefined;
    }
  }

  #onClose(error: OperationError | undefined): void {
    if (this.#ended) return;
    this.#finish("failed", error ?? this.#incomplete() ?? this.#closedEarly());
  }

  #incomplete(): OperationError | undefined {
    try {
      this.#decoder.end();
      return undefined;
    } catch (thrown) {
      if (thrown instanceof OperationError) return thrown;
      throw thrown;
    }
  }

  #closedEarly(): OperationError {
    return wireError("peer-closed", `The ${this.#peer} closed the link in state ${this.#state}.`, {
      state: this.#state,
    });
  }

  #finish(state: "done" | "failed", error: OperationError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#endError = error;
    this.#state = state;
    this.#decoder.stop();
    this.#transport.close();
    this.#outbox.end();
    this.#settleWaiter();
    this.#options.onEnd(error);
  }
}

function closedHere(): OperationError {
  return wireError("conversation-closed", "This side has ended the conversation.");
}
