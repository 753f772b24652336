// What the model guest is made of, and where its rings, its application and its page pool lie in memory.
import { assert } from "../../base/assert.ts";
import type { PageGeometry } from "../../memory/geometry.ts";
import { DESCRIPTOR_BYTES } from "../../nic/descriptors.ts";
import { SRRCTL_BSIZEPKT_UNIT_BYTES } from "../../nic/registers.ts";
import type { Cooperation } from "./cooperation.ts";
import { HEADERS_BYTES } from "./frames.ts";

export interface ModelOptions {
  /** Queue pairs, each with an interrupt vector of its own: 1 or 2. Default 1. */
  readonly queuePairs?: number;
  /** Multiples of 8. Defaults 64 and 64. */
  readonly receiveDescriptors?: number;
  readonly transmitDescriptors?: number;
  /** 2: a page has two halves that take turns, as in ixgbevf. 1: a buffer is a page. Default 2. */
  readonly buffersPerPage?: 1 | 2;
  /** Unit of SRRCTL.BSIZEPKT; see ReceiveOptions of the VF. */
  readonly bufferUnitBytes?: number;
  /** Descriptors posted at once (IXGBEVF_RX_BUFFER_WRITE). Default 16. */
  readonly refillBatch?: number;
  /** Frames a poll takes from a queue (NAPI_POLL_WEIGHT). Default 64. */
  readonly pollBudget?: number;
  /** A frame up to this long is copied whole, of a longer one its headers (IXGBEVF_RX_HDR_SIZE). Default 256. */
  readonly headerBytes?: number;
  /** Every so many frames the driver asks for a completion (RS). ixgbevf asks each time; default 1. */
  readonly transmitReportEvery?: number;
  /** Completions come as the head in a word of memory (TDWBAL), as DPDK can have it, not as DD. Default false. */
  readonly headWriteBack?: boolean;
  /** Every so many frames the driver writes its context descriptor again. Default 4. */
  readonly transmitContextEvery?: number;
  /** Most frames the socket holds; beyond it they are dropped, as a full receive buffer drops them. Default 32. */
  readonly socketFrames?: number;
  /** Pages that the application writes all over. Default 8. */
  readonly applicationPages?: number;
  /** Bytes of each frame the application sends, at most a page. */
  readonly sentFrameBytes?: number;
  /** How the driver helps a migration. Default none: stock ixgbevf. */
  readonly cooperation?: Cooperation;
  /**
   * The driver lets receive write-backs overtake their buffers (DCA_RXCTRL.DESC_WRO_EN). Default false: ixgbevf sets
   * relaxed ordering for fetching descriptors only.
   */
  readonly descriptorWriteRelaxedOrdering?: boolean;
  /** When a page that the stack keeps is unmapped, if the machine has an IOMMU: see BufferMapping. Default never. */
  readonly unmap?: "never" | "strict" | "lazy";
  /** Pages that a lazy driver unmaps for one flush. Default 16; Linux's flush queue has room for 256. */
  readonly unmapBatch?: number;
  /** Of the payloads. */
  readonly seed?: number;
}

/** Rings start on a multiple of this: VFRDBAL has no lower bits. */
const RING_ALIGNMENT_BYTES = 128;
/** Of a descriptor the driver copies the upper half, status and length: all that it goes by. */
export const COPIED_DESCRIPTOR_BYTES = 8;
/** Two areas for rings: a driver that opens its rings anew takes the other one. */
export const RING_AREAS = 2;

export interface Layout extends Required<ModelOptions> {
  readonly pages: PageGeometry;
  readonly bufferBytes: number;
  /** Address of a ring's descriptor 0. */
  receiveRing(area: number, queue: number): number;
  transmitRing(area: number, queue: number): number;
  /** Address of the word for head write-back. */
  headWord(area: number, queue: number): number;
  /** Address of descriptor 0 in the driver's copy of a receive ring; there is one only with `copy-descriptors`. */
  descriptorCopy(queue: number): number;
  /** Everything between these addresses is rings, and words for head write-back. */
  readonly ringsStart: number;
  readonly ringsEnd: number;
  readonly applicationStart: number;
  readonly applicationBytes: number;
  /** Page numbers from here on are the allocator's. */
  readonly poolFirst: number;
}

