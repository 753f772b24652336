// Dirty logs, with the CPU and DMA as two named ways in: a page the device wrote is never in the CPU's log.
import { PageSet } from "./page-set.ts";

/**
 * Pages the **CPU** wrote since last fetched (what a hypervisor's dirty log is). Fetch and clear are one operation:
 * a page fetched is forgotten, so whoever fetches and then fails puts it back.
 */
export interface CpuDirtyLog {
  /** How the log learns of writes, for reports: "wasm" or "shadow-compare" on the embedded PC. */
  readonly method: string;
  /** Begins logging; everything written before is not in the log. */
  start(): void;
  stop(): void;
  /** Adds the dirty pages to `into` and opens a new epoch. */
  fetchAndClear(into: PageSet): void;
  /** Pages that were fetched by a migration that failed: they count as dirty again (hazard `lost-clear`). */
  putBack(pages: PageSet): void;
}

/** Pages the **device** wrote: what VFIO calls DMA logging. Marks come after the write (libvfio-user #753). */
export class DmaDirtyLog {
  readonly #pages: PageSet;
  readonly #pageShift: number;

  constructor(pageCount: number, pageShift: number) {
    this.#pages = new PageSet(pageCount);
    this.#pageShift = pageShift;
  }

  deviceWrote(address: number, lengthBytes: number): void {
    this.#pages.addBytes(address, lengthBytes, this.#pageShift);
  }

  fetchAndClear(into: PageSet): void {
    this.#pages.drainInto(into);
  }

  putBack(pages: PageSet): void {
    this.#pages.addSet(pages);
  }
}
