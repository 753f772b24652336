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
    return this.part(image, page, 0);
  }

  with(image: number, page: number, content: number): number {
    return this.withPart(image, page, 0, content);
  }

  /** The number of the n-th of the parts of 2^level pages; equal parts have equal numbers. */
  part(image: number, index: number, level: number): number {
    let at = image;
    for (let above = this.#levels - 1; above >= level; above--) {
      at = ((index >>> (above - level)) & 1) === 0 ? this.#pairs.left(at) : this.#pairs.right(at);
    }
    return at;
  }

  /** The image with another such part. */
  withPart(image: number, index: number, level: number, part: number): number {
    let at = image;
    for (let above = this.#levels - 1; above >= level; above--) {
      this.#path[above] = at;
      at = ((index >>> (above - level)) & 1) === 0 ? this.#pairs.left(at) : this.#pairs.right(at);
    }
    if (at === part) return image;
    let changed = part;
    for (let above = level; above < this.#levels; above++) {
      const node = this.#path[above] as number;
      changed =
        ((index >>> (above - level)) & 1) === 0
          ? this.#pairs.add(changed, this.#pairs.right(node))
          : this.#pairs.add(this.#pairs.left(node), changed);
    }
    return changed;
  }

  contents(image: number): number[] {
    return Array.from({ length: this.pageCount }, (_, page) => this.page(image, page));
  }
}
