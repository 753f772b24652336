// A conversation: one side's end of a migration link, with framing, legality and backpressure behind typed messages.
import type { OperationError } from "../../base/errors.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { Message, MessageKind, MessageOf, Role } from "./protocol.ts";
import type { Transport } from "./transport.ts";

export interface ConversationOptions {
  readonly role: Role;
  readonly transport: Transport;
  /**
   * Every message of the peer, in order, keepalives left out. Views inside it are good until the handler returns. An
   * OperationError thrown here is sent to the peer as `error` and ends the conversation.
   */
  readonly onMessage: (message: Message) => void;
  /** The end, once. Without an error `goodbye` was said; an `error` or `abort` of the peer comes as OperationError. */
  readonly onEnd: (error: OperationError | undefined) => void;
}

export interface ConversationApi {
  /**
   * Sends a message. It is the programmer's error to send what is not legal now. Throws the OperationError that ended
   * the conversation when it has ended. A promise means backpressure; it never rejects.
   */
  send(message: Message): Promise<void> | undefined;
  /** Sends up to 256 pages (strictly ascending) with the bytes they hold now. */
  sendPages(options: { round: number; memory: GuestMemory; pages: Uint32Array }): Promise<void> | undefined;
  /** The next message of the peer, which must be of this kind; rejects with the error that ended the conversation. */
  expect<Kind extends MessageKind>(kind: Kind): Promise<MessageOf<Kind>>;
  /** Tells the peer what failed, if that is still legal, and ends. */
  fail(error: OperationError): void;
  /** Ends without another word. */
  close(): void;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}
