// The driver's use of an IOMMU: pages of receive buffers are mapped when they are posted, unmapped when they leave the ring.
import type { Layout } from "./layout.ts";
import type { DriverState, ModelState } from "./state.ts";

/** The guest's IOMMU, as its driver sees it. Addresses that the device uses are guest physical ones all the same. */
export interface DmaMapping {
  /** The device may write the page, which may still be mapped. */
  map(page: number): void;
  /** Takes the page out of the table, not out of the IOMMU's cache: the device may still write it. */
  unmap(page: number): void;
  /** Empties the cache: what was unmapped is now. */
  flush(): void;
  /** Exactly these pages are mapped and nothing waits for a flush: a state was loaded. */
  mapOnly(pages: Iterable<number>): void;
}

export interface BufferMappingParts {
  readonly state: () => ModelState;
  readonly layout: Layout;
  /** Without one nothing is mapped. */
  readonly mapping: DmaMapping | undefined;
}

/**
 * dma_map_page and dma_unmap_page, as the layout's `unmap` says for a page that leaves a ring because the stack has it.
 *
 * `never` is ixgbevf of Linux 6.1: ixgbevf_put_rx_buffer unmaps such a page only if its frame went to XDP (IS_ERR(skb)),
 * so the mapping stays for good, and only rings that are freed give theirs back. `strict` unmaps and flushes at once.
 * `lazy` is Linux's flush queue (iommu.strict=0): the page goes back to the allocator at once and the flush comes with
 * the last unmap of a batch, so that for a while the device may write what is somebody else's; the timer that flushes
 * after 10 ms if no batch fills is left out.
 *
 * A page that is mapped again while it still is keeps its mapping; Linux would give it a second address.
 */
export class BufferMapping {
  readonly #parts: BufferMappingParts;

  constructor(parts: BufferMappingParts) {
    this.#parts = parts;
  }

  map(page: number): void {
    const { mapping, state } = this.#parts;
    if (mapping === undefined) return;
    const { driver } = state();
    if (driver.stillMapped.length > 0) driver.stillMapped = driver.stillMapped.filter((left) => left !== page);
    mapping.map(page);
  }

  /** The stack has the page, and the ring has not. */
  left(page: number): void {
    const { mapping, layout, state } = this.#parts;
    if (layout.unmap !== "never") this.unmap(page);
    else if (mapping !== undefined) stayMapped(state().driver, page);
  }

  unmap(page: number): void {
    const { mapping, layout, state } = this.#parts;
    if (mapping === undefined) return;
    const { driver } = state();
    mapping.unmap(page);
    if (layout.unmap === "lazy") {
      stayMapped(driver, page);
      if (driver.stillMapped.length < layout.unmapBatch) return;
      driver.stillMapped = [];
    }
    mapping.flush();
  }

  /** The guest's table is in its memory: it came along, and the IOMMU is to follow. */
  restored(): void {
    const { mapping, layout, state } = this.#parts;
    const { receive, stillMapped } = state().driver;
    const inRings = receive.flatMap(({ pages }) => pages.filter((page) => page >= 0));
    mapping?.mapOnly([...inRings, ...stillMapped]);
    if (layout.unmap === "lazy") for (const page of stillMapped) mapping?.unmap(page);
  }
}

/** In order, so that guests that differ in nothing else have the same state. */
function stayMapped(driver: DriverState, page: number): void {
  driver.stillMapped = [...driver.stillMapped, page].toSorted((a, b) => a - b);
}
