// The receive unit: frames from the network into the packet buffer, and from there, beat by beat, into the guest.
import type { DmaPort } from "../iommu/dma-port.ts";
import { DmaStatus } from "../iommu/dma-port.ts";
import { QueueDirection, type DatapathHooks, type ReceiveState, type RingView } from "./datapath-ports.ts";
import { DESCRIPTOR_WORDS, RXD_ERR_CE, RXD_STAT_DD, RXD_STAT_EOP } from "./descriptors.ts";
import { FCS_BYTES } from "./frame-limits.ts";
import { FRAME_DESCRIPTOR, FRAME_LENGTH, FRAME_OFFSET, FRAME_QUEUE, PacketBuffer } from "./packet-buffer.ts";
import { countGoodFrame, type PortCounters } from "./port-counters.ts";
import { ReceiveIntake, type IntakeCounters } from "./receive-intake.ts";
import { ReceiveQueue } from "./receive-queue.ts";
import { VFGORC_LSB, VFGORC_MSB, VFGPRC, VFMPRC } from "./registers.ts";

/** Packet buffer of an 82599 port. */
const PACKET_BUFFER_BYTES_DEFAULT = 512 * 1024;
const BUFFER_UNIT_BYTES_DEFAULT = 1024;

export interface ReceiveOptions {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly hooks: Pick<DatapathHooks, "cause">;
  readonly queuePairs: number;
  /** A power of two. */
  readonly packetBufferBytes?: number;
  /** Descriptors read ahead with one DMA read, up to this many; 0 reads each when its buffer is due. */
  readonly prefetchDescriptors?: number;
  /** Unit of SRRCTL.BSIZEPKT: 1024 on hardware, less at the explorer's toy scale. */
  readonly bufferUnitBytes?: number;
}

/** Frames that did not reach the driver, by reason, since the unit was made. None of them is the host's mistake. */
export interface ReceiveCounters extends IntakeCounters {
  /** Whole frames that reached the driver. */
  delivered: number;
  /** No descriptors, and the queue drops such frames (DROP_EN), or its ring can never hold the frame. */
  withoutDescriptors: number;
  /** The queue was not ready, or ceased to be in the middle of the frame. */
  queueNotReady: number;
  /** A buffer could not be written: the driver got a descriptor with an error instead. */
  bufferFaults: number;
  /** A descriptor could not be read or written back: the queue stands still. */
  descriptorFaults: number;
  /** Frames whose rest was lost in a migration: the driver got their end with an error. */
  endsOwed: number;
}

const receiveCounters: PortCounters = {
  frames: VFGPRC >>> 2,
  octetsLow: VFGORC_LSB >>> 2,
  octetsHigh: VFGORC_MSB >>> 2,
};

/** A group address other than the broadcast address, of a frame that starts on a word. */
function isMulticast(words: Uint32Array, offset: number): boolean {
  const first = words[offset >>> 2] as number;
  return (first & 1) !== 0 && !(first === 0xffff_ffff && ((words[(offset >>> 2) + 1] as number) & 0xffff) === 0xffff);
}

const DONE = RXD_STAT_DD | RXD_STAT_EOP;

