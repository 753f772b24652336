// Logs of the pages the embedded PC's CPU wrote: by marks in the rewritten wasm, or by comparing RAM with a copy.
import { assert } from "../../base/assert.ts";
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import { PageSet } from "../../memory/page-set.ts";
import type { PcMemory } from "./memory.ts";
import { dirtyMapByFrameExport, dirtyMapBytes, dirtyMapExport } from "./wasm-rewrite.ts";
import type { V86Cpu, V86Exports } from "./v86-internals.ts";
import type { WasmGlobal } from "./web-assembly.ts";

export const cpuDirtyLogMethods = ["wasm", "shadow-compare"] as const;
export type CpuDirtyLogMethod = (typeof cpuDirtyLogMethods)[number];

/**
 * Reads the map that the rewritten wasm marks; wasm-rewrite.ts says why it misses nothing. Fetching costs a scan of
 * one byte per page and an emptied TLB; it must not happen inside an instruction, that is, while the emulator's main
 * loop is on the stack.
 */
export class WasmCpuDirtyLog implements CpuDirtyLog {
  readonly method: CpuDirtyLogMethod = "wasm";
  readonly #cpu: V86Cpu;
  readonly #memory: PcMemory;
  readonly #putBack: PageSet;
  readonly #isInsideTick: () => boolean;
  /** Address of the map in wasm memory. */
  readonly #map: number;

  constructor(cpu: V86Cpu, memory: PcMemory, isInsideTick: () => boolean) {
    this.#cpu = cpu;
    this.#memory = memory;
    this.#isInsideTick = isInsideTick;
    this.#putBack = new PageSet(memory.pages.count);
    assert(memory.pages.count <= dirtyMapBytes, "the map is smaller than RAM");
    this.#map = (cpu.wm.exports as unknown as V86Exports).v86_malloc(dirtyMapBytes) >>> 0;
    assert(this.#map !== 0, "no room for the map in wasm memory");
  }

  start(): void {
    this.#putBack.clear();
    this.#pointTo(this.#map);
    this.#openEpoch();
  }

  stop(): void {
    this.#pointTo(0);
    this.#putBack.clear();
  }

  fetchAndClear(into: PageSet): void {
    this.#putBack.drainInto(into);
    const marks = this.#marks();
    const fours = new Uint32Array(marks.buffer, marks.byteOffset, marks.length >>> 2);
    for (let i = 0; i < fours.length; i++) {
      if (fours[i] === 0) continue;
      for (let page = i * 4; page < i * 4 + 4; page++) if (marks[page] !== 0) into.add(page);
    }
    this.#openEpoch();
  }

  putBack(pages: PageSet): void {
    this.#putBack.addSet(pages);
  }

  #openEpoch(): void {
    assert(!this.#isInsideTick(), "the CPU's dirty log is fetched in the middle of an instruction");
    this.#marks().fill(0);
    this.#cpu.full_clear_tlb();
  }

  #marks(): Uint8Array {
    return new Uint8Array(this.#cpu.wasm_memory.buffer, this.#map, this.#memory.pages.count);
  }

  #pointTo(map: number): void {
    const exports = this.#cpu.wm.exports as Record<string, WasmGlobal | undefined>;
    const byPage = exports[dirtyMapExport];
    const byFrame = exports[dirtyMapByFrameExport];
    assert(byPage !== undefined && byFrame !== undefined, "the wasm was not rewritten");
    byPage.value = map;
    byFrame.value = map === 0 ? 0 : (map - this.#memory.wasmAddress / this.#memory.pages.sizeBytes) | 0;
  }
}

/**
 * Compares RAM with a copy made when the epoch began. It needs as much memory again as the guest has, and time in
 * proportion to it, but nothing of the emulator's inside.
 *
 * By itself a comparison sees every change, whoever made it, and would be a log that sees DMA, which no real CPU log
 * does: a strategy that forgets the device's pages would pass on this machine and corrupt guests on a real one. So the
 * device's writes are taken out again: each is copied into the shadow at once, exactly the bytes the device wrote, and
 * the CPU's writes elsewhere in the page still differ. One case is given up: bytes the CPU wrote and the device
 * overwrote, all of them within one epoch, are the device's. What they hold now did come from the device, so whoever
 * keeps account of device pages has that page, and whoever does not is wrong about it either way.
 */
export class ShadowCompareDirtyLog implements CpuDirtyLog {
  readonly method: CpuDirtyLogMethod = "shadow-compare";
  readonly #memory: PcMemory;
  readonly #putBack: PageSet;
  #shadow: Uint32Array | undefined;

  constructor(memory: PcMemory) {
    this.#memory = memory;
    this.#putBack = new PageSet(memory.pages.count);
  }

  start(): void {
    this.#putBack.clear();
    const shadow = this.#memory.words().slice();
    const shadowBytes = new Uint8Array(shadow.buffer);
    this.#shadow = shadow;
    this.#memory.onDeviceWrote = (address, length) => {
      shadowBytes.set(this.#memory.bytes().subarray(address, address + length), address);
    };
  }

  stop(): void {
    this.#shadow = undefined;
    this.#memory.onDeviceWrote = undefined;
    this.#putBack.clear();
  }

  fetchAndClear(into: PageSet): void {
    this.#putBack.drainInto(into);
    const shadow = this.#shadow;
    if (shadow === undefined) return;
    const words = this.#memory.words();
    const { count, sizeBytes } = this.#memory.pages;
    const pageWords = sizeBytes >>> 2;
    for (let page = 0; page < count; page++) {
      const end = (page + 1) * pageWords;
      let at = end - pageWords;
      while (at < end && words[at] === shadow[at]) at++;
      if (at === end) continue;
      into.add(page);
      shadow.set(words.subarray(at, end), at);
    }
  }

  putBack(pages: PageSet): void {
    this.#putBack.addSet(pages);
  }
}
