// The device's only way to memory: reads and writes by IOVA, where a fault is a value, never an exception.

/** Outcome of one DMA access. */
export const DmaStatus = {
  ok: 0,
  /** No mapping for the address (or part of it). Nothing was transferred. */
  unmapped: 1,
  /** Mapped, but not for this direction. Nothing was transferred. */
  forbidden: 2,
  /**
   * Not there yet: the port has asked for it and nothing was transferred. Only reads answer so. The reader asks again,
   * with the same address and length, once the port's owner says that answers have come (Vf82599.wake), and tells the
   * port when it will not (forgetReads).
   */
  later: 3,
} as const;
export type DmaStatus = (typeof DmaStatus)[keyof typeof DmaStatus];

/** What a device write is, for the ledger and for ordering; the memory system itself does not look at it. */
export const DmaPurpose = {
  rxBuffer: 0,
  rxWriteBack: 1,
  txWriteBack: 2,
  txHeadWriteBack: 3,
  message: 4,
} as const;
export type DmaPurpose = (typeof DmaPurpose)[keyof typeof DmaPurpose];

/**
 * A tag travels with each write, packed into one small integer so that the hot path allocates nothing:
 * descriptor index in bits 15:0, queue in 19:16, purpose in 23:20, PCIe relaxed ordering in bit 24.
 */
export function dmaTag(purpose: DmaPurpose, queue: number, index: number, relaxedOrdering: boolean): number {
  return (relaxedOrdering ? 1 << 24 : 0) | (purpose << 20) | ((queue & 0xf) << 16) | (index & 0xffff);
}
export const tagPurpose = (tag: number): DmaPurpose => ((tag >>> 20) & 0xf) as DmaPurpose;
export const tagQueue = (tag: number): number => (tag >>> 16) & 0xf;
export const tagIndex = (tag: number): number => tag & 0xffff;
export const tagRelaxedOrdering = (tag: number): boolean => (tag & (1 << 24)) !== 0;

/**
 * Memory as the VF sees it. Each write is one beat: whole or not at all, a fault transfers nothing. Every access has at
 * least one byte. Writes are posted and never answer `later`.
 */
export interface DmaPort {
  /** Reads `count` little-endian 32-bit words from a 4-byte aligned address into target[0..count). */
  readWords(iova: number, target: Uint32Array, count: number): DmaStatus;
  /** Writes source[0..count) to a 4-byte aligned address, atomically (a 16-byte descriptor is never torn by this port). */
  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus;
  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus;
  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus;
  /**
   * On a port that answers `later`: nobody waits for what was asked, so that nothing read before is taken for what memory
   * holds when the same is asked again. A reader that does wait is woken, and asks again.
   */
  forgetReads?(): void;
}

/**
 * Watches device writes from outside (DMA log, ledger). `before` sees memory as it was, `after` as it is.
 * Addresses are guest physical; a write over several discontiguous pages is reported piece by piece.
 */
export interface DmaObserver {
  before?(address: number, length: number, tag: number): void;
  after?(address: number, length: number, tag: number): void;
}
