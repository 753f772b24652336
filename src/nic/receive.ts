// The receive unit: frames from the network into the packet buffer, and from there, beat by beat, into the guest.
import type { DmaPort } from "../iommu/dma-port.ts";
import type { DatapathHooks, ReceiveState, RingView } from "./datapath-ports.ts";
import { PacketBuffer } from "./packet-buffer.ts";
import { newReceiveCounters, type ReceiveCounters } from "./receive-counters.ts";
import { ReceiveIntake } from "./receive-intake.ts";
import { ReceiveQueue } from "./receive-queue.ts";
import { ReceiveWriter } from "./receive-writer.ts";

/** Packet buffer of an 82599 port. */
const PACKET_BUFFER_BYTES_DEFAULT = 512 * 1024;
const BUFFER_UNIT_BYTES_DEFAULT = 1024;
/** The 82599 reads descriptors ahead into an on-die cache (datasheet, "Receive Descriptor Fetching"); a tail moves by 16 in ixgbevf. */
const PREFETCH_DESCRIPTORS_DEFAULT = 16;

export interface ReceiveOptions {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly hooks: Pick<DatapathHooks, "cause">;
  readonly queuePairs: number;
  /** A power of two. */
  readonly packetBufferBytes?: number;
  /** Descriptors read ahead with one DMA read, up to this many; 0 reads each when its buffer is due. Default 16. */
  readonly prefetchDescriptors?: number;
  /** Unit of SRRCTL.BSIZEPKT: 1024 on hardware, less at the explorer's toy scale. */
  readonly bufferUnitBytes?: number;
}

/** What becomes of the oldest frame in the packet buffer. */
const Fate = { deliver: 0, hold: 1, drop: 2 } as const;
type Fate = (typeof Fate)[keyof typeof Fate];

/**
 * Beats. A frame that takes n descriptors takes 2n + 1 steps: each buffer, then its descriptor, buffer before descriptor
 * always, and after the last one the interrupt cause. VFRDH moves with the write-back. One frame is under way at a time,
 * in order of arrival over all queues, as in the hardware, where a queue that holds frames (no DROP_EN) holds up others.
 *
 * A frame is begun only if all its descriptors are there. So a frame ends half-written only where the world ends between
 * two beats: `frameInProgress` is saved, and the unit that takes over owes the driver the rest, which is lost. It pays
 * with one descriptor that has EOP, a length of 1 and the CRC error bit, and writes no buffer. `ixgbevf_clean_rx_irq` then
 * adds one byte to the skb of the half frame, sees EOP, and `ixgbevf_cleanup_headers` frees it because of the error
 * (IXGBE_RXDADV_ERR_FRAME_ERR_MASK), unless the user asked for bad frames too (NETIF_F_RXALL): then the stack gets a frame
 * that is cut short, as from a bad wire. Without that end the driver would append the next frame to the half one.
 *
 * On a DMA port that answers `later` a world may end so, too, though it was stopped in good order: a frame whose next
 * descriptor is not there yet cannot be finished.
 */
export class ReceiveUnit {
  readonly counters: ReceiveCounters = newReceiveCounters();
  readonly #queues: readonly ReceiveQueue[];
  readonly #buffer: PacketBuffer;
  readonly #intake: ReceiveIntake;
  readonly #writer: ReceiveWriter;
  /** The last step found nothing to do, or nothing without an answer of the DMA port, and nothing has changed since. */
  isIdle = false;
  #isStopped = false;
  /** Queues that owe something from before a restore or a mistake, one bit each: a cause, or the end of a frame. */
  #owing = 0;

  constructor(options: ReceiveOptions) {
    const { registers, dma, hooks } = options;
    const { counters } = this;
    const bufferUnitBytes = options.bufferUnitBytes ?? BUFFER_UNIT_BYTES_DEFAULT;
    const prefetchDescriptors = options.prefetchDescriptors ?? PREFETCH_DESCRIPTORS_DEFAULT;
    const queueParts = { registers, dma, bufferUnitBytes, prefetchDescriptors };
    const buffer = new PacketBuffer(options.packetBufferBytes ?? PACKET_BUFFER_BYTES_DEFAULT);
    this.#queues = Array.from({ length: options.queuePairs }, (_, queue) => new ReceiveQueue(queue, queueParts));
    this.#buffer = buffer;
    this.#intake = new ReceiveIntake({ registers, buffer, queues: this.#queues, counters });
    this.#writer = new ReceiveWriter({ registers, buffer, counters, hooks }, this.#queueAt(0));
    this.reset();
  }

