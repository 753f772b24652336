// Two transports joined in memory: for two machines in one process, and for tests that cut and break the stream.
import { assert } from "../../base/assert.ts";
import type { OperationError } from "../../base/errors.ts";
import { SeededRandom } from "../../base/random.ts";
import { wireError } from "./errors.ts";
import type { Transport, TransportHandlers } from "./transport.ts";

export interface MemoryTransportOptions {
  /**
   * Splits and merges what is sent at random into chunks of up to `chunkBytesMax` bytes. Delivered chunks are
   * overwritten afterwards and sent buffers are read late, so that who keeps a view or reuses a buffer too early is
   * found out. Without it, each send is delivered as it is and where it is.
   */
  readonly chunking?: { readonly seed: number; readonly chunkBytesMax?: number };
  /** The link breaks, both ways, once this many bytes have been delivered from the first to the second or back. */
  readonly breakAfterBytes?: { readonly fromFirst?: number; readonly fromSecond?: number };
  /** Runs a delivery later. Default: queueMicrotask, which lets no timer in between. */
  readonly defer?: (deliver: () => void) => void;
}

interface Sending {
  readonly bytes: Uint8Array;
  delivered: number;
  readonly resolve: () => void;
}

const defaultChunkBytesMax = 4096;
const poison = 0xa5;

export function memoryTransportPair(options: MemoryTransportOptions = {}): { first: Transport; second: Transport } {
  const first = new MemoryTransport(options, options.breakAfterBytes?.fromFirst);
  const second = new MemoryTransport(options, options.breakAfterBytes?.fromSecond);
  first.joinTo(second);
  second.joinTo(first);
  return { first, second };
}

class MemoryTransport implements Transport {
  bytesSent = 0;
  bytesReceived = 0;
  readonly #options: MemoryTransportOptions;
  readonly #breakAfterBytes: number;
  readonly #random: SeededRandom | undefined;
  readonly #queue: Sending[] = [];
  #peer: MemoryTransport | undefined;
  #handlers: TransportHandlers | undefined;
  #delivered = 0;
  #deferred = false;
  #closing = false;
  #closed = false;

  constructor(options: MemoryTransportOptions, breakAfterBytes: number | undefined) {
    this.#options = options;
    this.#breakAfterBytes = breakAfterBytes ?? Number.POSITIVE_INFINITY;
    if (options.chunking !== undefined) this.#random = new SeededRandom(options.chunking.seed);
  }

  joinTo(peer: MemoryTransport): void {
    this.#peer = peer;
  }

  get #other(): MemoryTransport {
    assert(this.#peer !== undefined, "both ends are joined when they are made");
    return this.#peer;
  }

  start(handlers: TransportHandlers): void {
    assert(this.#handlers === undefined, "a transport is started once");
    this.#handlers = handlers;
    this.#other.#deferDelivery();
  }

  send(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#closed || this.#closing || bytes.length === 0) return undefined;
    this.bytesSent += bytes.length;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queue.push({ bytes, delivered: 0, resolve });
    this.#deferDelivery();
    return promise;
  }

  close(): void {
    this.#closing = true;
    this.#deferDelivery();
  }

  #deferDelivery(): void {
    if (this.#deferred || this.#closed) return;
    this.#deferred = true;
    (this.#options.defer ?? queueMicrotask)(() => {
      this.#deferred = false;
      this.#deliver();
    });
  }

  /** Hands one chunk to the peer, or the end when everything has been handed over. */
  #deliver(): void {
    const handlers = this.#other.#handlers;
    if (this.#closed || handlers === undefined) return;
    if (this.#delivered >= this.#breakAfterBytes) {
      this.#break();
    } else if (this.#queue.length > 0) {
      this.#deliverChunk(handlers);
      this.#deferDelivery();
    } else if (this.#closing) {
      this.#end(undefined);
      this.#other.#end(undefined);
    }
  }

  #deliverChunk(handlers: TransportHandlers): void {
    const chunk = this.#nextChunk();
    this.#delivered += chunk.length;
    const peer = this.#other;
    if (peer.#closing || peer.#closed) return;
    peer.bytesReceived += chunk.length;
    handlers.onData(chunk);
    if (this.#random !== undefined) chunk.fill(poison);
  }

  #nextChunk(): Uint8Array {
    const left = this.#breakAfterBytes - this.#delivered;
    const head = this.#queue[0];
    if (this.#random === undefined && head !== undefined) return this.#take(Math.min(head.bytes.length, left));
    const chunkBytesMax = this.#options.chunking?.chunkBytesMax ?? defaultChunkBytesMax;
    const wanted = Math.min(1 + (this.#random?.below(chunkBytesMax) ?? 0), left);
    const parts: Uint8Array[] = [];
    for (let taken = 0; taken < wanted && this.#queue.length > 0;) {
      const part = this.#take(wanted - taken);
      parts.push(part);
      taken += part.length;
    }
    return joined(parts);
  }

  /** Up to `bytesMax` bytes of the first sending, which goes back to its owner with its last byte. */
  #take(bytesMax: number): Uint8Array {
    const head = this.#queue[0];
    assert(head !== undefined, "there is something to take");
    const part = head.bytes.subarray(head.delivered, head.delivered + bytesMax);
    head.delivered += part.length;
    if (head.delivered === head.bytes.length) {
      this.#queue.shift();
      head.resolve();
    }
    return part;
  }

  #break(): void {
    const error = wireError("peer-closed", `The link broke after ${this.#delivered} bytes.`);
    this.#end(error);
    this.#other.#end(error);
  }

  #end(error: OperationError | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const sending of this.#queue.splice(0)) sending.resolve();
    this.#handlers?.onClose(error);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
