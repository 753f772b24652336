// Writes one received frame into the guest, beat by beat: buffer, descriptor, and so on, and the cause at the end.
import { DmaStatus } from "../iommu/dma-port.ts";
import { QueueDirection, type DatapathHooks } from "./datapath-ports.ts";
import { DESCRIPTOR_WORDS, RXD_ERR_CE, RXD_STAT_DD, RXD_STAT_EOP } from "./descriptors.ts";
import type { PacketBuffer } from "./packet-buffer.ts";
import { countDelivered, type ReceiveCounters } from "./receive-counters.ts";
import { DESCRIPTOR_LATER, type ReceiveQueue } from "./receive-queue.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok } = DmaStatus;
const { receive } = QueueDirection;
const DD = RXD_STAT_DD;
const LATER = DESCRIPTOR_LATER;

const DONE = DD | RXD_STAT_EOP;

/** What the next step does. */
const Phase = { idle: 0, buffer: 1, writeBack: 2, cause: 3 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

export interface ReceiveWriterParts {
  readonly registers: Uint32Array;
  readonly buffer: PacketBuffer;
  readonly counters: ReceiveCounters;
  readonly hooks: Pick<DatapathHooks, "cause">;
}

/**
 * The state between two beats of one frame. The frame stays the oldest of the packet buffer until its last descriptor
 * is written back.
 *
 * A buffer that cannot be written ends the frame: its descriptor says EOP, a length of 1 and CRC error, and the driver
 * gets its buffers back. A descriptor that cannot be read or written leaves nothing to report with: the queue halts.
 *
 * A descriptor that the port gives later changes nothing: a frame is not begun, or stays where it is between two beats.
 */
export class ReceiveWriter {
  readonly #registers: Uint32Array;
  readonly #buffer: PacketBuffer;
  readonly #bytes: Uint8Array;
  readonly #counters: ReceiveCounters;
  readonly #hooks: Pick<DatapathHooks, "cause">;
  readonly #words = new Uint32Array(DESCRIPTOR_WORDS);
  #phase: Phase = Phase.idle;
  /** The queue and the place of the frame under way; good while the phase is not idle. */
  #queue: ReceiveQueue;
  #offset = 0;
  /** Bytes of it that are written back. */
  #done = 0;
  #remaining = 0;
  /** Bytes in the head's buffer. */
  #piece = 0;
  /** Error bits that end the frame with the next write-back. */
  #error = 0;
  /** What is written is the oldest frame of the packet buffer, not an owed end. */
  #hasFrame = false;

  /** Any queue will do to begin with. */
  constructor(parts: ReceiveWriterParts, queue: ReceiveQueue) {
    this.#registers = parts.registers;
    this.#buffer = parts.buffer;
    this.#bytes = parts.buffer.frame.bytes;
    this.#counters = parts.counters;
    this.#hooks = parts.hooks;
    this.#queue = queue;
  }

  get isIdle(): boolean {
    return this.#phase === Phase.idle;
  }

  /**
   * The first beat of the oldest frame of the packet buffer, for which the queue has descriptors enough. False, and the
   * frame is not begun, if its first descriptor comes later.
   */
  begin(queue: ReceiveQueue, length: number): boolean {
    this.#queue = queue;
    this.#hasFrame = true;
    this.#offset = this.#buffer.offset;
    this.#remaining = length;
    this.#done = 0;
    return this.#writeBuffer();
  }

  /** The only write of an end that is owed: a descriptor that ends the driver's half frame with an error. */
  beginOwedEnd(queue: ReceiveQueue): void {
    this.#queue = queue;
    this.#hasFrame = false;
    this.#endWithError();
    this.#writeBack();
  }

  /** One beat, when not idle. False if the next descriptor comes later. */
  step(): boolean {
    if (this.#phase === Phase.buffer) return this.#writeBuffer();
    if (this.#phase === Phase.writeBack) this.#writeBack();
    else this.cause(this.#queue);
    return true;
  }

  #writeBuffer(): boolean {
    const queue = this.#queue;
    const address = queue.bufferAddress();
    if (address < 0) return this.#withoutAddress(address);
    const piece = this.#remaining < queue.bufferBytes ? this.#remaining : queue.bufferBytes;
    const status = queue.writeBuffer(address, this.#bytes, this.#offset + this.#done, piece);
    this.#phase = Phase.writeBack;
    this.#piece = piece;
    this.#error = 0;
    if (status === ok) return true;
    this.#counters.bufferFaults++;
    this.#endWithError();
    return true;
  }

  #withoutAddress(address: number): boolean {
    if (address === LATER) return false;
    this.#descriptorFault();
    return true;
  }

  /** The next write-back ends the frame, whatever is left of it. */
  #endWithError(): void {
    this.#phase = Phase.writeBack;
    this.#piece = 1;
    this.#remaining = 1;
    this.#error = RXD_ERR_CE;
  }

  #writeBack(): void {
    const queue = this.#queue;
    const isLast = this.#remaining === this.#piece;
    this.#describe(isLast);
    if (queue.writeBack(this.#words) !== ok) {
      this.#descriptorFault();
      return;
    }
    if (!isLast) {
      queue.frameInProgress = true;
      this.#done += this.#piece;
      this.#remaining -= this.#piece;
      this.#phase = Phase.buffer;
      return;
    }
    queue.frameInProgress = false;
    queue.causePending = true;
    this.#phase = Phase.cause;
    if (this.#error === 0) {
      this.#counters.delivered++;
      countDelivered(this.#registers, this.#buffer.frame.words, this.#offset, this.#done + this.#piece);
    }
    this.#leaveFrame();
  }

  /** Fills the write-back in. Only the last descriptor of a frame carries its status and its VLAN tag. */
  #describe(isLast: boolean): void {
    if (this.#error !== 0) {
      this.#describeError();
      return;
    }
    const words = this.#words;
    this.#buffer.described(words);
    if (isLast) {
      words[2] = (words[2] as number) | DONE;
      words[3] = (words[3] as number) | this.#piece;
    } else {
      words[2] = DD;
      words[3] = this.#piece;
    }
  }

  #describeError(): void {
    this.#words[0] = 0;
    this.#words[1] = 0;
    this.#words[2] = DONE | this.#error;
    this.#words[3] = this.#piece;
  }

  /** Raises the cause of a queue that has one pending. */
  cause(queue: ReceiveQueue): void {
    this.#phase = Phase.idle;
    queue.causePending = false;
    this.#hooks.cause(queue.ring.queue, receive);
  }

  #descriptorFault(): void {
    this.#counters.descriptorFaults++;
    this.#queue.halt();
    this.#leaveFrame();
    this.#phase = Phase.idle;
  }

  #leaveFrame(): void {
    if (this.#hasFrame) this.#buffer.pop();
    this.#hasFrame = false;
  }

  /**
   * Drops what is under way for this queue. A frame that is written back whole and only lacks its cause keeps it, unless
   * `withCause` says that the queue is gone.
   */
  abandon(queue: ReceiveQueue, withCause: boolean): void {
    if (this.#phase === Phase.idle || this.#queue !== queue) return;
    if (this.#phase === Phase.cause && !withCause) return;
    this.#phase = Phase.idle;
    if (this.#hasFrame) this.#counters.queueNotReady++;
    this.#leaveFrame();
  }

  /** Forgets whatever was under way; the packet buffer is the caller's to clear. */
  reset(): void {
    this.#phase = Phase.idle;
    this.#hasFrame = false;
  }
}