const defaults = {
  queuePairs: 1,
  receiveDescriptors: 64,
  transmitDescriptors: 64,
  buffersPerPage: 2,
  bufferUnitBytes: SRRCTL_BSIZEPKT_UNIT_BYTES,
  refillBatch: 16,
  pollBudget: 64,
  headerBytes: 256,
  transmitReportEvery: 1,
  headWriteBack: false,
  transmitContextEvery: 4,
  socketFrames: 32,
  applicationPages: 8,
  sentFrameBytes: 60,
  cooperation: "none",
  descriptorWriteRelaxedOrdering: false,
  unmap: "never",
  unmapBatch: 16,
  seed: 1,
} as const satisfies Required<ModelOptions>;

/**
 * Page 0 is never used. Rings lie one behind the other, so that on large pages they share pages with each other and with
 * the application's first bytes. Copied descriptors have pages to themselves: that those are not the device's is what the
 * copy is for.
 */
export function layOut(pages: PageGeometry, options: ModelOptions): Layout {
  const chosen: Required<ModelOptions> = { ...defaults, ...options };
  const { queuePairs, receiveDescriptors, transmitDescriptors, buffersPerPage } = chosen;
  const bufferBytes = pages.sizeBytes / buffersPerPage;
  const receiveBytes = aligned(receiveDescriptors * DESCRIPTOR_BYTES, RING_ALIGNMENT_BYTES);
  const transmitBytes = aligned(transmitDescriptors * DESCRIPTOR_BYTES, RING_ALIGNMENT_BYTES);
  const queueBytes = receiveBytes + transmitBytes + RING_ALIGNMENT_BYTES;
  const areaBytes = queuePairs * queueBytes;
  const ringsStart = aligned(pages.sizeBytes, RING_ALIGNMENT_BYTES);
  const ringsEnd = ringsStart + RING_AREAS * areaBytes;
  const hasCopies = chosen.cooperation === "copy-descriptors";
  const copyBytes = hasCopies ? receiveDescriptors * COPIED_DESCRIPTOR_BYTES : 0;
  const copyStart = hasCopies ? aligned(ringsEnd, pages.sizeBytes) : ringsEnd;
  const copyEnd = copyStart + queuePairs * copyBytes;
  const applicationStart = hasCopies ? aligned(copyEnd, pages.sizeBytes) : ringsEnd;
  const applicationBytes = chosen.applicationPages * pages.sizeBytes;
  const poolFirst = Math.ceil((applicationStart + applicationBytes) / pages.sizeBytes);
  const layout: Layout = {
    ...chosen,
    pages,
    bufferBytes,
    receiveRing: (area, queue) => ringsStart + area * areaBytes + queue * queueBytes,
    transmitRing: (area, queue) => layout.receiveRing(area, queue) + receiveBytes,
    headWord: (area, queue) => layout.transmitRing(area, queue) + transmitBytes,
    descriptorCopy: (queue) => copyStart + queue * copyBytes,
    ringsStart,
    ringsEnd,
    applicationStart,
    applicationBytes,
    poolFirst,
  };
  checkLayout(layout);
  return layout;
}

function checkLayout(layout: Layout): void {
  const { pages, poolFirst, queuePairs, receiveDescriptors, transmitDescriptors, bufferBytes } = layout;
  assert(queuePairs === 1 || queuePairs === 2, `${queuePairs} queue pairs`);
  assert(receiveDescriptors % 8 === 0 && transmitDescriptors % 8 === 0, "rings are multiples of 8 descriptors");
  assert(bufferBytes % layout.bufferUnitBytes === 0, `buffers of ${bufferBytes} bytes`);
  assert(layout.sentFrameBytes <= pages.sizeBytes, "a sent frame fits a page");
  assert(Math.min(layout.headerBytes, HEADERS_BYTES) <= pages.sizeBytes, "copied headers fit a page");
  const needed = queuePairs * (receiveDescriptors + transmitDescriptors) + 2 * layout.socketFrames;
  assert(pages.count - poolFirst >= needed, `${pages.count} pages are too few: the pool needs ${needed}`);
}

function aligned(bytes: number, alignment: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
