// The driver's copies of its receive rings, in memory that no device writes (cooperation `copy-descriptors`).
import type { CpuMemory } from "./cpu-memory.ts";
import { COPIED_DESCRIPTOR_BYTES, type Layout } from "./layout.ts";

const LENGTH_WORD_OFFSET = 4;

/*
 * The thread's trouble with rings is that driver and device share their pages: each page is dirty nearly always, for a
 * posting or a cleared length, and takes along whatever the device has written back meanwhile. A copy that only the
 * CPU writes is seen by the CPU's log whenever it changes, and if its buffer was dirtied before, then a descriptor that
 * the copy shows done has its buffer with it, in every image that holds all dirty pages.
 */
export class DescriptorCopy {
  readonly #layout: Layout;
  readonly #memory: CpuMemory;

  constructor({ layout, memory }: { readonly layout: Layout; readonly memory: CpuMemory }) {
    this.#layout = layout;
    this.#memory = memory;
  }

  #address(queue: number, slot: number): number {
    return this.#layout.descriptorCopy(queue) + slot * COPIED_DESCRIPTOR_BYTES;
  }

  /** Nothing is done. */
  clear(queue: number): void {
    const bytes = this.#layout.receiveDescriptors * COPIED_DESCRIPTOR_BYTES;
    this.#memory.setBytes(this.#address(queue, 0), new Uint8Array(bytes));
  }

  /** In one write of eight bytes, as a CPU of 64 bits does it. */
  put(queue: number, slot: number, status: number, bytes: number): void {
    this.#memory.setBytes(this.#address(queue, slot), new Uint8Array(Uint32Array.of(status, bytes).buffer));
  }

  /** 0 if the slot's descriptor has not been copied since it was taken. */
  length(queue: number, slot: number): number {
    return this.#memory.word(this.#address(queue, slot) + LENGTH_WORD_OFFSET);
  }

  status(queue: number, slot: number): number {
    return this.#memory.word(this.#address(queue, slot));
  }

  taken(queue: number, slot: number): void {
    this.#memory.setWord(this.#address(queue, slot) + LENGTH_WORD_OFFSET, 0);
  }
}
