// The CPU's way to guest memory, the only one the model guest has: every write is marked in the dirty log.
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { PageSet } from "../../memory/page-set.ts";
import { guestExpects } from "./panic.ts";

export class ModelDirtyLog implements CpuDirtyLog {
  readonly method = "model";
  readonly #dirty: PageSet;
  readonly #pageShift: number;
  #isLogging = false;

  constructor(pageCount: number, pageShift: number) {
    this.#dirty = new PageSet(pageCount);
    this.#pageShift = pageShift;
  }

  /** To be called by whoever writes for the CPU. */
  wrote(address: number, lengthBytes: number): void {
    if (this.#isLogging) this.#dirty.addBytes(address, lengthBytes, this.#pageShift);
  }

  start(): void {
    this.#dirty.clear();
    this.#isLogging = true;
  }

  stop(): void {
    this.#dirty.clear();
    this.#isLogging = false;
  }

  fetchAndClear(into: PageSet): void {
    this.#dirty.drainInto(into);
  }

  putBack(pages: PageSet): void {
    this.#dirty.addSet(pages);
  }
}

/** Reads and writes as the guest's instructions do them. An address outside RAM is the guest's death (GuestPanic). */
export class CpuMemory {
  readonly #memory: GuestMemory;
  readonly #log: ModelDirtyLog;

  constructor(memory: GuestMemory, log: ModelDirtyLog) {
    this.#memory = memory;
    this.#log = log;
  }

  /** The little-endian word at a multiple of four. */
  word(address: number): number {
    this.#check(address, 4);
    return this.#memory.words()[address >>> 2] ?? 0;
  }

  setWord(address: number, value: number): void {
    this.#check(address, 4);
    this.#memory.words()[address >>> 2] = value;
    this.#log.wrote(address, 4);
  }

  /** A view of the bytes, for reading. */
  bytes(address: number, lengthBytes: number): Uint8Array {
    this.#check(address, lengthBytes);
    return this.#memory.bytes().subarray(address, address + lengthBytes);
  }

  setBytes(address: number, bytes: Uint8Array): void {
    this.#check(address, bytes.length);
    this.#memory.bytes().set(bytes, address);
    this.#log.wrote(address, bytes.length);
  }

  #check(address: number, lengthBytes: number): void {
    const isInside = address >= 0 && address + lengthBytes <= this.#memory.sizeBytes;
    if (!isInside) guestExpects(false, `no memory at ${address}`);
  }
}
