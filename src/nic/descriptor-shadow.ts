// The tracker of a machine without a vIOMMU: what the driver posts is mapped, what it takes back is released.
import { IdentityDomain } from "../iommu/domain.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { MappedPages } from "../iommu/mapped-pages.ts";
import type { MappedPageTracker } from "../iommu/tracker.ts";
import type { PageGeometry } from "../memory/geometry.ts";
import { pageOf, type PageSet } from "../memory/page-set.ts";
import { RingShadow, type BufferListener } from "./ring-shadow.ts";

export interface DescriptorShadowOptions {
  readonly registers: Uint32Array;
  readonly dma: DmaPort;
  readonly pages: PageGeometry;
  readonly queuePairs: number;
  readonly bufferUnitBytes?: number;
}

/**
 * Learns from the doorbells alone, so that the driver need not know: when it moves VFRDT, the descriptors it posted are
 * read as the device would read them, and the pages of their buffers are mapped, by count, since two buffers may share a
 * page. A page is released when the last slot that posted it is posted again with another, or its queue ends. Then the
 * driver has been there, and whatever the device put into the page it put there before.
 *
 * What it cannot know: a buffer that the driver took back without posting its slot again stays mapped, which costs a page
 * copied and loses nothing. Pages that are only read (Tx data) are not mapped; rings are asked for by `ringPagesInto`.
 */
export class DescriptorShadowTracker implements MappedPageTracker, BufferListener {
  readonly method = "descriptor-shadow";
  readonly #geometry: PageGeometry;
  readonly #pages: MappedPages;
  readonly #shadow: RingShadow;

  constructor(options: DescriptorShadowOptions) {
    const { pages, ...rest } = options;
    this.#geometry = pages;
    this.#pages = new MappedPages(pages.count);
    this.#shadow = new RingShadow({ ...rest, domain: new IdentityDomain(), listener: this });
  }

  /** See RingShadow for these three. */
  tailWritten(queue: number): void {
    this.#shadow.tailWritten(queue);
  }

  queueChanged(queue: number): void {
    this.#shadow.queueChanged(queue);
  }

  rebuild(): void {
    this.#shadow.rebuild();
  }

  /** At most 31 KiB of buffer, so a handful of pages; those beyond RAM are left out by MappedPages. */
  posted(address: number, lengthBytes: number): void {
    const { shift } = this.#geometry;
    const last = pageOf(address + lengthBytes - 1, shift);
    for (let page = pageOf(address, shift); page <= last; page++) this.#pages.map(page);
  }

  released(address: number, lengthBytes: number): void {
    const { shift } = this.#geometry;
    const last = pageOf(address + lengthBytes - 1, shift);
    for (let page = pageOf(address, shift); page <= last; page++) this.#pages.release(page);
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

  isPosted(queue: number, slot: number): boolean {
    return this.#shadow.isPosted(queue, slot);
  }

  postedWords(queue: number, slot: number, target: Uint32Array): boolean {
    return this.#shadow.postedWords(queue, slot, target);
  }

  ringPagesInto(into: PageSet): void {
    this.#shadow.ringPagesInto(into, this.#geometry);
  }
}
