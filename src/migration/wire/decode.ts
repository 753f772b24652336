// From bytes in arbitrary chunks to messages. Bytes are hostile: everything is checked before it is believed.
import { OperationError } from "../../base/errors.ts";
import { unreachable } from "../../base/assert.ts";
import { checksum } from "./checksum.ts";
import { decodeControl } from "./control-payloads.ts";
import { wireError } from "./errors.ts";
import { headerBytes, magicBytes, payloadLengths } from "./frame.ts";
import { readHeader, type FrameHeader } from "./header.ts";
import { PagePayloadReader } from "./page-payloads.ts";
import type { Message, MessageKind } from "./protocol.ts";
import { readEndOfState, readOutcome, readQueryOutcome, readRoundEnd, readStatePart } from "./state-payloads.ts";

export interface FrameDecoderOptions {
  /**
   * Asked as soon as a header is complete, before any of its payload is kept: the place to refuse what is not legal
   * now or longer than it may be now, by throwing an OperationError.
   */
  readonly admit: (kind: MessageKind, payloadBytes: number) => void;
  /** Takes each message. Views inside it are good until it returns. */
  readonly onMessage: (message: Message) => void;
}

const assemblyBytesMin = 4096;

/**
 * Decodes one direction of a conversation. A payload that lies in one chunk is decoded where it lies; one that is
 * spread over several is put together in a buffer that grows with what has arrived, at most twice as large, and is
 * used again. Any error is final: the stream cannot be trusted to be in step any more.
 */
export class FrameDecoder {
  readonly #options: FrameDecoderOptions;
  readonly #pageReader = new PagePayloadReader();
  readonly #headerBuffer = new Uint8Array(headerBytes);
  #headerFilled = 0;
  #header: FrameHeader | undefined;
  #assembly = new Uint8Array(0);
  #payloadFilled = 0;
  #sequence = 0;
  #stopped = false;
  #failure: OperationError | undefined;

  constructor(options: FrameDecoderOptions) {
    this.#options = options;
  }

  /** Bytes allocated for frames that are not complete. */
  get heldBytes(): number {
    return this.#assembly.length + headerBytes;
  }

  /** Takes the next bytes. Throws the OperationError that ended the stream, again and again once there is one. */
  push(chunk: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      let at = 0;
      while (at < chunk.length && !this.#stopped) {
        at = this.#header === undefined ? this.#takeHeader(chunk, at) : this.#takePayload(this.#header, chunk, at);
      }
    } catch (thrown) {
      if (thrown instanceof OperationError) this.#failure = thrown;
      throw thrown;
    }
  }

  /** The stream is over. Throws `wire-incomplete` in the middle of a frame. */
  end(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#stopped || (this.#header === undefined && this.#headerFilled === 0)) return;
    const missing = this.#header === undefined ? "header" : `payload of ${this.#header.kind}`;
    this.#failure = wireError("wire-incomplete", `The stream ended inside a ${missing}.`, { sequence: this.#sequence });
    throw this.#failure;
  }

  /** Looks at nothing any more, the rest of the present chunk included. */
  stop(): void {
    this.#stopped = true;
    this.#assembly = new Uint8Array(0);
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    if (this.#headerFilled === 0 && chunk.length - at >= headerBytes) {
      this.#beginFrame(readHeader(chunk.subarray(at, at + headerBytes)));
      return at + headerBytes;
    }
    const taken = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
    this.#headerBuffer.set(chunk.subarray(at, at + taken), this.#headerFilled);
    this.#headerFilled += taken;
    if (this.#headerFilled === headerBytes) {
      this.#headerFilled = 0;
      this.#beginFrame(readHeader(this.#headerBuffer));
    } else {
      this.#checkMagicSoFar();
    }
    return at + taken;
  }

  /** A foreign protocol may say less than a header and then wait for us: it is told apart by its first bytes. */
  #checkMagicSoFar(): void {
    for (let i = 0; i < Math.min(this.#headerFilled, magicBytes.length); i++) {
      if (this.#headerBuffer[i] !== magicBytes[i]) {
        throw wireError("wire-magic", "The stream does not speak the migration protocol.");
      }
    }
  }

  #beginFrame(header: FrameHeader): void {
    const { kind, sequence, payloadBytes } = header;
    if (sequence !== this.#sequence) {
      const facts = { kind, sequence, expected: this.#sequence };
      throw wireError("wire-sequence", `Frame ${sequence} came where ${this.#sequence} was due.`, facts);
    }
    const { minBytes, maxBytes } = payloadLengths[kind];
    if (payloadBytes < minBytes || payloadBytes > maxBytes) {
      throw wireError("wire-length", `${kind} with a payload of ${payloadBytes} bytes`, { kind, payloadBytes });
    }
    this.#options.admit(kind, payloadBytes);
    if (payloadBytes === 0) this.#finishFrame(header, new Uint8Array(0));
    else this.#header = header;
  }

  #takePayload(header: FrameHeader, chunk: Uint8Array, at: number): number {
    const { payloadBytes } = header;
    if (this.#payloadFilled === 0 && chunk.length - at >= payloadBytes) {
      this.#finishFrame(header, chunk.subarray(at, at + payloadBytes));
      return at + payloadBytes;
    }
    const taken = Math.min(payloadBytes - this.#payloadFilled, chunk.length - at);
    this.#assemble(chunk.subarray(at, at + taken), payloadBytes);
    if (this.#payloadFilled === payloadBytes) this.#finishFrame(header, this.#assembly.subarray(0, payloadBytes));
    return at + taken;
  }

  #assemble(bytes: Uint8Array, payloadBytes: number): void {
    const filled = this.#payloadFilled + bytes.length;
    if (filled > this.#assembly.length) {
      const larger = new Uint8Array(Math.max(assemblyBytesMin, Math.min(2 * filled, payloadBytes)));
      larger.set(this.#assembly.subarray(0, this.#payloadFilled));
      this.#assembly = larger;
    }
    this.#assembly.set(bytes, this.#payloadFilled);
    this.#payloadFilled = filled;
  }

  #finishFrame(header: FrameHeader, payload: Uint8Array): void {
    const { kind, sequence } = header;
    if (checksum(payload) !== header.payloadChecksum) {
      throw wireError("wire-checksum", `The payload of a ${kind} message is damaged.`, { kind, sequence });
    }
    this.#header = undefined;
    this.#payloadFilled = 0;
    this.#sequence = (this.#sequence + 1) >>> 0;
    this.#options.onMessage(decodePayload(kind, payload, this.#pageReader));
  }
}

/** The message of a payload whose length is within the bounds of its kind. Throws `wire-payload` or `wire-reserved`. */
function decodePayload(kind: MessageKind, payload: Uint8Array, pageReader: PagePayloadReader): Message {
  switch (kind) {
    case "hello":
    case "hello-ack":
    case "offer":
    case "ready":
    case "abort":
    case "error":
      return decodeControl(kind, payload);
    case "pages":
      return pageReader.pages(payload);
    case "zero-pages":
      return pageReader.zeroPages(payload);
    case "round-end":
      return readRoundEnd(payload);
    case "machine-state":
    case "vf-state":
      return readStatePart(kind, payload);
    case "end-of-state":
      return readEndOfState(payload);
    case "query-outcome":
      return readQueryOutcome(payload);
    case "outcome":
      return readOutcome(payload);
    case "accept":
    case "go":
    case "running":
    case "goodbye":
    case "keepalive":
      return { kind };
    default:
      return unreachable(kind);
  }
}
