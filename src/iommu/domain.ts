// Domains: what the IOMMU makes of an address that the device puts on the bus, page by page.
import { assert } from "../base/assert.ts";
import { isAddress } from "../base/numbers.ts";
import { DmaStatus } from "./dma-port.ts";
import { DmaAccess, FaultLog } from "./fault-log.ts";

/** What a translation gives instead of an address: the negative of the DmaStatus. */
export const TRANSLATION_UNMAPPED = -DmaStatus.unmapped;
export const TRANSLATION_FORBIDDEN = -DmaStatus.forbidden;

export interface DmaDomain {
  /** Addresses pass unchanged, so that ranges need no look at each page. */
  readonly isIdentity: boolean;
  /** Faults of the device; a translation asked for by anyone else leaves no trace here. */
  readonly faults: FaultLog;
  /** Guest physical address behind `iova`, TRANSLATION_UNMAPPED or TRANSLATION_FORBIDDEN. Holds to the end of the page. */
  translate(iova: number, access: DmaAccess): number;
}

/** The domain of a device without an IOMMU: every address is a guest physical one. */
export class IdentityDomain implements DmaDomain {
  readonly isIdentity = true;
  readonly faults = new FaultLog();

  translate(iova: number): number {
    return isAddress(iova) ? iova : TRANSLATION_UNMAPPED;
  }
}

/** Hears of every page that becomes reachable for the device, and of every one that ceases to be. */
export interface DomainListener {
  mapped(page: number, writable: boolean): void;
  unmapped(page: number, writable: boolean): void;
}

export interface Mapping {
  readonly iova: number;
  readonly address: number;
  readonly lengthBytes: number;
  /** DmaAccess bits. */
  readonly access: number;
}

/**
 * Why a mapping was refused; the guest's IOMMU driver, or the VMM that speaks for it, gets it as an error. `invalid` is
 * not whole pages, no access, or a target beyond 2^32 pages; `full` is too many tables.
 */
export type MapOutcome = "mapped" | "invalid" | "overlapping" | "full";

/** Pages to a leaf of the table, as in a VT-d second-level table. */
const LEAF_PAGES = 512;
const ACCESS_BITS = DmaAccess.read | DmaAccess.write;
const TARGET_PAGES_MAX = 2 ** 32;
/** Room for 64 GiB mapped densely; sparse mappings cost at most some 85 MB of tables. */
const LEAVES_MAX_DEFAULT = 1 << 15;

interface Leaf {
  readonly pages: Uint32Array;
  readonly access: Uint8Array;
  used: number;
}

function overlaps(key: number, firstPage: number, pageCount: number): boolean {
  return key * LEAF_PAGES < firstPage + pageCount && (key + 1) * LEAF_PAGES > firstPage;
}

/** Puts pages that follow one another together; nothing is allocated for a page that only continues. */
class Pieces {
  readonly #pageBytes: number;
  readonly #found: Mapping[] = [];
  #iovaPage = 0;
  #page = 0;
  #access = 0;
  #count = 0;

  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes;
  }

  add(iovaPage: number, page: number, access: number): void {
    const isNext = iovaPage === this.#iovaPage + this.#count && page === this.#page + this.#count;
    if (this.#count > 0 && isNext && access === this.#access) {
      this.#count++;
      return;
    }
    this.#close();
    this.#iovaPage = iovaPage;
    this.#page = page;
    this.#access = access;
    this.#count = 1;
  }

  all(): Mapping[] {
    this.#close();
    return this.#found;
  }

  #close(): void {
    if (this.#count === 0) return;
    this.#found.push({
      iova: this.#iovaPage * this.#pageBytes,
      address: this.#page * this.#pageBytes,
      lengthBytes: this.#count * this.#pageBytes,
      access: this.#access,
    });
    this.#count = 0;
  }
}

/**
 * A table from IOVA page to guest page with read and write permission. Sparse in IOVA: leaves of 512 pages come and go
 * with what is mapped in them, and their number is bounded, so that no guest can make the table grow without end.
 */
export class Domain implements DmaDomain {
  readonly isIdentity = false;
  readonly faults = new FaultLog();
  readonly #pageBytes: number;
  readonly #leavesMax: number;
  readonly #listener: DomainListener | undefined;
  readonly #leaves = new Map<number, Leaf>();
  #mappedPages = 0;
  #lastKey = -1;
  #lastLeaf: Leaf | undefined;

  constructor(options: { pageBytes?: number; leavesMax?: number; listener?: DomainListener } = {}) {
    this.#pageBytes = options.pageBytes ?? 4096;
    this.#leavesMax = options.leavesMax ?? LEAVES_MAX_DEFAULT;
    this.#listener = options.listener;
  }

  /** Pages mapped now. */
  get mappedPages(): number {
    return this.#mappedPages;
  }

