// What the client lets the device reach: DMA_MAP and DMA_UNMAP, and the domain that is made of them.
import { OperationError } from "../../../base/errors.ts";
import { isAddress } from "../../../base/numbers.ts";
import type { Domain } from "../../../iommu/domain.ts";
import type { Descriptors } from "./descriptors.ts";
import type { DmaLog } from "./dma-log.ts";
import type { Fields, ReplyBuffer } from "./fields.ts";
import {
  DATA_BYTES_MAX,
  DMA_MAP_ACCESS_MASK,
  DMA_MAP_FILE_IO,
  DMA_MAP_MMAP,
  DMA_MAPS_MAX,
  DMA_UNMAP_ALL,
  DMA_UNMAP_GET_DIRTY_BITMAP,
  Errno,
  PAGE_BYTES,
} from "./protocol.ts";

/** Memory that clients share by descriptor. */
export interface SharedFiles {
  /**
   * Takes the descriptor over, whatever comes of it. `address` is where `offset` of that file is in the machine's memory;
   * `refused` says why these bytes cannot be reached there, and then the region is reached by messages. So it is if this
   * throws an OperationError, when the system refuses what is needed for it.
   */
  adopt(
    descriptor: number,
    offset: number,
    lengthBytes: number,
  ): { readonly address: number } | { readonly refused: string };
}

/** One mapping, by the address the device uses. */
interface DmaRegion {
  readonly iova: number;
  readonly lengthBytes: number;
}

export interface DmaRegionsOptions {
  readonly domain: Domain;
  /** Gets the regions that are reached by messages; their pages lead nowhere in particular. */
  readonly unshared: Domain | undefined;
  /** Without it every descriptor is left alone, and every region reached by messages. */
  readonly files: SharedFiles | undefined;
  readonly log: DmaLog;
}

const MAP_BYTES = 32;
const UNMAP_BYTES = 24;
/** struct vfio_user_bitmap before its bits. */
const BITMAP_BYTES = 16;
const MAP_FLAGS = DMA_MAP_ACCESS_MASK | DMA_MAP_MMAP | DMA_MAP_FILE_IO;

const isPages = (value: number): boolean => isAddress(value) && value % PAGE_BYTES === 0;
const endOf = (region: DmaRegion): number => region.iova + region.lengthBytes;

/**
 * The regions, sorted by address and never overlapping. What is in the domain is exactly what the client mapped and
 * shared, so the device can reach nothing else. All of it happens before the reply is sent: the device does its DMA on
 * this same thread, so none is in flight when a region goes.
 */
export class DmaRegions {
  readonly #options: DmaRegionsOptions;
  readonly #regions: DmaRegion[] = [];

  constructor(options: DmaRegionsOptions) {
    this.#options = options;
  }

