// A descriptor ring as its registers describe it, with every nonsense a guest can program turned into a condition.
import { addressFromHalves } from "../base/numbers.ts";
import type { QueueCondition, RingView } from "./datapath-ports.ts";
import { QueueDirection } from "./datapath-ports.ts";
import { DESCRIPTOR_BYTES } from "./descriptors.ts";
import {
  RXDCTL_ENABLE,
  TXDCTL_ENABLE,
  VFRDBAH,
  VFRDBAL,
  VFRDH,
  VFRDLEN,
  VFRDT,
  VFRXDCTL,
  VFTDBAH,
  VFTDBAL,
  VFTDH,
  VFTDLEN,
  VFTDT,
  VFTXDCTL,
} from "./registers.ts";

/** Rings are multiples of 8 descriptors, up to this many (IXGBEVF_MAX_RXD). */
export const RING_DESCRIPTORS_MAX = 4096;
const RING_DESCRIPTORS_MULTIPLE = 8;
/** The low bits of the base are ignored; what is folded onto ADDRESS_MAX is aligned by this, too. */
const RING_ALIGNMENT_BYTES = 128;

/**
 * Decoded once, when a register of the queue is written; a device step reads fields, not registers. Everything that walks a ring asks `isReady` first, and while it is true head and tail are indices below
 * `descriptors`, so no walk leaves the ring or goes around it twice.
 */
export class Ring {
  readonly queue: number;
  /** Address of descriptor 0 as the device uses it. */
  base = 0;
  /** Length; 0 when the length register is nonsense. */
  descriptors = 0;
  /** First descriptor that is not written back (receive) or not fetched (transmit). Only `moveHead` changes it. */
  head = 0;
  tail = 0;
  isEnabled = false;
  isReady = false;
  condition: QueueCondition = "disabled";
  readonly #registers: Uint32Array;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #lengthBytes: number;
  readonly #control: number;
  readonly #enableBit: number;
  readonly #headRegister: number;
  readonly #tailRegister: number;
  /** A mistake that the ring's own registers do not show; decoded by the owner of the ring. */
  #fault: QueueCondition | undefined;

  constructor(registers: Uint32Array, queue: number, direction: QueueDirection) {
    const isReceive = direction === QueueDirection.receive;
    this.queue = queue;
    this.#registers = registers;
    this.#baseLow = (isReceive ? VFRDBAL(queue) : VFTDBAL(queue)) >>> 2;
    this.#baseHigh = (isReceive ? VFRDBAH(queue) : VFTDBAH(queue)) >>> 2;
    this.#lengthBytes = (isReceive ? VFRDLEN(queue) : VFTDLEN(queue)) >>> 2;
    this.#control = (isReceive ? VFRXDCTL(queue) : VFTXDCTL(queue)) >>> 2;
    this.#enableBit = isReceive ? RXDCTL_ENABLE : TXDCTL_ENABLE;
    this.#headRegister = (isReceive ? VFRDH(queue) : VFTDH(queue)) >>> 2;
    this.#tailRegister = (isReceive ? VFRDT(queue) : VFTDT(queue)) >>> 2;
  }

  /** Reads the registers again. `fault` is a mistake that the ring's own registers do not show. */
  decode(fault?: QueueCondition): void {
    const registers = this.#registers;
    const lengthBytes = registers[this.#lengthBytes] as number;
    const descriptors = lengthBytes / DESCRIPTOR_BYTES;
    const isLength = descriptors % RING_DESCRIPTORS_MULTIPLE === 0 && descriptors <= RING_DESCRIPTORS_MAX;
    const base = addressFromHalves(registers[this.#baseLow] as number, registers[this.#baseHigh] as number);
    this.base = base - (base % RING_ALIGNMENT_BYTES);
    // An integer in the eyes of the compiler, too: as a quotient it would make every index computed with it a double.
    this.descriptors = isLength ? descriptors | 0 : 0;
    this.isEnabled = ((registers[this.#control] as number) & this.#enableBit) !== 0;
    this.#fault = fault;
    this.check();
  }

  /** Reads head and tail again: the guest wrote the tail. */
  check(): void {
    this.head = this.#registers[this.#headRegister] as number;
    this.tail = this.#registers[this.#tailRegister] as number;
    this.condition = this.#judge();
    this.isReady = this.condition === "ready";
  }

  #judge(): QueueCondition {
    if (!this.isEnabled) return "disabled";
    if (this.#fault !== undefined) return this.#fault;
    if (this.descriptors === 0) return "bad-length";
    return this.head < this.descriptors && this.tail < this.descriptors ? "ready" : "bad-index";
  }

  /** The head lives here and, for the guest to read, in its register. */
  moveHead(index: number): void {
    this.head = index;
    this.#registers[this.#headRegister] = index;
  }

  /** Descriptors from the head up to the tail. */
  get available(): number {
    const count = this.tail - this.head;
    return count < 0 ? count + this.descriptors : count;
  }

  after(index: number): number {
    return index + 1 === this.descriptors ? 0 : index + 1;
  }

  address(index: number): number {
    return this.base + index * DESCRIPTOR_BYTES;
  }

  view(): RingView {
    const { isEnabled: enabled, condition, base, descriptors } = this;
    const head = this.#registers[this.#headRegister] as number;
    const tail = this.#registers[this.#tailRegister] as number;
    return { enabled, condition, base, descriptors, head, tail };
  }
}
