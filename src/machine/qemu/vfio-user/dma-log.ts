// DMA logging as VFIO defines it: which pages the device wrote, by the address the device used.
import { isAddress } from "../../../base/numbers.ts";
import { DmaStatus, type DmaPort } from "../../../iommu/dma-port.ts";
import { DATA_BYTES_MAX, PAGE_BYTES } from "./protocol.ts";

// Bound here: V8 folds a module's own constants into its code, and reads and checks imported ones at each use.
const { ok, unmapped } = DmaStatus;

/** Pages to one piece of the bitmap: 4 KiB of bits for 128 MiB of addresses. */
const PIECE_PAGES = 1 << 15;
/** Pieces kept: 16 MiB of bits. A guest that spreads its DMA wider has all of its memory called dirty. */
const PIECES_MAX = 4096;
/** The most pages a REPORT can be about, so that its bits fit into one message. */
const REPORT_BITS_MAX = (DATA_BYTES_MAX - 64) * 8;

/** What a REPORT, or the dirty bitmap of DMA_UNMAP, asks for. */
export interface DirtyRange {
  readonly iova: number;
  readonly lengthBytes: number;
  /** What one bit stands for: a power of two. */
  readonly pageBytes: number;
}

/**
 * Kept by IOVA, not by guest address: that is what REPORT asks about, and a page that was unmapped since it was written is
 * still to be reported. It logs in pages of 4 KiB, wherever they are: the ranges of LOGGING_START only permit less.
 *
 * Writes only, and a page is marked after it was written (libvfio-user issue 753): a bitmap read between the two would
 * otherwise clear the mark of a write that its reader does not see. Where the log cannot tell, everything is dirty.
 */
export class DmaLog {
  readonly #pieces = new Map<number, Uint32Array>();
  #isRunning = false;
  #hasOverflowed = false;

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Begins with nothing marked. */
  start(): void {
    this.stop();
    this.#isRunning = true;
  }

  stop(): void {
    this.#isRunning = false;
    this.#hasOverflowed = false;
    this.#pieces.clear();
  }

  /** The device wrote here. */
  mark(iova: number, lengthBytes: number): void {
    if (!this.#isRunning || this.#hasOverflowed) return;
    const last = Math.floor((iova + lengthBytes - 1) / PAGE_BYTES);
    for (let page = Math.floor(iova / PAGE_BYTES); page <= last; page++) this.#markPage(page);
  }

  /** Bytes of the bitmap for this range, in whole 64-bit words; undefined if the range makes no sense or is too long. */
  reportBytes({ iova, lengthBytes, pageBytes }: DirtyRange): number | undefined {
    const isPower = isAddress(pageBytes) && pageBytes >= PAGE_BYTES && Number.isInteger(Math.log2(pageBytes));
    if (!this.#isRunning || !isPower || lengthBytes <= 0 || !isAddress(iova + lengthBytes)) return undefined;
    if (iova % PAGE_BYTES !== 0 || lengthBytes % PAGE_BYTES !== 0) return undefined;
    const bits = Math.ceil(lengthBytes / pageBytes);
    return bits > REPORT_BITS_MAX ? undefined : Math.ceil(bits / 64) * 8;
  }

  /** Adds the range's bits to `bitmap`, which has at least reportBytes(), and forgets them. */
  report({ iova, lengthBytes, pageBytes }: DirtyRange, bitmap: Uint8Array): void {
    if (this.#hasOverflowed) {
      setBits(bitmap, Math.ceil(lengthBytes / pageBytes));
      return;
    }
    const first = iova / PAGE_BYTES;
    const end = first + lengthBytes / PAGE_BYTES;
    for (const [key, piece] of this.#pieces) {
      const from = Math.max(first - key * PIECE_PAGES, 0);
      const to = Math.min(end - key * PIECE_PAGES, PIECE_PAGES);
      for (let slot = from; slot < to; slot++) {
        if (!takeBit(piece, slot)) continue;
        const bit = Math.floor(((key * PIECE_PAGES + slot) * PAGE_BYTES - iova) / pageBytes);
        bitmap[bit >>> 3] = (bitmap[bit >>> 3] as number) | (1 << (bit & 7));
      }
    }
  }

  #markPage(page: number): void {
    const key = Math.floor(page / PIECE_PAGES);
    const slot = page - key * PIECE_PAGES;
    const piece = this.#pieces.get(key) ?? this.#addPiece(key);
    if (piece !== undefined) piece[slot >>> 5] = (piece[slot >>> 5] as number) | (1 << (slot & 31));
  }

  #addPiece(key: number): Uint32Array | undefined {
    if (this.#pieces.size >= PIECES_MAX) {
      this.#hasOverflowed = true;
      this.#pieces.clear();
      return undefined;
    }
    const piece = new Uint32Array(PIECE_PAGES / 32);
    this.#pieces.set(key, piece);
    return piece;
  }
}

function takeBit(piece: Uint32Array, slot: number): boolean {
  const word = piece[slot >>> 5] as number;
  if (word === 0) return false;
  piece[slot >>> 5] = word & ~(1 << (slot & 31));
  return (word & (1 << (slot & 31))) !== 0;
}

function setBits(bitmap: Uint8Array, count: number): void {
  bitmap.fill(0xff, 0, count >>> 3);
  if ((count & 7) !== 0) bitmap[count >>> 3] = (1 << (count & 7)) - 1;
}

/**
 * The DMA port of a served device: it marks what was written, and it is there before the client has shared any memory.
 * Until then the device reaches nothing.
 */
export class ServedDma implements DmaPort {
  readonly #log: DmaLog;
  #port: DmaPort | undefined;

  constructor(log: DmaLog) {
    this.#log = log;
  }

  /** What leads to the client's memory; undefined when there is none any more. */
  connect(port: DmaPort | undefined): void {
    this.#port = port;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    return this.#port === undefined ? unmapped : this.#port.readWords(iova, target, count);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    return this.#port === undefined ? unmapped : this.#port.readBytes(iova, target, targetOffset, length);
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    if (this.#port === undefined) return unmapped;
    const status = this.#port.writeWords(iova, source, count, tag);
    if (status === ok) this.#log.mark(iova, count * 4);
    return status;
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    if (this.#port === undefined) return unmapped;
    const status = this.#port.writeBytes(iova, source, sourceOffset, length, tag);
    if (status === ok) this.#log.mark(iova, length);
    return status;
  }

  forgetReads(): void {
    this.#port?.forgetReads?.();
  }
}
