// The tracker: which pages the device may write now (mapped), and which it has given up since last asked (released).
import type { PageSet } from "../memory/page-set.ts";

/**
 * Two implementations: the IOMMU's own map and unmap, and descriptor shadowing for a machine without a vIOMMU.
 * A page is in exactly one of three states for a round: mapped (copied at switchover), released since the last fetch
 * (copied in the next round, since the device may have filled it), or neither.
 */
export interface MappedPageTracker {
  readonly method: "iommu" | "descriptor-shadow";
  /** Adds the pages the device may write now. */
  mappedInto(into: PageSet): void;
  /** Adds the pages released since the last call, and forgets them. */
  fetchReleased(into: PageSet): void;
  /** Puts back pages fetched by a round that failed. */
  putBackReleased(pages: PageSet): void;
}
