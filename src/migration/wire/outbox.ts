// The sending half of a conversation: frames messages, keeps the buffers of pages, and says when to wait.
import { assert } from "../../base/assert.ts";
import { FrameEncoder, PagesEncoder } from "./encode.ts";
import type { Message } from "./protocol.ts";
import type { Transport } from "./transport.ts";

/** With more than this on its way the sender is asked to wait: enough to encode a frame while another one leaves. */
const bytesOnTheWayMax = 2 * 1024 * 1024;
/** Frames of pages on their way at once; more means that nobody waits for the promises. */
const pageFramesMax = 16;

export class Outbox {
  readonly #transport: Transport;
  readonly #encoder = new FrameEncoder();
  readonly #freeEncoders: PagesEncoder[] = [];
  #pageFrames = 0;
  #bytesOnTheWay = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  send(message: Message): Promise<void> | undefined {
    return this.#transmit(this.#encoder.encode(message));
  }

  pagesEncoder(round: number, pageBytes: number): PagesEncoder {
    const reused = this.#freeEncoders.pop();
    const encoder = reused?.pageBytes === pageBytes ? reused : new PagesEncoder(pageBytes);
    encoder.begin(round);
    return encoder;
  }

  sendPages(pages: PagesEncoder): Promise<void> | undefined {
    assert(this.#pageFrames < pageFramesMax, "pages are sent without waiting for backpressure");
    this.#pageFrames++;
    return this.#transmit(this.#encoder.encodePages(pages), () => {
      this.#pageFrames--;
      this.#freeEncoders.push(pages);
    });
  }

  /** Nobody waits any more. */
  end(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }

  /** Calls `release` when the bytes are ours again. */
  #transmit(bytes: Uint8Array, release?: () => void): Promise<void> | undefined {
    const sending = this.#transport.send(bytes);
    if (sending === undefined) {
      release?.();
      return undefined;
    }
    this.#bytesOnTheWay += bytes.length;
    void this.#afterSending(sending, bytes.length, release);
    if (this.#bytesOnTheWay <= bytesOnTheWayMax) return undefined;
    this.#drained ??= Promise.withResolvers<void>();
    return this.#drained.promise;
  }

  async #afterSending(sending: Promise<void>, length: number, release?: () => void): Promise<void> {
    await sending;
    this.#bytesOnTheWay -= length;
    release?.();
    if (this.#bytesOnTheWay <= bytesOnTheWayMax) this.end();
  }
}
