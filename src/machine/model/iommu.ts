// The model machine's IOMMU, and the tracker of a machine that has one: pages from the IOMMU, postings from the rings.
import { assert } from "../../base/assert.ts";
import { Domain } from "../../iommu/domain.ts";
import { DmaAccess } from "../../iommu/fault-log.ts";
import { IommuTracker } from "../../iommu/iommu-tracker.ts";
import type { MappedPageTracker } from "../../iommu/tracker.ts";
import type { PageGeometry } from "../../memory/geometry.ts";
import type { PageSet } from "../../memory/page-set.ts";
import { RingShadow, type RingShadowOptions } from "../../nic/ring-shadow.ts";
import type { DmaMapping } from "./dma-mapping.ts";
import type { Layout } from "./layout.ts";

/**
 * Addresses pass unchanged where they pass. Rings may be written all the time; pages of the pool may be read, for
 * transmit, and written while the driver has them mapped. Transmit's own mappings, which are for reading, no tracker
 * wants to know of.
 */
export class ModelIommu implements DmaMapping {
  readonly domain: Domain;
  readonly tracker: IommuTracker;
  readonly #pages: PageGeometry;
  readonly #writable = new Set<number>();
  /** Unmapped in the guest's table, and not flushed. */
  readonly #waiting = new Set<number>();

  constructor(pages: PageGeometry) {
    this.#pages = pages;
    this.tracker = new IommuTracker(pages.count);
    this.domain = new Domain({ pageBytes: pages.sizeBytes, listener: this.tracker });
  }

  /** Once, before the guest runs. */
  begin({ ringsStart, ringsEnd, poolFirst }: Layout): void {
    const { sizeBytes, count } = this.#pages;
    const ringsLast = Math.ceil(ringsEnd / sizeBytes);
    for (let page = Math.floor(ringsStart / sizeBytes); page < ringsLast; page++) this.#set(page, READ_AND_WRITE);
    for (let page = poolFirst; page < count; page++) this.#set(page, DmaAccess.read);
  }

  #set(page: number, access: number): void {
    const { sizeBytes } = this.#pages;
    const address = page * sizeBytes;
    this.domain.unmap(address, sizeBytes);
    const outcome = this.domain.map({ iova: address, address, lengthBytes: sizeBytes, access });
    assert(outcome === "mapped", `page ${page} cannot be mapped: ${outcome}`);
  }

  map(page: number): void {
    this.#waiting.delete(page);
    if (this.#writable.has(page)) return;
    this.#writable.add(page);
    this.#set(page, READ_AND_WRITE);
  }

  unmap(page: number): void {
    this.#waiting.add(page);
  }

  flush(): void {
    for (const page of this.#waiting) this.#drop(page);
    this.#waiting.clear();
  }

  #drop(page: number): void {
    if (this.#writable.delete(page)) this.#set(page, DmaAccess.read);
  }

  mapOnly(pages: Iterable<number>): void {
    const wanted = new Set(pages);
    this.#waiting.clear();
    for (const page of this.#writable) if (!wanted.has(page)) this.#drop(page);
    for (const page of wanted) this.map(page);
  }
}

const READ_AND_WRITE = DmaAccess.read | DmaAccess.write;

/** What is mapped and released the IOMMU says; what was posted in each slot only the rings can. */
export class IommuRingTracker implements MappedPageTracker {
  readonly method = "iommu";
  readonly #iommu: ModelIommu;
  readonly #rings: RingShadow;
  readonly #pages: PageGeometry;
  #isStale = false;

  constructor(iommu: ModelIommu, pages: PageGeometry, rings: Omit<RingShadowOptions, "domain" | "listener">) {
    this.#iommu = iommu;
    this.#pages = pages;
    this.#rings = new RingShadow({ ...rings, domain: iommu.domain });
  }

  mappedInto(into: PageSet): void {
    this.#iommu.tracker.mappedInto(into);
  }

  fetchReleased(into: PageSet): void {
    this.#iommu.tracker.fetchReleased(into);
  }

  putBackReleased(pages: PageSet): void {
    this.#iommu.tracker.putBackReleased(pages);
  }

  /** Put off until somebody asks: the rings' memory may be restored after the VF. */
  rebuild(): void {
    this.#isStale = true;
  }

  #upToDate(): RingShadow {
    if (this.#isStale) {
      this.#isStale = false;
      this.#rings.rebuild();
    }
    return this.#rings;
  }

  tailWritten(queue: number): void {
    this.#upToDate().tailWritten(queue);
  }

  queueChanged(queue: number): void {
    this.#upToDate().queueChanged(queue);
  }

  isPosted(queue: number, slot: number): boolean {
    return this.#upToDate().isPosted(queue, slot);
  }

  postedWords(queue: number, slot: number, target: Uint32Array): boolean {
    return this.#upToDate().postedWords(queue, slot, target);
  }

  ringPagesInto(into: PageSet): void {
    this.#upToDate().ringPagesInto(into, this.#pages);
  }
}
