// The tracker of a served VF: by the guest's IOMMU where it has one, by the posted descriptors where it has not.
import type { Domain, DomainListener } from "../../iommu/domain.ts";
import { IommuTracker } from "../../iommu/iommu-tracker.ts";
import type { MappedPageTracker } from "../../iommu/tracker.ts";
import type { PageGeometry } from "../../memory/geometry.ts";
import type { PageSet } from "../../memory/page-set.ts";
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
 * while it boots: both are kept, and a page counts as released when either says so.
 */
export class ServedTracker implements MappedPageTracker {
  readonly #domain: Domain;
  readonly #geometry: PageGeometry;
  readonly #shadow: DescriptorShadowTracker;
  readonly #iommu: IommuTracker;

  constructor(options: DescriptorShadowOptions & { readonly domain: Domain; readonly listener: LateListener }) {
    const { domain, listener, pages } = options;
    this.#domain = domain;
    this.#geometry = pages;
    this.#shadow = new DescriptorShadowTracker(options);
    this.#iommu = new IommuTracker(pages.count);
    listener.listener = this.#iommu;
  }

  get method(): "iommu" | "descriptor-shadow" {
    return this.#domain.mappedPages * 2 < this.#geometry.count ? "iommu" : "descriptor-shadow";
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
  }

  /** To both: what is mapped in one of them, and so no longer released, may not be what counts when it is asked for. */
  putBackReleased(pages: PageSet): void {
    this.#shadow.putBackReleased(pages);
    this.#iommu.putBackReleased(pages);
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
