// The tracker of a machine with a vIOMMU: what the guest maps writable is mapped, what it unmaps is released.
import type { PageSet } from "../memory/page-set.ts";
import type { DomainListener } from "./domain.ts";
import { MappedPages } from "./mapped-pages.ts";
import type { MappedPageTracker } from "./tracker.ts";

/**
 * Listens to a domain. Pages mapped for reading only (Tx data) do not count. A guest that maps lazily or in large
 * blocks is still tracked rightly, only with more pages in the mapped set.
 */
export class IommuTracker implements MappedPageTracker, DomainListener {
  readonly method = "iommu";
  readonly #pages: MappedPages;

  constructor(pageCount: number) {
    this.#pages = new MappedPages(pageCount);
  }

  mapped(page: number, writable: boolean): void {
    if (writable) this.#pages.map(page);
  }

  unmapped(page: number, writable: boolean): void {
    if (writable) this.#pages.release(page);
  }

  mappedInto(into: PageSet): void {
    this.#pages.mappedInto(into);
  }

  fetchReleased(into: PageSet): void {
    this.#pages.fetchReleased(into);
  }

  putBackReleased(pages: PageSet): void {
    this.#pages.putBackReleased(pages);
  }
}
