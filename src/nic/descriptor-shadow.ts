// The tracker of a machine without a vIOMMU: what the driver posts is mapped, what it takes back is released.
import { IdentityDomain, type DmaDomain } from "../iommu/domain.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import { DmaAccess } from "../iommu/fault-log.ts";
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
  /** What the device's addresses mean; guest physical ones unless said otherwise. */
  readonly domain?: DmaDomain;
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
  readonly #domain: DmaDomain;
  readonly #pages: MappedPages;
  /** By page of the device's addresses, while a buffer is posted there: the guest's page behind it, and how many are. */
  readonly #targets = new Map<number, number>();
  readonly #postings = new Map<number, number>();
  readonly #rings: RingShadow;
  readonly #current: { readonly rings: RingShadow; readonly pages: MappedPages };
  #isStale = false;

  constructor(options: DescriptorShadowOptions) {
    const { pages, domain = new IdentityDomain(), ...rest } = options;
    this.#geometry = pages;
    this.#domain = domain;
    this.#pages = new MappedPages(pages.count);
    this.#rings = new RingShadow({ ...rest, domain, listener: this });
    this.#current = { rings: this.#rings, pages: this.#pages };
  }

  /** See RingShadow for these three. */
  tailWritten(queue: number): void {
    this.#upToDate().rings.tailWritten(queue);
  }

  queueChanged(queue: number): void {
    this.#upToDate().rings.queueChanged(queue);
  }

  /**
   * Put off until somebody asks or the driver posts again: a VF is restored while its guest is dark, and there is no
   * hurry to know what is mapped. Until then the device writes unseen; whoever begins to track sends all of memory first.
   */
  rebuild(): void {
    this.#isStale = true;
  }

  /** The rings and the pages, as of now. */
  #upToDate(): { rings: RingShadow; pages: MappedPages } {
    if (this.#isStale) {
      this.#isStale = false;
      this.#rings.rebuild();
    }
    return this.#current;
  }

  posted(address: number, lengthBytes: number): void {
    const { shift } = this.#geometry;
    const last = pageOf(address + lengthBytes - 1, shift);
    for (let page = pageOf(address, shift); page <= last; page++) this.#map(page);
  }

  released(address: number, lengthBytes: number): void {
    const { shift } = this.#geometry;
    const last = pageOf(address + lengthBytes - 1, shift);
    for (let page = pageOf(address, shift); page <= last; page++) this.#release(page);
  }

  /** What is mapped is what will be released, though the domain may lead elsewhere by then. */
  #map(page: number): void {
    if (this.#domain.isIdentity) {
      this.#pages.map(page);
      return;
    }
    const postings = this.#postings.get(page) ?? 0;
    const target = postings === 0 ? this.#targetOf(page) : (this.#targets.get(page) as number);
    this.#postings.set(page, postings + 1);
    this.#targets.set(page, target);
    if (target >= 0) this.#pages.map(target);
  }

  #release(page: number): void {
    if (this.#domain.isIdentity) {
      this.#pages.release(page);
      return;
    }
    const target = this.#targets.get(page) as number;
    const postings = (this.#postings.get(page) as number) - 1;
    if (postings > 0) this.#postings.set(page, postings);
    else {
      this.#postings.delete(page);
      this.#targets.delete(page);
    }
    if (target >= 0) this.#pages.release(target);
  }

  /** -1 where the device may not write. */
  #targetOf(page: number): number {
    const address = this.#domain.translate(page * this.#geometry.sizeBytes, DmaAccess.write);
    return address < 0 ? -1 : pageOf(address, this.#geometry.shift);
  }

  mappedInto(into: PageSet): void {
    this.#upToDate().pages.mappedInto(into);
  }

  fetchReleased(into: PageSet): void {
    this.#upToDate().pages.fetchReleased(into);
  }

  putBackReleased(pages: PageSet): void {
    this.#upToDate().pages.putBackReleased(pages);
  }

  isPosted(queue: number, slot: number): boolean {
    return this.#upToDate().rings.isPosted(queue, slot);
  }

  postedWords(queue: number, slot: number, target: Uint32Array): boolean {
    return this.#upToDate().rings.postedWords(queue, slot, target);
  }

  ringPagesInto(into: PageSet): void {
    this.#upToDate().rings.ringPagesInto(into, this.#geometry);
  }
}
