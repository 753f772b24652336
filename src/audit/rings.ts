// The descriptor rings as the VF's registers at P describe them; addresses guest physical.
import { addressFromHalves } from "../base/numbers.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";
import type { VfView } from "./vf-view.ts";

/** The length field of a receive descriptor: ixgbevf takes the descriptor for done when it is not 0. */
export const descriptorLength = (descriptor: Uint8Array): number =>
  (descriptor[LENGTH_OFFSET] ?? 0) | ((descriptor[LENGTH_OFFSET + 1] ?? 0) << 8);
const LENGTH_OFFSET = 12;

/** RDLEN and TDLEN have 20 bits. */
const RING_BYTES_MASK = 0xf_ffff;

/** How the audit reads addresses that the device uses: the guest's own translation, -1 for what is not memory. */
export type Translate = (iova: number, lengthBytes: number) => number;

export interface Ring {
  readonly queue: number;
  /** Descriptors in the ring. */
  readonly length: number;
  readonly head: number;
  readonly tail: number;
  /** Guest physical address of each descriptor, or -1. */
  readonly slots: Float64Array;
}

export interface ReceiveRing extends Ring {
  /** Bytes of each buffer that the device may write. */
  readonly bufferBytes: number;
}

export interface TransmitRing extends Ring {
  /** Where head write-back goes (guest physical), or -1 while it is off. */
  readonly headWriteBackAddress: number;
}

/** Slots from `from` on to `to`, going up and around. */
export const distance = (ring: Ring, from: number, to: number): number => (to - from + ring.length) % ring.length;
export const next = (ring: Ring, slot: number): number => (slot + 1 === ring.length ? 0 : slot + 1);
export const previous = (ring: Ring, slot: number): number => (slot === 0 ? ring.length - 1 : slot - 1);

/**
 * How many of the driver's slots, counted from the tail, it has taken for certain. The slot at the tail cannot be posted,
 * so whatever it shows was taken; and if the next one to take is the one at the tail, all were.
 */
export function takenSlots(ring: Ring, nextToClean: number | undefined): number {
  if (nextToClean === undefined) return 1;
  return distance(ring, ring.tail, nextToClean % ring.length) || ring.length;
}

interface RingRegisters {
  readonly control: (queue: number) => number;
  readonly enable: number;
  readonly baseLow: (queue: number) => number;
  readonly baseHigh: (queue: number) => number;
  readonly lengthBytes: (queue: number) => number;
  readonly head: (queue: number) => number;
  readonly tail: (queue: number) => number;
}

const receiveRegisters: RingRegisters = {
  control: register.VFRXDCTL,
  enable: register.RXDCTL_ENABLE,
  baseLow: register.VFRDBAL,
  baseHigh: register.VFRDBAH,
  lengthBytes: register.VFRDLEN,
  head: register.VFRDH,
  tail: register.VFRDT,
};

const transmitRegisters: RingRegisters = {
  control: register.VFTXDCTL,
  enable: register.TXDCTL_ENABLE,
  baseLow: register.VFTDBAL,
  baseHigh: register.VFTDBAH,
  lengthBytes: register.VFTDLEN,
  head: register.VFTDH,
  tail: register.VFTDT,
};

/** An enabled ring; undefined if the queue is off or its head or tail lie outside the ring (the guest's mistake: nothing moves). */
function ringOf(view: VfView, queue: number, names: RingRegisters, translate: Translate): Ring | undefined {
  const read = (name: (queue: number) => number): number => view.register(name(queue));
  const length = (read(names.lengthBytes) & RING_BYTES_MASK) >>> 4;
  const head = read(names.head);
  const tail = read(names.tail);
  if ((read(names.control) & names.enable) === 0 || head >= length || tail >= length) return undefined;
  const base = addressFromHalves(read(names.baseLow), read(names.baseHigh));
  const slots = Float64Array.from({ length }, (_, slot) => translate(base + slot * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES));
  return { queue, length, head, tail, slots };
}

export function receiveRings(
  view: VfView,
  translate: Translate,
  bufferUnitBytes: number = register.SRRCTL_BSIZEPKT_UNIT_BYTES,
): ReceiveRing[] {
  const rings: ReceiveRing[] = [];
  for (let queue = 0; queue < register.QUEUE_PAIRS_MAX; queue++) {
    const ring = ringOf(view, queue, receiveRegisters, translate);
    if (ring === undefined) continue;
    const packetUnits = view.register(register.VFSRRCTL(queue)) & register.SRRCTL_BSIZEPKT_MASK;
    rings.push({ ...ring, bufferBytes: packetUnits * bufferUnitBytes });
  }
  return rings;
}

export function transmitRings(view: VfView, translate: Translate): TransmitRing[] {
  const rings: TransmitRing[] = [];
  for (let queue = 0; queue < register.QUEUE_PAIRS_MAX; queue++) {
    const ring = ringOf(view, queue, transmitRegisters, translate);
    if (ring === undefined) continue;
    const low = view.register(register.VFTDWBAL(queue));
    const isOn = (low & register.TDWBAL_HEAD_WB_ENABLE) !== 0;
    const address = addressFromHalves(low & ~3, view.register(register.VFTDWBAH(queue)));
    rings.push({ ...ring, headWriteBackAddress: isOn ? translate(address, 4) : -1 });
  }
  return rings;
}