/** What the next step does. */
const Phase = { idle: 0, buffer: 1, writeBack: 2, cause: 3 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

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
 * A buffer that cannot be written ends its frame the same way and the queue goes on: the driver gets its buffer back. A
 * descriptor that cannot be read or written leaves nothing to report with: the queue stands still until it is disabled.
 */
export class ReceiveUnit {
  readonly counters: ReceiveCounters = {
    delivered: 0,
    runts: 0,
    oversized: 0,
    packetBufferFull: 0,
    withoutDescriptors: 0,
    queueNotReady: 0,
    bufferFaults: 0,
    descriptorFaults: 0,
    endsOwed: 0,
  };
  readonly #registers: Uint32Array;
  readonly #hooks: Pick<DatapathHooks, "cause">;
  readonly #queues: readonly ReceiveQueue[];
  readonly #buffer: PacketBuffer;
  readonly #intake: ReceiveIntake;
  readonly #words = new Uint32Array(DESCRIPTOR_WORDS);

  #isStopped = false;
  /** Queues that owe something from before a restore, one bit each: a cause, or the end of a frame. */
  #owing = 0;
  #phase: Phase = Phase.idle;
  /** The queue and the place of the frame under way; good while the phase is not idle. */
  #queue: ReceiveQueue;
  #offset = 0;
  #remaining = 0;
  /** Bytes in the head's buffer. */
  #piece = 0;
  /** Error bits that end the frame with the next write-back. */
  #error = 0;
  /** The frame under way is the oldest in the packet buffer, not an owed end. */
  #hasFrame = false;

  constructor(options: ReceiveOptions) {
    const { registers, dma } = options;
    const bufferUnitBytes = options.bufferUnitBytes ?? BUFFER_UNIT_BYTES_DEFAULT;
    const prefetchDescriptors = options.prefetchDescriptors ?? 0;
    const parts = { registers, dma, bufferUnitBytes, prefetchDescriptors };
    this.#registers = registers;
    this.#hooks = options.hooks;
    this.#queues = Array.from({ length: options.queuePairs }, (_, queue) => new ReceiveQueue(queue, parts));
    this.#buffer = new PacketBuffer(options.packetBufferBytes ?? PACKET_BUFFER_BYTES_DEFAULT);
    this.#intake = new ReceiveIntake({
      registers,
      buffer: this.#buffer,
      queues: this.#queues,
      counters: this.counters,
    });
    this.#queue = this.#queueAt(0);
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
    return this.#intake.frame(bytes);
  }

  /** Frames in the packet buffer, the one under way included. */
  get framesHeld(): number {
    return this.#buffer.count;
  }

  /** No frame is under way, and the last one had its cause. */
  get isAtFrameBoundary(): boolean {
    return this.#phase === Phase.idle;
  }

  /** Begins no further frame; `step` finishes the one under way. New frames go on into the packet buffer. */
  stop(): void {
    this.#isStopped = true;
  }

  start(): void {
    this.#isStopped = false;
  }

  /** One beat: one buffer, one write-back or one cause. False when nothing can be done. */
  step(): boolean {
    switch (this.#phase) {
      case Phase.idle:
        return this.#begin();
      case Phase.buffer:
        this.#writeBuffer();
        return true;
      case Phase.writeBack:
        this.#writeBack();
        return true;
      case Phase.cause:
        this.#cause();
        return true;
      default:
        return false;
    }
  }

  #begin(): boolean {
    if (this.#isStopped) return false;
    if (this.#owing !== 0 && this.#payOwed()) return true;
    const buffer = this.#buffer;
    while (buffer.count > 0) {
      const record = buffer.oldest;
      const queue = this.#queueAt(buffer.records[record + FRAME_QUEUE] as number);
      const length = buffer.records[record + FRAME_LENGTH] as number;
      const fate = this.#fate(queue, length);
      if (fate === Fate.hold) return false;
      if (fate === Fate.deliver) {
        this.#queue = queue;
        this.#hasFrame = true;
        this.#offset = buffer.records[record + FRAME_OFFSET] as number;
        this.#remaining = length;
        this.#writeBuffer();
        return true;
      }
      buffer.pop();
    }
    return false;
  }

  /** Whether the queue can take a whole frame now; counts what it drops. */
  #fate(queue: ReceiveQueue, length: number): Fate {
    const { ring } = queue;
    if (!ring.isReady) {
      this.counters.queueNotReady++;
      return Fate.drop;
    }
    const { available } = ring;
    if (length <= queue.bufferBytes ? available > 0 : Math.ceil(length / queue.bufferBytes) <= available) {
      return Fate.deliver;
    }
    const isForever = Math.ceil(length / queue.bufferBytes) >= ring.descriptors;
    if (!queue.dropsWithoutDescriptors && !isForever) return Fate.hold;
    this.counters.withoutDescriptors++;
    return Fate.drop;
  }

  #writeBuffer(): void {
    const queue = this.#queue;
    const address = queue.bufferAddress();
    if (address < 0) {
      this.#descriptorFault();
      return;
    }
    const piece = this.#remaining < queue.bufferBytes ? this.#remaining : queue.bufferBytes;
    const status = queue.writeBuffer(address, this.#buffer.frame.bytes, this.#offset, piece);
    this.#phase = Phase.writeBack;
    this.#piece = piece;
    this.#error = 0;
    if (status === DmaStatus.ok) return;
    this.counters.bufferFaults++;
    this.#endWithError();
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
    if (queue.writeBack(this.#words) !== DmaStatus.ok) {
      this.#descriptorFault();
      return;
    }
    if (!isLast) {
      queue.frameInProgress = true;
      this.#offset += this.#piece;
      this.#remaining -= this.#piece;
      this.#phase = Phase.buffer;
      return;
    }
    queue.frameInProgress = false;
    queue.causePending = true;
    if (this.#error === 0) this.#countDelivered();
    this.#dropFrame();
    this.#phase = Phase.cause;
  }

  #countDelivered(): void {
    this.counters.delivered++;
    const { frame, oldest, records } = this.#buffer;
    countGoodFrame(this.#registers, receiveCounters, (records[oldest + FRAME_LENGTH] as number) + FCS_BYTES);
    if (isMulticast(frame.words, records[oldest + FRAME_OFFSET] as number)) {
      this.#registers[VFMPRC >>> 2] = (this.#registers[VFMPRC >>> 2] as number) + 1;
    }
  }

  /** Fills the write-back in. Only the last descriptor of a frame carries its status and its VLAN tag. */
  #describe(isLast: boolean): void {
    const words = this.#words;
    if (this.#error !== 0) {
      words[0] = 0;
      words[1] = 0;
      words[2] = DONE | this.#error;
      words[3] = this.#piece;
      return;
    }
    const { records, oldest } = this.#buffer;
    const said = oldest + FRAME_DESCRIPTOR;
    words[0] = records[said] as number;
    words[1] = records[said + 1] as number;
    words[2] = isLast ? DONE | (records[said + 2] as number) : RXD_STAT_DD;
    words[3] = isLast ? this.#piece | (records[said + 3] as number) : this.#piece;
  }

  #cause(): void {
    const queue = this.#queue;
    this.#phase = Phase.idle;
    queue.causePending = false;
    this.#hooks.cause(queue.ring.queue, QueueDirection.receive);
  }

  #dropFrame(): void {
    if (this.#hasFrame) this.#buffer.pop();
    this.#hasFrame = false;
  }

  #descriptorFault(): void {
    this.counters.descriptorFaults++;
    this.#queue.halt();
    this.#dropFrame();
    this.#phase = Phase.idle;
  }

  /** Gives a restored queue what it owes: the end of a frame as soon as there is a descriptor for it, then the cause. */
  #payOwed(): boolean {
    for (let index = 0; index < this.#queues.length; index++) {
      if ((this.#owing & (1 << index)) === 0) continue;
      const queue = this.#queueAt(index);
      if (queue.causePending) {
        this.#queue = queue;
        if (!queue.frameInProgress) this.#owing &= ~(1 << index);
        this.#cause();
        return true;
      }
      if (queue.frameInProgress && queue.ring.isReady && queue.ring.available > 0) {
        this.#owing &= ~(1 << index);
        this.counters.endsOwed++;
        this.#queue = queue;
        this.#hasFrame = false;
        this.#endWithError();
        this.#writeBack();
        return true;
      }
    }
    return false;
  }

  /** The guest wrote VFRDT. */
  tailWritten(queue: number): void {
    this.#queueAt(queue).ring.check();
    this.#abandonUnready(queue);
  }

  /** The guest wrote another register of the queue. */
  queueChanged(index: number): void {
    const queue = this.#queueAt(index);
    const wasEnabled = queue.ring.isEnabled;
    queue.decode();
    if (queue.ring.isEnabled !== wasEnabled) {
      // A queue starts with a head of 0 and nothing under way, and ends with nothing owed.
      if (queue.ring.isEnabled) queue.ring.moveHead(0);
      queue.clear();
      this.#owing &= ~(1 << index);
      this.#abandon(index);
    }
    this.#abandonUnready(index);
  }

  #abandonUnready(index: number): void {
    if (this.#phase !== Phase.cause && !this.#queueAt(index).ring.isReady) this.#abandon(index);
  }

  /** Drops the frame under way if it is this queue's. What the driver saw of it already is owed an end. */
  #abandon(index: number): void {
    if (this.#phase === Phase.idle || this.#queue.ring.queue !== index) return;
    this.#phase = Phase.idle;
    if (this.#hasFrame) this.counters.queueNotReady++;
    this.#dropFrame();
    if (this.#queue.frameInProgress) this.#owing |= 1 << index;
  }

  /** The PF changed VFMRQC or the RSS key. */
  rssChanged(): void {
    this.#intake.rssChanged();
  }

  /** After the registers took their reset values. Frames in the packet buffer are lost. */
  reset(): void {
    this.#phase = Phase.idle;
    this.#hasFrame = false;
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

/** What becomes of the oldest frame in the packet buffer. */
const Fate = { deliver: 0, hold: 1, drop: 2 } as const;
type Fate = (typeof Fate)[keyof typeof Fate];
