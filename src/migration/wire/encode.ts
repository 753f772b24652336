// From messages to frames, and the one copy of a page between guest memory and the socket.
import { assert, unreachable } from "../../base/assert.ts";
import { encodeControl, isControlKind, type ControlMessage } from "./control-payloads.ts";
import { headerBytes, pagesPayloadBytes, pagesPerFrameMax, pagesPrefixBytes, payloadLengths } from "./frame.ts";
import { statePrefixBytes, zeroPagesPrefixBytes } from "./frame.ts";
import { sealFrame } from "./header.ts";
import { writePages, writePagesTable, writeZeroPages } from "./page-payloads.ts";
import type { Message, MessageKind } from "./protocol.ts";
import { writeEndOfState, writeMigrationId, writeOutcome, writeRoundEnd, writeStatePart } from "./state-payloads.ts";

type FixedMessage = Exclude<Message, ControlMessage>;

/** Makes the frames of one direction: it counts them. */
export class FrameEncoder {
  #sequence = 0;

  /** The frame of a message, in bytes of its own. What does not fit the protocol is the programmer's error. */
  encode(message: Message): Uint8Array {
    if (isControl(message)) {
      const payload = encodeControl(message);
      const frame = new Uint8Array(headerBytes + payload.length);
      frame.set(payload, headerBytes);
      return this.#seal(message.kind, frame);
    }
    const frame = new Uint8Array(headerBytes + fixedPayloadBytes(message));
    const written = writeFixedPayload(message, frame, headerBytes);
    assert(headerBytes + written === frame.length, `${message.kind}: length announced and written differ`);
    return this.#seal(message.kind, frame);
  }

  /** The frame of the pages gathered so far, in the encoder's own buffer. */
  encodePages(pages: PagesEncoder): Uint8Array {
    return this.#seal("pages", pages.finish());
  }

  #seal(kind: MessageKind, frame: Uint8Array): Uint8Array {
    const { minBytes, maxBytes } = payloadLengths[kind];
    const payloadBytes = frame.length - headerBytes;
    assert(payloadBytes >= minBytes && payloadBytes <= maxBytes, `${kind} payload of ${payloadBytes} bytes`);
    sealFrame(kind, this.#sequence, frame);
    this.#sequence = (this.#sequence + 1) >>> 0;
    return frame;
  }
}

/**
 * Gathers pages into the buffer they are sent from: the one copy between guest memory and the socket, and the least
 * there can be, since the guest goes on writing and what is sent must be what was hashed. A page is read when it is
 * added, not when the frame leaves. The buffer is used again, so it is the transport's until it says otherwise.
 */
export class PagesEncoder {
  readonly pageBytes: number;
  round = 0;
  readonly #buffer: Uint8Array;
  readonly #pages = new Uint32Array(pagesPerFrameMax);
  #count = 0;

  constructor(pageBytes: number) {
    this.pageBytes = pageBytes;
    this.#buffer = new Uint8Array(headerBytes + pagesPayloadBytes(pagesPerFrameMax, pageBytes));
  }

  begin(round: number): void {
    this.round = round;
    this.#count = 0;
  }

  get count(): number {
    return this.#count;
  }

  /** Page numbers so far; a view. */
  get pages(): Uint32Array {
    return this.#pages.subarray(0, this.#count);
  }

  /** Whether this page can still go into this frame: there is room, and it comes after the last one. */
  takes(page: number): boolean {
    if (this.#count === 0) return true;
    return this.#count < pagesPerFrameMax && page > (this.#pages[this.#count - 1] as number);
  }

  /** Copies one page from `source` at `start`. */
  add(page: number, source: Uint8Array, start: number): void {
    assert(this.takes(page), `page ${page} does not go into this frame`);
    assert(start >= 0 && start + this.pageBytes <= source.length, `page ${page} is outside its source`);
    const at = headerBytes + pagesPrefixBytes + this.#count * this.pageBytes;
    this.#buffer.set(source.subarray(start, start + this.pageBytes), at);
    this.#pages[this.#count] = page;
    this.#count++;
  }

  /** Completes the payload; the frame still lacks its header. */
  finish(): Uint8Array {
    const payloadBytes = writePagesTable(this, this.#buffer, headerBytes);
    return this.#buffer.subarray(0, headerBytes + payloadBytes);
  }
}

function isControl(message: Message): message is ControlMessage {
  return isControlKind(message.kind);
}

function fixedPayloadBytes(message: FixedMessage): number {
  switch (message.kind) {
    case "pages":
      return pagesPayloadBytes(message.pages.length, message.pageBytes);
    case "zero-pages":
      return zeroPagesPrefixBytes + 4 * message.ranges.length;
    case "machine-state":
    case "vf-state":
      return statePrefixBytes + message.bytes.length;
    case "accept":
    case "round-end":
    case "end-of-state":
    case "go":
    case "running":
    case "goodbye":
    case "query-outcome":
    case "outcome":
    case "keepalive":
      return payloadLengths[message.kind].maxBytes;
    default:
      return unreachable(message);
  }
}

function writeFixedPayload(message: FixedMessage, target: Uint8Array, at: number): number {
  switch (message.kind) {
    case "pages":
      return writePages(message, target, at);
    case "zero-pages":
      return writeZeroPages(message, target, at);
    case "round-end":
      return writeRoundEnd(message, target, at);
    case "machine-state":
    case "vf-state":
      return writeStatePart(message, target, at);
    case "end-of-state":
      return writeEndOfState(message, target, at);
    case "query-outcome":
      return writeMigrationId(message.migrationId, target, at);
    case "outcome":
      return writeOutcome(message, target, at);
    case "accept":
    case "go":
    case "running":
    case "goodbye":
    case "keepalive":
      return 0;
    default:
      return unreachable(message);
  }
}
