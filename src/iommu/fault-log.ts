// The recorded faults of a domain: a bounded log that keeps the first ones and counts the rest.
import type { DmaStatus } from "./dma-port.ts";

/** Direction of an access, seen from the device. */
export const DmaAccess = { read: 1, write: 2 } as const;
export type DmaAccess = (typeof DmaAccess)[keyof typeof DmaAccess];

export interface DmaFault {
  /** First address of the access, as the device put it on the bus. */
  readonly iova: number;
  readonly lengthBytes: number;
  readonly access: DmaAccess;
  readonly status: DmaStatus;
}

const FAULTS_MAX_DEFAULT = 64;

/**
 * Works like the fault recording registers of an IOMMU (VT-d 7.2): records until it is full, then only notes that it
 * overflowed, until it is cleared. A guest that makes the device fault all day costs a counter.
 */
export class FaultLog {
  readonly #faults: DmaFault[] = [];
  readonly #capacity: number;
  #total = 0;

  constructor(capacity = FAULTS_MAX_DEFAULT) {
    this.#capacity = capacity;
  }

  record(iova: number, lengthBytes: number, access: DmaAccess, status: DmaStatus): void {
    this.#total++;
    if (this.#faults.length < this.#capacity) this.#faults.push({ iova, lengthBytes, access, status });
  }

  /** The first faults since the log was cleared. */
  get recorded(): readonly DmaFault[] {
    return this.#faults;
  }

  /** All faults since the log was cleared, recorded or not. */
  get total(): number {
    return this.#total;
  }

  clear(): void {
    this.#faults.length = 0;
    this.#total = 0;
  }
}
