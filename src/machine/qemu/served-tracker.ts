// The tracker of a served VF: by the guest's IOMMU where it has one, by the posted descriptors where it has not.
import type { Domain, DomainListener } from "../../iommu/domain.ts";
import { IommuTracker } from "../../iommu/iommu-tracker.ts";
import type { MappedPageTracker } from "../../iommu/tracker.ts";
import type { PageGeometry } from "../../memory/geometry.ts";
import { PageSet } from "../../memory/page-set.ts";
import { DescriptorShadowTracker, type DescriptorShadowOptions } from "../../nic/descriptor-shadow.ts";

/** Passes a domain's changes on, once RAM is known and there is somebody to hear of them. */
export class LateListener implements DomainListener {
  listener: DomainListener | undefined;

  mapped(page: number, writable: boolean): void {
    this.listener?.mapped(page, writable);
  }

  unmapped(page: number, writable: boolean): void {
    this.listener?.unmapped(page, writable);
  }
}

/**
 * Without a vIOMMU, or with one that passes everything (`iommu=pt`), QEMU maps all of RAM for the device, which says
 * nothing. So the posted descriptors are shadowed in any case, as they must be for what was posted in each slot; and what
 * the guest maps and unmaps is believed once that is less than most of its RAM. A guest may change from one to the other
 * while it boots: both are kept, and a page counts as released when either says so. Where the posted descriptors begin to
 * count, all that was mapped until then does, too.
 *
 * What it cannot know: where a guest, with most of its RAM mapped, makes an address lead elsewhere while a buffer is
 * posted there.
 */
export class ServedTracker implements MappedPageTracker, DomainListener {
  readonly #domain: Domain;
  readonly #geometry: PageGeometry;
  readonly #shadow: DescriptorShadowTracker;
  readonly #iommu: IommuTracker;
  /** Released, whatever they are by now. */
  readonly #released: PageSet;
  /** Most of RAM is mapped. */
  #isWhole = false;

  constructor(options: DescriptorShadowOptions & { readonly domain: Domain; readonly listener: LateListener }) {
    const { domain, listener, pages } = options;
    this.#domain = domain;
    this.#geometry = pages;
    this.#shadow = new DescriptorShadowTracker(options);
    this.#iommu = new IommuTracker(pages.count);
    this.#released = new PageSet(pages.count);
    listener.listener = this;
  }

  mapped(page: number, writable: boolean): void {
    this.#iommu.mapped(page, writable);
    const wasWhole = this.#isWhole;
    this.#compare();
    if (wasWhole || !this.#isWhole) return;
    this.#iommu.mappedInto(this.#released);
    this.#iommu.fetchReleased(this.#released);
  }

  unmapped(page: number, writable: boolean): void {
    this.#iommu.unmapped(page, writable);
    if (this.#isWhole && writable && page < this.#geometry.count) this.#released.add(page);
    this.#compare();
  }

  #compare(): void {
    this.#isWhole = this.#domain.mappedPages * 2 >= this.#geometry.count;
  }

  get method(): "iommu" | "descriptor-shadow" {
    return this.#isWhole ? "descriptor-shadow" : "iommu";
  }

  get #mapped(): MappedPageTracker {
    return this.method === "iommu" ? this.#iommu : this.#shadow;
  }

  mappedInto(into: PageSet): void {
    this.#mapped.mappedInto(into);
  }

  fetchReleased(into: PageSet): void {
    this.#shadow.fetchReleased(into);
    this.#iommu.fetchReleased(into);
    this.#released.drainInto(into);
  }

  putBackReleased(pages: PageSet): void {
    this.#released.addSet(pages);
  }

  tailWritten(queue: number): void {
    this.#shadow.tailWritten(queue);
  }

  queueChanged(queue: number): void {
    this.#shadow.queueChanged(queue);
  }

  rebuild(): void {
    this.#shadow.rebuild();
  }

  isPosted(queue: number, slot: number): boolean {
    return this.#shadow.isPosted(queue, slot);
  }

  postedWords(queue: number, slot: number, target: Uint32Array): boolean {
    return this.#shadow.postedWords(queue, slot, target);
  }

  ringPagesInto(into: PageSet): void {
    this.#shadow.ringPagesInto(into);
  }
}
