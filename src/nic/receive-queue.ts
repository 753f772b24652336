// One receive queue: its ring, what its registers ask for, and the descriptors it has fetched ahead.
import { addressFromHalves } from "../base/numbers.ts";
import { DmaPurpose, DmaStatus, dmaTag, type DmaPort } from "../iommu/dma-port.ts";
import { QueueDirection, type QueueCondition, type ReceiveQueueState } from "./datapath-ports.ts";
import { DESCRIPTOR_WORDS } from "./descriptors.ts";
import {
  DCA_RXCTRL_DATA_WRO_EN,
  DCA_RXCTRL_DESC_WRO_EN,
  RXDCTL_VME,
  SRRCTL_BSIZEPKT_MASK,
  SRRCTL_DESCTYPE_ADV_ONEBUF,
  SRRCTL_DESCTYPE_MASK,
  SRRCTL_DROP_EN,
  VFDCA_RXCTRL,
  VFRXDCTL,
  VFSRRCTL,
} from "./registers.ts";
import { Ring } from "./ring.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok, later } = DmaStatus;
const WORDS = DESCRIPTOR_WORDS;

/** What `bufferAddress` gives instead of an address. */
const DESCRIPTOR_FAULT = -1;
export const DESCRIPTOR_LATER = -2;

export class ReceiveQueue {
  readonly ring: Ring;
  /** Size of each posted buffer. */
  bufferBytes = 0;
  /** Frames without descriptors are dropped instead of held (SRRCTL.DROP_EN). */
  dropsWithoutDescriptors = false;
  stripsVlan = false;
  /** Some descriptors of a frame are written back, its end of packet is not. */
  frameInProgress = false;
  causePending = false;
  dmaFault = false;

  readonly #registers: Uint32Array;
  readonly #dma: DmaPort;
  readonly #bufferUnitBytes: number;
  #bufferTag = 0;
  #writeBackTag = 0;
  /** Descriptors fetched and not used; the first is the head's. */
  readonly #fetched: Uint32Array;
  readonly #fetchMax: number;
  #fetchedFirst = 0;
  #fetchedCount = 0;
  /** Descriptors from the head on that the port has been asked for and will give later; 0 for none. */
  #askedCount = 0;

  constructor(
    queue: number,
    parts: { registers: Uint32Array; dma: DmaPort; bufferUnitBytes: number; prefetchDescriptors: number },
  ) {
    this.ring = new Ring(parts.registers, queue, QueueDirection.receive);
    this.#registers = parts.registers;
    this.#dma = parts.dma;
    this.#bufferUnitBytes = parts.bufferUnitBytes;
    this.#fetchMax = Math.max(1, parts.prefetchDescriptors);
    this.#fetched = new Uint32Array(this.#fetchMax * WORDS);
  }

  /** Reads the queue's registers again. What was fetched ahead is forgotten. */
  decode(): void {
    const { queue } = this.ring;
    const srrctl = this.#registers[VFSRRCTL(queue) >>> 2] as number;
    const dca = this.#registers[VFDCA_RXCTRL(queue) >>> 2] as number;
    this.bufferBytes = (srrctl & SRRCTL_BSIZEPKT_MASK) * this.#bufferUnitBytes;
    this.dropsWithoutDescriptors = (srrctl & SRRCTL_DROP_EN) !== 0;
    this.stripsVlan = ((this.#registers[VFRXDCTL(queue) >>> 2] as number) & RXDCTL_VME) !== 0;
    this.#bufferTag = dmaTag(DmaPurpose.rxBuffer, queue, 0, (dca & DCA_RXCTRL_DATA_WRO_EN) !== 0);
    this.#writeBackTag = dmaTag(DmaPurpose.rxWriteBack, queue, 0, (dca & DCA_RXCTRL_DESC_WRO_EN) !== 0);
    const isOneBuffer = (srrctl & SRRCTL_DESCTYPE_MASK) === SRRCTL_DESCTYPE_ADV_ONEBUF;
    this.ring.decode(this.#fault(isOneBuffer && this.bufferBytes > 0));
    this.forgetFetched();
  }

  #fault(hasBuffers: boolean): QueueCondition | undefined {
    if (this.dmaFault) return "dma-fault";
    return hasBuffers ? undefined : "bad-buffer";
  }

  /** Stands still from here on until the guest disables the queue. */
  halt(): void {
    this.dmaFault = true;
    this.decode();
  }

  forgetFetched(): void {
    this.#fetchedCount = 0;
    if (this.#askedCount === 0) return;
    this.#askedCount = 0;
    this.#dma.forgetReads?.();
  }

  /**
   * Address of the head's buffer, DESCRIPTOR_FAULT if its descriptor cannot be read, or DESCRIPTOR_LATER. There must be
   * an available descriptor.
   */
  bufferAddress(): number {
    if (this.#fetchedCount === 0) {
      const status = this.#fetch();
      if (status !== ok) return status === later ? DESCRIPTOR_LATER : DESCRIPTOR_FAULT;
    }
    const at = this.#fetchedFirst * WORDS;
    return addressFromHalves(this.#fetched[at] as number, this.#fetched[at + 1] as number);
  }

  #fetch(): DmaStatus {
    const { ring } = this;
    const { head } = ring;
    let count = this.#askedCount > 0 ? this.#askedCount : this.#fetchMax;
    if (count > 1) count = Math.min(count, ring.available, ring.descriptors - head);
    const status = this.#dma.readWords(ring.address(head), this.#fetched, count * WORDS);
    this.#askedCount = 0;
    if (status === ok) {
      this.#fetchedFirst = 0;
      this.#fetchedCount = count;
    } else if (status === later) this.#askedCount = count;
    return status;
  }

  writeBuffer(address: number, bytes: Uint8Array, offset: number, length: number): DmaStatus {
    return this.#dma.writeBytes(address, bytes, offset, length, this.#bufferTag | this.ring.head);
  }

  /** Writes the head's descriptor back and moves the head past it; a fault leaves the head. */
  writeBack(words: Uint32Array): DmaStatus {
    const { ring } = this;
    const { head } = ring;
    const status = this.#dma.writeWords(ring.address(head), words, WORDS, this.#writeBackTag | head);
    if (status !== ok) return status;
    ring.moveHead(ring.after(head));
    if (this.#fetchedCount > 0) {
      this.#fetchedFirst++;
      this.#fetchedCount--;
    }
    return status;
  }

  save(): ReceiveQueueState {
    const { frameInProgress, causePending, dmaFault } = this;
    return { frameInProgress, causePending, dmaFault };
  }

  restore(state: ReceiveQueueState): void {
    this.frameInProgress = state.frameInProgress;
    this.causePending = state.causePending;
    this.dmaFault = state.dmaFault;
    this.decode();
  }

  /** Forgets what was under way, as disabling or resetting the queue does. */
  clear(): void {
    this.frameInProgress = false;
    this.causePending = false;
    this.dmaFault = false;
    this.decode();
  }
}
