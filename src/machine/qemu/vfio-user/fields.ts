// Messages as bytes: little-endian fields, the header in front of them, and the one buffer that replies are built in.
import { assert } from "../../../base/assert.ts";
import { HEADER_BYTES } from "./protocol.ts";

const HIGH_HALF = 0x1_0000_0000;

/**
 * A payload by its fields. Reading past the end throws: whoever reads has looked at `length` first.
 *
 * 64-bit fields are numbers: exact below 2^53, above it the nearest double, which is still no address and larger than any.
 */
export class Fields {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  u64(at: number): number {
    return this.#view.getUint32(at + 4, true) * HIGH_HALF + this.#view.getUint32(at, true);
  }

  /** Writers are chained: `fields.setU32(0, 16).setU32(4, flags)`. */
  setU16(at: number, value: number): this {
    this.#view.setUint16(at, value, true);
    return this;
  }

  setU32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }

  setU64(at: number, value: number): this {
    this.#view.setUint32(at, value % HIGH_HALF, true);
    this.#view.setUint32(at + 4, Math.floor(value / HIGH_HALF), true);
    return this;
  }
}

export interface Header {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error?: number;
}

/** Writes the header of a message that is exactly `message`. */
export function writeHeader(message: Uint8Array, header: Header): void {
  new Fields(message)
    .setU16(0, header.id)
    .setU16(2, header.command)
    .setU32(4, message.length)
    .setU32(8, header.flags)
    .setU32(12, header.error ?? 0);
}

/** Room for the replies that are sent all the time: a register, or all of configuration space. */
const USUAL_BYTES = 8192;

/** Where a reply is built, header and all; used again for the next one, since a channel keeps none of it. */
export class ReplyBuffer {
  readonly #usual = new Uint8Array(USUAL_BYTES);
  #message: Uint8Array = this.#usual.subarray(0, HEADER_BYTES);

  /** Begins an empty reply. */
  clear(): void {
    this.#message = this.#usual.subarray(0, HEADER_BYTES);
  }

  /** The payload, `lengthBytes` zero bytes, to be filled in. */
  payload(lengthBytes: number): Fields {
    assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, `a payload of ${lengthBytes} bytes`);
    const bytes = HEADER_BYTES + lengthBytes;
    this.#message = bytes <= USUAL_BYTES ? this.#usual.subarray(0, bytes).fill(0) : new Uint8Array(bytes);
    return new Fields(this.#message.subarray(HEADER_BYTES));
  }

  /** A payload that repeats these bytes. */
  echo(bytes: Uint8Array): Fields {
    const fields = this.payload(bytes.length);
    fields.bytes.set(bytes);
    return fields;
  }

  /** The whole message under this header. */
  seal(header: Header): Uint8Array {
    writeHeader(this.#message, header);
    return this.#message;
  }
}
