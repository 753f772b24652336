// A DMA port for tests that answers every read later: the contract of DmaStatus.later, and checks that readers keep it.
import assert from "node:assert/strict";
import { DmaStatus, type DmaPort } from "../iommu/dma-port.ts";

interface Asked {
  readonly iova: number;
  readonly lengthBytes: number;
  /** Undefined until the port has an answer. */
  status: DmaStatus | undefined;
  readonly bytes: Uint8Array;
}

export class LaterPort implements DmaPort {
  /** Called when there is an answer, or when one will never come. */
  onAnswer: () => void = () => {};
  /** Reads asked for since the port was made; asking again for one that is under way does not count. */
  asked = 0;
  readonly #port: DmaPort;
  readonly #reads = new Map<string, Asked>();
  readonly #underWayMax: number;

  constructor(port: DmaPort, options: { underWayMax?: number } = {}) {
    this.#port = port;
    this.#underWayMax = options.underWayMax ?? 2;
  }

  /** Reads without an answer. */
  get waiting(): number {
    return [...this.#reads.values()].filter((read) => read.status === undefined).length;
  }

  /** Reads memory for the oldest read without an answer. False if there is none. */
  answer(): boolean {
    const oldest = [...this.#reads.values()].find((read) => read.status === undefined);
    if (oldest === undefined) return false;
    oldest.status = this.#port.readBytes(oldest.iova, oldest.bytes, 0, oldest.lengthBytes);
    this.onAnswer();
    return true;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    return this.readBytes(iova, new Uint8Array(target.buffer, target.byteOffset), 0, count * 4);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, lengthBytes: number): DmaStatus {
    const key = `${iova} ${lengthBytes}`;
    const read = this.#reads.get(key);
    if (read === undefined) {
      this.asked++;
      this.#reads.set(key, { iova, lengthBytes, status: undefined, bytes: new Uint8Array(lengthBytes) });
      assert.ok(this.#reads.size <= this.#underWayMax, `reads are left behind: ${[...this.#reads.keys()].join(", ")}`);
      return DmaStatus.later;
    }
    if (read.status === undefined) return DmaStatus.later;
    this.#reads.delete(key);
    if (read.status === DmaStatus.ok) target.set(read.bytes, targetOffset);
    return read.status;
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    return this.#port.writeWords(iova, source, count, tag);
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    return this.#port.writeBytes(iova, source, sourceOffset, length, tag);
  }

  forgetReads(): void {
    if (this.#reads.size === 0) return;
    this.#reads.clear();
    this.onAnswer();
  }
}
