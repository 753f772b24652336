// Where a function's MSI-X table is, read from its capability as a driver would.
import { AssertionError } from "../../../base/assert.ts";
import { ConfigurationOffset } from "../../../pci/configuration-space.ts";
import type { PciFunction } from "../../../pci/function.ts";

const CAPABILITY_MSIX = 0x11;
/** The list cannot be longer: each entry takes 4 of 256 bytes. */
const CAPABILITIES_MAX = 48;
export const MSIX_ENTRY_BYTES = 16;

/** The table of the MSI-X capability (PCI Local Bus 3.0, section 6.8.2). */
export class MsixLocation {
  readonly vectors: number;
  readonly bar: number;
  readonly tableOffset: number;
  readonly #capability: number;

  constructor(pci: PciFunction) {
    const capability = findCapability(pci);
    this.#capability = capability;
    const table = pci.readConfiguration(capability + 4, 4);
    this.vectors = (pci.readConfiguration(capability + 2, 2) & 0x7ff) + 1;
    this.bar = table & 7;
    this.tableOffset = table & ~7;
  }

  /** Message Control now: enable and function mask, and the table's size. */
  control(pci: PciFunction): number {
    return pci.readConfiguration(this.#capability + 2, 2);
  }

  /** Whether this offset of this BAR is in the table. */
  holds(bar: number, offset: number): boolean {
    const inTable = offset - this.tableOffset;
    return bar === this.bar && inTable >= 0 && inTable < this.vectors * MSIX_ENTRY_BYTES;
  }
}

function findCapability(pci: PciFunction): number {
  let offset = pci.readConfiguration(ConfigurationOffset.capabilities, 1);
  for (let i = 0; offset !== 0 && i < CAPABILITIES_MAX; i++) {
    if (pci.readConfiguration(offset, 1) === CAPABILITY_MSIX) return offset;
    offset = pci.readConfiguration(offset + 1, 1);
  }
  throw new AssertionError("a served function has MSI-X");
}