  /** DMA_MAP. */
  map(request: Fields, descriptors: Descriptors): Errno {
    if (request.length < MAP_BYTES || request.u32(0) < MAP_BYTES) return Errno.invalid;
    const flags = request.u32(4);
    const offset = request.u64(8);
    const iova = request.u64(16);
    const lengthBytes = request.u64(24);
    const access = flags & DMA_MAP_ACCESS_MASK;
    const needsDescriptor = (flags & (DMA_MAP_MMAP | DMA_MAP_FILE_IO)) !== 0;
    if ((flags & ~MAP_FLAGS) !== 0 || access === 0) return Errno.invalid;
    if (needsDescriptor && descriptors.count === 0) return Errno.invalid;
    if (!isPages(iova) || !isPages(lengthBytes) || lengthBytes === 0) return Errno.invalid;
    if (!isAddress(iova + lengthBytes) || !isAddress(offset)) return Errno.invalid;
    if (this.#regions.length >= DMA_MAPS_MAX) return Errno.noSpace;
    const place = this.#firstEndingAfter(iova);
    const next = this.#regions[place];
    if (next !== undefined && next.iova < iova + lengthBytes) return Errno.exists;
    const address = (flags & DMA_MAP_FILE_IO) === 0 ? this.#adopt(descriptors, offset, lengthBytes) : undefined;
    const domain = address === undefined ? this.#options.unshared : this.#options.domain;
    const outcome = domain?.map({ iova, address: address ?? 0, lengthBytes, access }) ?? "mapped";
    if (outcome !== "mapped") return outcome === "full" ? Errno.noSpace : Errno.invalid;
    this.#regions.splice(place, 0, { iova, lengthBytes });
    return Errno.none;
  }

  /**
   * DMA_UNMAP, of exactly one region, of every region in a range, or of all. A region that reaches out of the range is
   * refused, and nothing is unmapped then; a range with nothing in it is not an error (both as VFIO's type 1 IOMMU, v2).
   */
  unmap(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < UNMAP_BYTES || request.u32(0) < UNMAP_BYTES) return Errno.invalid;
    const flags = request.u32(4);
    const iova = request.u64(8);
    const lengthBytes = request.u64(16);
    if (flags === DMA_UNMAP_ALL) {
      if (iova !== 0 || lengthBytes !== 0) return Errno.invalid;
      this.unmapAll();
      reply.echo(request.bytes.subarray(0, UNMAP_BYTES));
      return Errno.none;
    }
    if ((flags !== 0 && flags !== DMA_UNMAP_GET_DIRTY_BITMAP) || lengthBytes === 0) return Errno.invalid;
    const first = this.#firstEndingAfter(iova);
    const end = this.#firstEndingAfter(iova + lengthBytes);
    if (this.#isCut(first, iova) || this.#isCut(end, iova + lengthBytes)) return Errno.invalid;
    const error = flags === 0 ? answer(request, reply) : this.#answerWithBitmap(request, reply);
    if (error !== Errno.none) return error;
    if (end > first) {
      this.#options.domain.unmap(iova, lengthBytes);
      this.#options.unshared?.unmap(iova, lengthBytes);
    }
    this.#regions.splice(first, end - first);
    return Errno.none;
  }

  /** The client wants it, or has gone. */
  unmapAll(): void {
    this.#options.domain.unmapAll();
    this.#options.unshared?.unmapAll();
    this.#regions.length = 0;
  }

  #adopt(descriptors: Descriptors, offset: number, lengthBytes: number): number | undefined {
    const { files } = this.#options;
    if (files === undefined || offset % PAGE_BYTES !== 0) return undefined;
    const descriptor = descriptors.take();
    if (descriptor === undefined) return undefined;
    try {
      const adopted = files.adopt(descriptor, offset, lengthBytes);
      return "address" in adopted ? adopted.address : undefined;
    } catch (error) {
      // The system is short of something; by messages it still works.
      if (error instanceof OperationError) return undefined;
      throw error;
    }
  }

  /** Whether the region at this place begins before `boundary` and ends after it. */
  #isCut(place: number, boundary: number): boolean {
    const region = this.#regions[place];
    return region !== undefined && region.iova < boundary;
  }

  /** Index of the first region that ends after `address`, or how many there are. */
  #firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (endOf(this.#regions[middle] as DmaRegion) > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** What the device wrote in the range since it was last asked for, in pages of the size that the client names. */
  #answerWithBitmap(request: Fields, reply: ReplyBuffer): Errno {
    if (request.length < UNMAP_BYTES + BITMAP_BYTES) return Errno.invalid;
    const pageBytes = request.u64(UNMAP_BYTES);
    const bitmapBytes = request.u64(UNMAP_BYTES + 8);
    const range = { iova: request.u64(8), lengthBytes: request.u64(16), pageBytes };
    const neededBytes = this.#options.log.reportBytes(range);
    const replyBytes = UNMAP_BYTES + BITMAP_BYTES + bitmapBytes;
    if (neededBytes === undefined || bitmapBytes < neededBytes || bitmapBytes > DATA_BYTES_MAX) return Errno.invalid;
    if (request.u32(0) < replyBytes) return Errno.invalid;
    const fields = reply.payload(replyBytes);
    fields.bytes.set(request.bytes.subarray(0, UNMAP_BYTES + BITMAP_BYTES));
    this.#options.log.report(range, fields.bytes.subarray(UNMAP_BYTES + BITMAP_BYTES));
    return Errno.none;
  }
}

function answer(request: Fields, reply: ReplyBuffer): Errno {
  reply.echo(request.bytes.subarray(0, UNMAP_BYTES));
  return Errno.none;
}