  /** Maps all of it or nothing. */
  map(mapping: Mapping): MapOutcome {
    const pageBytes = this.#pageBytes;
    const first = mapping.iova / pageBytes;
    const target = mapping.address / pageBytes;
    const count = mapping.lengthBytes / pageBytes;
    const access = mapping.access & ACCESS_BITS;
    if (![first, target, count].every(isAddress) || count === 0 || access === 0) return "invalid";
    if (!isAddress(mapping.iova + mapping.lengthBytes) || target + count > TARGET_PAGES_MAX) return "invalid";
    if (!this.#hasRoom(first, count)) return "full";
    for (let i = 0; i < count; i++) if (this.#isMapped(first + i)) return "overlapping";
    for (let i = 0; i < count; i++) this.#set(first + i, target + i, access);
    return "mapped";
  }

  /** Unmaps every page that lies in the range, mapped by one call or by several, and returns how many they were. */
  unmap(iova: number, lengthBytes: number): number {
    const first = Math.ceil(iova / this.#pageBytes);
    const count = Math.floor((iova + lengthBytes) / this.#pageBytes) - first;
    const before = this.#mappedPages;
    for (const [key, leaf] of this.#leaves) {
      if (!overlaps(key, first, count)) continue;
      const from = Math.max(first - key * LEAF_PAGES, 0);
      const to = Math.min(first + count - key * LEAF_PAGES, LEAF_PAGES);
      for (let slot = from; slot < to; slot++) this.#clear(leaf, slot);
      if (leaf.used === 0) this.#drop(key);
    }
    return before - this.#mappedPages;
  }

  unmapAll(): void {
    this.unmap(0, Number.MAX_SAFE_INTEGER);
  }

  /** What is mapped now, by rising iova, in pieces as long as address and permission allow. */
  mappings(): Mapping[] {
    const pieces = new Pieces(this.#pageBytes);
    const keys = [...this.#leaves.keys()].toSorted((one, other) => one - other);
    for (const key of keys) {
      const { pages, access } = this.#leaves.get(key) as Leaf;
      for (let slot = 0; slot < LEAF_PAGES; slot++) {
        if (access[slot] !== 0) pieces.add(key * LEAF_PAGES + slot, pages[slot] as number, access[slot] as number);
      }
    }
    return pieces.all();
  }

  translate(iova: number, access: DmaAccess): number {
    const page = Math.floor(iova / this.#pageBytes);
    const leaf = this.#leaf(Math.floor(page / LEAF_PAGES));
    if (leaf === undefined) return TRANSLATION_UNMAPPED;
    const slot = page % LEAF_PAGES;
    const allowed = leaf.access[slot] as number;
    if (allowed === 0) return TRANSLATION_UNMAPPED;
    if ((allowed & access) === 0) return TRANSLATION_FORBIDDEN;
    return (leaf.pages[slot] as number) * this.#pageBytes + (iova - page * this.#pageBytes);
  }

  #leaf(key: number): Leaf | undefined {
    if (key === this.#lastKey) return this.#lastLeaf;
    const leaf = this.#leaves.get(key);
    this.#lastKey = key;
    this.#lastLeaf = leaf;
    return leaf;
  }

  #hasRoom(first: number, count: number): boolean {
    const firstKey = Math.floor(first / LEAF_PAGES);
    const lastKey = Math.floor((first + count - 1) / LEAF_PAGES);
    if (lastKey - firstKey >= this.#leavesMax) return false;
    let leaves = this.#leaves.size;
    for (let key = firstKey; key <= lastKey; key++) if (!this.#leaves.has(key)) leaves++;
    return leaves <= this.#leavesMax;
  }

  #isMapped(page: number): boolean {
    const leaf = this.#leaf(Math.floor(page / LEAF_PAGES));
    return leaf !== undefined && leaf.access[page % LEAF_PAGES] !== 0;
  }

  #set(page: number, target: number, access: number): void {
    const key = Math.floor(page / LEAF_PAGES);
    let leaf = this.#leaf(key);
    if (leaf === undefined) {
      leaf = { pages: new Uint32Array(LEAF_PAGES), access: new Uint8Array(LEAF_PAGES), used: 0 };
      this.#leaves.set(key, leaf);
      this.#lastLeaf = leaf;
    }
    leaf.pages[page % LEAF_PAGES] = target;
    leaf.access[page % LEAF_PAGES] = access;
    leaf.used++;
    this.#mappedPages++;
    this.#listener?.mapped(target, (access & DmaAccess.write) !== 0);
  }

  #clear(leaf: Leaf, slot: number): void {
    const access = leaf.access[slot] as number;
    if (access === 0) return;
    leaf.access[slot] = 0;
    leaf.used--;
    this.#mappedPages--;
    assert(leaf.used >= 0 && this.#mappedPages >= 0, "a page was unmapped that was not mapped");
    this.#listener?.unmapped(leaf.pages[slot] as number, (access & DmaAccess.write) !== 0);
  }

  #drop(key: number): void {
    this.#leaves.delete(key);
    this.#lastKey = -1;
    this.#lastLeaf = undefined;
  }
}
