// The embedded PC's RAM: a range of the emulator's wasm memory.
import { assert } from "../../base/assert.ts";
import { pageGeometry, type PageGeometry } from "../../memory/geometry.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { V86Cpu } from "./v86-internals.ts";

export class PcMemory implements GuestMemory {
  readonly sizeBytes: number;
  readonly pages: PageGeometry;
  /** Called after each device write, with its place: the shadow-compare log takes such bytes out of its view. */
  onDeviceWrote: ((address: number, length: number) => void) | undefined;
  readonly #cpu: V86Cpu;
  /** Address of RAM in wasm memory. */
  readonly wasmAddress: number;
  #buffer: ArrayBuffer;
  #bytes: Uint8Array;
  #words: Uint32Array;

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    this.sizeBytes = cpu.memory_size[0] ?? 0;
    this.wasmAddress = cpu.mem8.byteOffset;
    this.pages = pageGeometry(this.sizeBytes);
    assert(this.wasmAddress % this.pages.sizeBytes === 0, "the emulator's RAM does not start on a page boundary");
    this.#buffer = cpu.wasm_memory.buffer;
    this.#bytes = new Uint8Array(this.#buffer, this.wasmAddress, this.sizeBytes);
    this.#words = new Uint32Array(this.#buffer, this.wasmAddress, this.sizeBytes >>> 2);
  }

  bytes(): Uint8Array {
    this.#follow();
    return this.#bytes;
  }

  words(): Uint32Array {
    this.#follow();
    return this.#words;
  }

  wordInOrder(index: number): number {
    return Atomics.load(this.words(), index);
  }

  deviceWrote(address: number, length: number): void {
    assert(length >= 0 && address + length <= this.sizeBytes, `device write outside RAM: ${address}+${length}`);
    if (length === 0) return;
    this.onDeviceWrote?.(address, length);
    this.#cpu.jit_dirty_cache(address, address + length);
  }

  /** Wasm memory that grew has a new buffer, and views of the old one are empty. */
  #follow(): void {
    const { buffer } = this.#cpu.wasm_memory;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer, this.wasmAddress, this.sizeBytes);
    this.#words = new Uint32Array(buffer, this.wasmAddress, this.sizeBytes >>> 2);
  }
}