  #queueAt(queue: number): ReceiveQueue {
    return this.#queues[queue] as ReceiveQueue;
  }

  /** Largest frame with its FCS that is let in, a VLAN tag on top of it; the PF sets it (SET_LPE). */
  get frameBytesMax(): number {
    return this.#intake.frameBytesMax;
  }

  set frameBytesMax(bytes: number) {
    this.#intake.frameBytesMax = bytes;
  }

  /** Takes a frame without FCS from the network; copies it. False if it was dropped at once. */
  frame(bytes: Uint8Array): boolean {
    this.isIdle = false;
    return this.#intake.frame(bytes);
  }

  /** Frames in the packet buffer, the one under way included. */
  get framesHeld(): number {
    return this.#buffer.count;
  }

  /** No frame is under way, and the last one had its cause. */
  get isAtFrameBoundary(): boolean {
    return this.#writer.isIdle;
  }

  /** Begins no further frame; `step` finishes the one under way. New frames go on into the packet buffer. */
  stop(): void {
    this.#isStopped = true;
  }

  start(): void {
    this.#isStopped = false;
    this.isIdle = false;
  }

  /**
   * One beat: one buffer, one write-back or one cause. False when nothing can be done, or not before the DMA port has an
   * answer (DmaStatus.later); then `retry` says when to try again.
   */
  step(): boolean {
    if (this.isIdle) return false;
    if (this.#writer.isIdle ? this.#begin() : this.#writer.step()) return true;
    this.isIdle = true;
    return false;
  }

  /** The DMA port has answers for reads that it put off. */
  retry(): void {
    this.isIdle = false;
  }

  #begin(): boolean {
    if (this.#isStopped) return false;
    if (this.#owing !== 0 && this.#payOwed()) return true;
    const buffer = this.#buffer;
    while (buffer.count > 0) {
      const queue = this.#queueAt(buffer.queue);
      const { length } = buffer;
      const fate = this.#fate(queue, length);
      if (fate === Fate.deliver) return this.#writer.begin(queue, length);
      if (fate === Fate.hold) return false;
      buffer.pop();
    }
    return false;
  }

  /** Whether the queue can take a whole frame now; counts what it drops. */
  #fate(queue: ReceiveQueue, length: number): Fate {
    const { ring, bufferBytes } = queue;
    if (!ring.isReady) {
      this.counters.queueNotReady++;
      return Fate.drop;
    }
    const needed = length <= bufferBytes ? 1 : Math.ceil(length / bufferBytes);
    if (needed <= ring.available) return Fate.deliver;
    const isForever = needed >= ring.descriptors;
    if (!queue.dropsWithoutDescriptors && !isForever) return Fate.hold;
    this.counters.withoutDescriptors++;
    return Fate.drop;
  }

  /** Gives a queue what it owes: a cause, or the end of a frame as soon as there is a descriptor for it. */
  #payOwed(): boolean {
    for (let index = 0; index < this.#queues.length; index++) {
      if ((this.#owing & (1 << index)) === 0) continue;
      const queue = this.#queueAt(index);
      if (queue.causePending) {
        if (!queue.frameInProgress) this.#owing &= ~(1 << index);
        this.#writer.cause(queue);
        return true;
      }
      if (queue.frameInProgress && queue.ring.isReady && queue.ring.available > 0) {
        this.#owing &= ~(1 << index);
        this.counters.endsOwed++;
        this.#writer.beginOwedEnd(queue);
        return true;
      }
    }
    return false;
  }

  /** The guest wrote VFRDT. */
  tailWritten(index: number): void {
    const queue = this.#queueAt(index);
    this.isIdle = false;
    queue.ring.check();
    this.#abandonUnready(queue, index);
  }

  /** The guest wrote another register of the queue. */
  queueChanged(index: number): void {
    const queue = this.#queueAt(index);
    const wasEnabled = queue.ring.isEnabled;
    this.isIdle = false;
    queue.decode();
    if (queue.ring.isEnabled !== wasEnabled) {
      // A queue starts with a head of 0 and nothing under way, and ends with nothing owed.
      if (queue.ring.isEnabled) queue.ring.moveHead(0);
      this.#writer.abandon(queue, true);
      queue.clear();
      this.#owing &= ~(1 << index);
    }
    this.#abandonUnready(queue, index);
  }

  /** Drops the frame under way if it is this queue's. What the driver saw of it already is owed an end. */
  #abandonUnready(queue: ReceiveQueue, index: number): void {
    if (queue.ring.isReady) return;
    this.#writer.abandon(queue, false);
    if (queue.frameInProgress) this.#owing |= 1 << index;
  }

  /** The PF changed VFMRQC or the RSS key. */
  rssChanged(): void {
    this.#intake.rssChanged();
  }

  /** After the registers took their reset values. Frames in the packet buffer are lost. */
  reset(): void {
    this.#writer.reset();
    this.isIdle = false;
    this.#owing = 0;
    this.counters.queueNotReady += this.#buffer.count;
    this.#buffer.clear();
    for (const queue of this.#queues) queue.clear();
    this.rssChanged();
  }

  ring(queue: number): RingView {
    return this.#queueAt(queue).ring.view();
  }

  save(): ReceiveState {
    return { queues: this.#queues.map((queue) => queue.save()) };
  }

  /** After the registers were restored. A queue that the state does not name has nothing under way. */
  restore(state: ReceiveState): void {
    this.reset();
    for (const [index, queue] of this.#queues.entries()) {
      const saved = state.queues[index];
      if (saved === undefined) continue;
      queue.restore(saved);
      if (queue.frameInProgress || queue.causePending) this.#owing |= 1 << index;
    }
  }
}
