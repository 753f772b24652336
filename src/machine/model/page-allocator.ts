// The guest's page allocator: pages with owners, the page freed last handed out first.
import type { Layout } from "./layout.ts";
import { guestPanics } from "./panic.ts";
import type { ModelState } from "./state.ts";

/** Like struct page's reference count: a receive page may be owned by the driver and by several frames at once. */
export class PageAllocator {
  readonly #state: () => ModelState;
  readonly #layout: Layout;

  constructor(state: () => ModelState, layout: Layout) {
    this.#state = state;
    this.#layout = layout;
  }

  /** A page with one owner, or undefined when there is none left. */
  allocate(): number | undefined {
    const { freePages, owners } = this.#state();
    const page = freePages.pop();
    if (page === undefined) return undefined;
    const isFree = page >= this.#layout.poolFirst && page < owners.length && owners[page] === 0;
    if (!isFree) guestPanics(`page ${page} was handed out twice`);
    owners[page] = 1;
    return page;
  }

  own(page: number): void {
    const { owners } = this.#state();
    owners[page] = this.owners(page) + 1;
  }

  /** The page is free when its last owner lets go. */
  release(page: number): void {
    const { owners, freePages } = this.#state();
    const left = this.owners(page) - 1;
    owners[page] = left;
    if (left === 0) freePages.push(page);
  }

  owners(page: number): number {
    const count = this.#state().owners[page] ?? 0;
    if (count <= 0) guestPanics(`page ${page} is used by nobody`);
    return count;
  }

  address(page: number): number {
    return page * this.#layout.pages.sizeBytes;
  }

  pageOf(address: number): number {
    return Math.floor(address / this.#layout.pages.sizeBytes);
  }
}
