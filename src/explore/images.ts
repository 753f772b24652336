// Images of the destination's memory, each known by one number: trees of pairs over the contents of its pages.
import { assert } from "../base/assert.ts";
import { PairTable } from "./pair-table.ts";

/** An image with one page changed shares all but one path of its tree with the image before. */
export class Images {
  readonly pageCount: number;
  readonly #levels: number;
  readonly #pairs = new PairTable();
  readonly #path: number[] = [];

  constructor(pageCount: number) {
    assert(pageCount >= 2, "an image has two pages at least");
    this.pageCount = pageCount;
    this.#levels = Math.ceil(Math.log2(pageCount));
  }

  get bytes(): number {
    return this.#pairs.bytes;
  }

  /** The image of these contents, one number a page. */
  of(contents: ArrayLike<number>): number {
    let row = Array.from({ length: 1 << this.#levels }, (_, page) => contents[page] ?? 0);
    while (row.length > 1) {
      row = Array.from({ length: row.length / 2 }, (_, i) => this.#pairs.add(row[2 * i] ?? 0, row[2 * i + 1] ?? 0));
    }
    return row[0] ?? 0;
  }

  page(image: number, page: number): number {
    let at = image;
    for (let level = this.#levels - 1; level >= 0; level--) {
      at = ((page >>> level) & 1) === 0 ? this.#pairs.left(at) : this.#pairs.right(at);
    }
    return at;
  }

  with(image: number, page: number, content: number): number {
    let at = image;
    for (let level = this.#levels - 1; level >= 0; level--) {
      this.#path[level] = at;
      at = ((page >>> level) & 1) === 0 ? this.#pairs.left(at) : this.#pairs.right(at);
    }
    let changed = content;
    for (let level = 0; level < this.#levels; level++) {
      const node = this.#path[level] as number;
      changed =
        ((page >>> level) & 1) === 0
          ? this.#pairs.add(changed, this.#pairs.right(node))
          : this.#pairs.add(this.#pairs.left(node), changed);
    }
    return changed;
  }

  contents(image: number): number[] {
    return Array.from({ length: this.pageCount }, (_, page) => this.page(image, page));
  }
}
