// Turning a ring: its contents and the driver's bookkeeping move so that a slot becomes slot 0.
import { DESCRIPTOR_BYTES } from "../../nic/descriptors.ts";
import type { CpuMemory } from "./cpu-memory.ts";
import type { ReceiveQueue, TransmitQueue } from "./state.ts";

/** The slot that a slot becomes when `first` becomes 0. */
function turned(slot: number, first: number, descriptors: number): number {
  return (slot - first + descriptors) % descriptors;
}

function turnedList<Item>(list: readonly Item[], first: number): Item[] {
  return [...list.slice(first), ...list.slice(0, first)];
}

/** In memory, as the CPU does it: every page of the ring is in the dirty log afterwards. */
export function turnDescriptors(memory: CpuMemory, ring: number, descriptors: number, first: number): void {
  const bytes = new Uint8Array(descriptors * DESCRIPTOR_BYTES);
  memory.readInto(bytes, 0, ring, bytes.length);
  const split = first * DESCRIPTOR_BYTES;
  memory.setBytes(ring, bytes.subarray(split));
  memory.setBytes(ring + bytes.length - split, bytes.subarray(0, split));
}

export function turnReceiveQueue(queue: ReceiveQueue, first: number): void {
  const descriptors = queue.pages.length;
  queue.nextToUse = turned(queue.nextToUse, first, descriptors);
  queue.nextToClean = turned(queue.nextToClean, first, descriptors);
  queue.nextToAlloc = turned(queue.nextToAlloc, first, descriptors);
  queue.pages = turnedList(queue.pages, first);
  queue.offsets = turnedList(queue.offsets, first);
}

export function turnTransmitQueue(queue: TransmitQueue, first: number, descriptors: number): void {
  queue.nextToUse = turned(queue.nextToUse, first, descriptors);
  queue.nextToClean = turned(queue.nextToClean, first, descriptors);
  queue.reports = queue.reports.map(({ slot, pages }) => ({ slot: turned(slot, first, descriptors), pages }));
}
