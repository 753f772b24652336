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

/** Up to here a loop is quicker than a call that is made for long copies. */
const LOOP_BYTES_MAX = 128;

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

  /** Reads bytes into target[at, at + lengthBytes). */
  readInto(target: Uint8Array, at: number, address: number, lengthBytes: number): void {
    this.#check(address, lengthBytes);
    const bytes = this.#memory.bytes();
    if (lengthBytes > LOOP_BYTES_MAX) target.set(bytes.subarray(address, address + lengthBytes), at);
    else for (let i = 0; i < lengthBytes; i++) target[at + i] = bytes[address + i] as number;
  }

  /** Copies from one place, at a multiple of four, to another that it does not overlap. */
  copy(from: number, to: number, lengthBytes: number): void {
    this.#check(from, lengthBytes);
    this.#check(to, lengthBytes);
    const words = this.#memory.words();
    const whole = lengthBytes & ~3;
    for (let i = 0; i < whole; i += 4) words[(to + i) >>> 2] = words[(from + i) >>> 2] as number;
    if (whole !== lengthBytes) {
      const bytes = this.#memory.bytes();
      for (let i = whole; i < lengthBytes; i++) bytes[to + i] = bytes[from + i] as number;
    }
    this.#log.wrote(to, lengthBytes);
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
