// Messages of vfio-user out of a stream of bytes, however it was cut, each with the descriptors that came with its bytes.
import { assert } from "../../../base/assert.ts";
import type { ReceivedMessage } from "./channel.ts";

/** The header (docs/vfio-user.rst, "Header"): id and command of 2 bytes, then size, flags and error of 4, little-endian. */
const MESSAGE_HEADER_BYTES = 16;
const SIZE_AT = 4;

const none: readonly number[] = [];

export interface MessageAssemblerOptions {
  readonly messageBytesMax: number;
  readonly descriptorsMax: number;
  readonly onMessage: (message: ReceivedMessage) => void;
  /** Takes descriptors of messages that nobody will get. */
  readonly onDropped: (descriptors: readonly number[]) => void;
}

/**
 * Takes the stream in the chunks that recvmsg(2) gave. A message that lies whole in a chunk is not copied; memory is
 * bounded by one longest message.
 *
 * Which message descriptors belong to, when a chunk ends or begins in the middle of one or holds several: the kernel
 * stops reading behind the first piece that carried descriptors (unix_stream_read_generic), so these came with the
 * chunk's last piece, and belong to the message that has the chunk's last byte. That is right for every peer that sends
 * a message, or the part of it that carries descriptors, in one sendmsg(2).
 */
export class MessageAssembler {
  readonly #options: MessageAssemblerOptions;
  /** The beginning of a message that the chunks so far did not complete. */
  #held = new Uint8Array(MESSAGE_HEADER_BYTES);
  #heldBytes = 0;
  #heldDescriptors: readonly number[] = none;
  /** Descriptors of the chunk at hand that no message has got yet. */
  #arrived: readonly number[] = none;
  #problem: string | undefined;
  #isStopped = false;

  constructor(options: MessageAssemblerOptions) {
    assert(options.messageBytesMax >= MESSAGE_HEADER_BYTES, "a message needs room for its header");
    this.#options = options;
  }

  /**
   * Hands out the messages that this chunk completes. Gives a sentence on what the peer did wrong when the stream makes
   * no sense any more; everything after that is ignored.
   */
  push(chunk: Uint8Array, descriptors: readonly number[]): string | undefined {
    this.#arrived = descriptors;
    let at = this.#isStopped || this.#heldBytes === 0 ? 0 : this.#completeHeld(chunk);
    while (!this.#isStopped && chunk.length - at >= MESSAGE_HEADER_BYTES) {
      const size = this.#sizeAt(chunk, at);
      if (size === 0 || size > chunk.length - at) break;
      if (at + size === chunk.length) this.#holdArrived();
      this.#deliver(chunk.subarray(at, at + size));
      at += size;
    }
    if (!this.#isStopped && at < chunk.length) this.#hold(chunk.subarray(at));
    this.#drop(this.#takeArrived());
    return this.#problem;
  }

  /** Hands out nothing any more, and drops the descriptors of the message that was never completed. */
  stop(): void {
    this.#isStopped = true;
    const descriptors = this.#heldDescriptors;
    this.#heldDescriptors = none;
    this.#drop(descriptors);
  }

  /** Adds to the held beginning until its message is whole. Gives how much of the chunk that took. */
  #completeHeld(chunk: Uint8Array): number {
    let at = Math.min(Math.max(0, MESSAGE_HEADER_BYTES - this.#heldBytes), chunk.length);
    this.#append(chunk.subarray(0, at));
    if (this.#heldBytes < MESSAGE_HEADER_BYTES) {
      this.#holdArrived();
      return at;
    }
    const size = this.#sizeAt(this.#held, 0);
    if (size === 0) return at;
    const taken = Math.min(size - this.#heldBytes, chunk.length - at);
    this.#reserve(size);
    this.#append(chunk.subarray(at, at + taken));
    at += taken;
    if (at === chunk.length) this.#holdArrived();
    if (this.#heldBytes < size) return at;
    this.#heldBytes = 0;
    this.#deliver(this.#held.subarray(0, size));
    return at;
  }

  /** Keeps the beginning of a message that is longer than the chunk. */
  #hold(rest: Uint8Array): void {
    this.#reserve(rest.length < MESSAGE_HEADER_BYTES ? MESSAGE_HEADER_BYTES : this.#sizeAt(rest, 0));
    this.#append(rest);
    this.#holdArrived();
  }

  /** The chunk ends in the message at hand, so its descriptors are held for that message. */
  #holdArrived(): void {
    if (this.#arrived.length === 0) return;
    this.#heldDescriptors = [...this.#heldDescriptors, ...this.#takeArrived()];
    const { descriptorsMax } = this.#options;
    const count = this.#heldDescriptors.length;
    if (count > descriptorsMax) {
      this.#fail(`it sent ${count} descriptors with a message, where ${descriptorsMax} are allowed`);
    }
  }

  #takeArrived(): readonly number[] {
    const descriptors = this.#arrived;
    this.#arrived = none;
    return descriptors;
  }

  #reserve(size: number): void {
    if (this.#held.length >= size) return;
    const larger = new Uint8Array(size);
    larger.set(this.#held.subarray(0, this.#heldBytes));
    this.#held = larger;
  }

  #append(bytes: Uint8Array): void {
    this.#held.set(bytes, this.#heldBytes);
    this.#heldBytes += bytes.length;
  }

  /** The size that a header announces, or 0 when it is not allowed, which ends the stream. */
  #sizeAt(bytes: Uint8Array, at: number): number {
    const size = readU32(bytes, at + SIZE_AT);
    const { messageBytesMax } = this.#options;
    if (size >= MESSAGE_HEADER_BYTES && size <= messageBytesMax) return size;
    this.#fail(
      `it announced a message of ${size} bytes, where ${MESSAGE_HEADER_BYTES} to ${messageBytesMax} are allowed`,
    );
    return 0;
  }

  /** Hands out a whole message with the descriptors held for it; none if there were too many. */
  #deliver(message: Uint8Array): void {
    if (this.#isStopped) return;
    const descriptors = this.#heldDescriptors;
    this.#heldDescriptors = none;
    this.#options.onMessage({
      id: readU16(message, 0),
      command: readU16(message, 2),
      flags: readU32(message, 8),
      error: readU32(message, 12),
      payload: message.subarray(MESSAGE_HEADER_BYTES),
      descriptors,
    });
  }

  #fail(problem: string): void {
    this.#problem ??= problem;
    this.stop();
  }

  #drop(descriptors: readonly number[]): void {
    if (descriptors.length > 0) this.#options.onDropped(descriptors);
  }
}

function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

function readU32(bytes: Uint8Array, at: number): number {
  return (readU16(bytes, at) | (readU16(bytes, at + 2) << 16)) >>> 0;
}
