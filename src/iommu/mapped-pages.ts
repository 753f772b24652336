// The three states of a page that both trackers keep: mapped, released since last asked, or neither.
import { AssertionError } from "../base/assert.ts";
import { PageSet } from "../memory/page-set.ts";

/**
 * Counts how often each page is mapped, because two buffers may share a page (ixgbevf gives the device one half of a
 * page while the stack owns the other), and two addresses may lead to one page. Pages outside the guest's RAM are left
 * out: no write gets there.
 */
export class MappedPages {
  readonly #counts: Uint32Array;
  readonly #mapped: PageSet;
  readonly #released: PageSet;

  constructor(pageCount: number) {
    this.#counts = new Uint32Array(pageCount);
    this.#mapped = new PageSet(pageCount);
    this.#released = new PageSet(pageCount);
  }

  map(page: number): void {
    if (page >= this.#counts.length) return;
    const count = (this.#counts[page] as number) + 1;
    this.#counts[page] = count;
    if (count > 1) return;
    this.#mapped.add(page);
    this.#released.delete(page);
  }

  release(page: number): void {
    if (page >= this.#counts.length) return;
    const count = (this.#counts[page] as number) - 1;
    if (count < 0) throw new AssertionError(`page ${page} was released more often than mapped`);
    this.#counts[page] = count;
    if (count > 0) return;
    this.#mapped.delete(page);
    this.#released.add(page);
  }

  mappedInto(into: PageSet): void {
    into.addSet(this.#mapped);
  }

  fetchReleased(into: PageSet): void {
    this.#released.drainInto(into);
  }

  /** Pages that were mapped again meanwhile stay mapped: they are copied at switchover. */
  putBackReleased(pages: PageSet): void {
    this.#released.addSet(pages);
    this.#released.deleteSet(this.#mapped);
  }
}
