// Commands that the server sends to the client, DMA_READ and DMA_WRITE, and which reply belongs to which.
import { writeHeader } from "./fields.ts";
import { FLAG_ERROR, FLAG_NO_REPLY, HEADER_BYTES, REQUESTS_MAX, TYPE_COMMAND, type Command } from "./protocol.ts";

/** The reply to a request. */
export interface RequestReply {
  /** The header's: FLAG_ERROR is set if the client refused. */
  readonly flags: number;
  /** What follows the header; good until the listener returns. */
  readonly payload: Uint8Array;
}

export type ReplyListener = (reply: RequestReply) => void;

/**
 * The id of every request that wants no reply. Clients answer even those when they fail, libvfio-user's sample always, and
 * such answers are for nobody.
 */
const UNANSWERED_ID = 0;
const ID_COUNT = 0x1_0000;

interface Waiting {
  readonly command: Command;
  readonly onReply: ReplyListener;
}

/** Never waits: a request is sent, and its reply comes when it comes, in any order; or never, if the client goes. */
export class Requests {
  /** Error replies to requests that wanted none: DMA that the client refused, to memory behind no mapping of its vIOMMU. */
  refused = 0;
  readonly #send: (message: Uint8Array) => void;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = UNANSWERED_ID;

  constructor(send: (message: Uint8Array) => void) {
    this.#send = send;
  }

  /** Requests without their reply yet. */
  get outstanding(): number {
    return this.#waiting.size;
  }

  /** Sends a request, with NO_REPLY unless someone listens. False, and nothing is sent, if too many wait for replies. */
  send(command: Command, payload: Uint8Array, onReply?: ReplyListener): boolean {
    let id = UNANSWERED_ID;
    if (onReply !== undefined) {
      if (this.#waiting.size >= REQUESTS_MAX) return false;
      id = this.#freeId();
      this.#waiting.set(id, { command, onReply });
    }
    const message = new Uint8Array(HEADER_BYTES + payload.length);
    message.set(payload, HEADER_BYTES);
    writeHeader(message, { id, command, flags: TYPE_COMMAND | (onReply === undefined ? FLAG_NO_REPLY : 0) });
    this.#send(message);
    return true;
  }

  /** Hands a reply to whoever waits for it. False if it answers nothing that was asked. */
  answered(id: number, command: number, reply: RequestReply): boolean {
    if (id === UNANSWERED_ID) {
      if ((reply.flags & FLAG_ERROR) !== 0) this.refused++;
      return true;
    }
    const waiting = this.#waiting.get(id);
    if (waiting === undefined || waiting.command !== command) return false;
    this.#waiting.delete(id);
    waiting.onReply(reply);
    return true;
  }

  #freeId(): number {
    do this.#lastId = (this.#lastId + 1) % ID_COUNT;
    while (this.#lastId === UNANSWERED_ID || this.#waiting.has(this.#lastId));
    return this.#lastId;
  }
}
