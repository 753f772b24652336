// DMA where some memory is shared by descriptor and some is not: each access goes the one way or the other.
import type { DmaDomain } from "../../../iommu/domain.ts";
import { TRANSLATION_UNMAPPED } from "../../../iommu/domain.ts";
import type { DmaPort, DmaStatus } from "../../../iommu/dma-port.ts";
import { DmaAccess } from "../../../iommu/fault-log.ts";
import { PAGE_BYTES } from "./protocol.ts";

export interface RoutedDmaOptions {
  /** The port to shared memory; faults for what is neither are its own. */
  readonly shared: DmaPort;
  readonly messages: DmaPort;
  /**
   * Holds what the client mapped without a descriptor it could be shared by, each page leading anywhere; a client cannot
   * map a page in both ways. Cheap to ask while it is empty.
   */
  readonly unshared: DmaDomain & { readonly mappedPages: number };
}

/**
 * An access that lies whole in memory which is not shared goes by messages, any other to the shared port. So one that
 * lies half in each is a fault.
 *
 * Order is kept within each way only, and shared memory is quicker: a descriptor in it would be seen before its buffer
 * outside. Drivers have both in RAM, which is shared or not as one; what QEMU does not share beside it is firmware.
 */
export class RoutedDma implements DmaPort {
  readonly #shared: DmaPort;
  readonly #messages: DmaPort;
  readonly #unshared: RoutedDmaOptions["unshared"];

  constructor(options: RoutedDmaOptions) {
    this.#shared = options.shared;
    this.#messages = options.messages;
    this.#unshared = options.unshared;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    return this.#route(iova, count * 4).readWords(iova, target, count);
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    return this.#route(iova, count * 4).writeWords(iova, source, count, tag);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    return this.#route(iova, length).readBytes(iova, target, targetOffset, length);
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    return this.#route(iova, length).writeBytes(iova, source, sourceOffset, length, tag);
  }

  forgetReads(): void {
    this.#messages.forgetReads?.();
  }

  #route(iova: number, lengthBytes: number): DmaPort {
    return this.#unshared.mappedPages > 0 && this.#isUnshared(iova, lengthBytes) ? this.#messages : this.#shared;
  }

  /** Whether the client lets the access is for the client to say: the permission is not looked at. */
  #isUnshared(iova: number, lengthBytes: number): boolean {
    const end = iova + lengthBytes;
    for (let at = iova; at < end; at += PAGE_BYTES - (at % PAGE_BYTES)) {
      if (this.#unshared.translate(at, DmaAccess.read) === TRANSLATION_UNMAPPED) return false;
    }
    return true;
  }
}
