// A client for tests: works off DMA messages one by one, in order, when it is told to, and answers reads as late as told.
import type { DmaPort } from "../../../iommu/dma-port.ts";
import { DmaStatus } from "../../../iommu/dma-port.ts";
import type { DmaRequester, ReadListener } from "./dma-requester.ts";

type Message =
  | { readonly kind: "read"; readonly iova: number; readonly lengthBytes: number; readonly onAnswer: ReadListener }
  | { readonly kind: "write"; readonly iova: number; readonly bytes: Uint8Array };

export class MessageClient implements DmaRequester {
  /** Messages sent, by kind. */
  readonly sent = { read: 0, write: 0 };
  isGone = false;
  /** Longest access in one message. */
  longestBytes = 0;
  readonly #memory: DmaPort;
  readonly #messages: Message[] = [];
  readonly #answers: (() => void)[] = [];

  constructor(memory: DmaPort) {
    this.#memory = memory;
  }

  read(iova: number, lengthBytes: number, onAnswer: ReadListener): boolean {
    if (this.isGone) return false;
    this.#send({ kind: "read", iova, lengthBytes, onAnswer }, lengthBytes);
    return true;
  }

  write(iova: number, bytes: Uint8Array): void {
    if (!this.isGone) this.#send({ kind: "write", iova, bytes: bytes.slice() }, bytes.length);
  }

  #send(message: Message, lengthBytes: number): void {
    this.sent[message.kind]++;
    this.longestBytes = Math.max(this.longestBytes, lengthBytes);
    this.#messages.push(message);
  }

  /** Works off the oldest message; what it answers is on its way then. False if there was none. */
  work(): boolean {
    const message = this.#messages.shift();
    if (message === undefined) return false;
    if (message.kind === "write") {
      this.#memory.writeBytes(message.iova, message.bytes, 0, message.bytes.length, 0);
      return true;
    }
    const bytes = new Uint8Array(message.lengthBytes);
    const isRead = this.#memory.readBytes(message.iova, bytes, 0, bytes.length) === DmaStatus.ok;
    this.#answers.push(() => {
      message.onAnswer(isRead ? bytes : undefined);
      bytes.fill(0xee);
    });
    return true;
  }

  /** Lets the oldest answer arrive. False if none was on its way. */
  arrive(): boolean {
    const answer = this.#answers.shift();
    answer?.();
    return answer !== undefined;
  }
}
