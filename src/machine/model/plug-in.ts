// What firmware and PCI core do for a function before its driver comes: BARs, decoding, bus mastering, MSI-X.
import { assert } from "../../base/assert.ts";
import type { PciFunction } from "../../pci/function.ts";

/** Messages of the model machine go here; the data is the vector's number. */
export const MESSAGE_ADDRESS = 0xfee0_0000;
const WINDOW_START = 0xf000_0000;

const COMMAND_OFFSET = 0x04;
const COMMAND_MEMORY_AND_BUS_MASTER = 0x0006;
const BARS_OFFSET = 0x10;
const CAPABILITIES_OFFSET = 0x34;
const CAPABILITY_MSIX = 0x11;
const MSIX_ENABLE = 0x8000;
const ENTRY_BYTES = 16;

export function plugIn(pciFunction: PciFunction): void {
  let address = WINDOW_START;
  for (const { index, sizeBytes } of pciFunction.bars) {
    address = Math.ceil(address / sizeBytes) * sizeBytes;
    pciFunction.writeConfiguration(BARS_OFFSET + 4 * index, 4, address);
    address += sizeBytes;
  }
  pciFunction.writeConfiguration(COMMAND_OFFSET, 2, COMMAND_MEMORY_AND_BUS_MASTER);
  enableMsix(pciFunction);
}

function enableMsix(pciFunction: PciFunction): void {
  const capability = findMsix(pciFunction);
  const control = pciFunction.readConfiguration(capability + 2, 2);
  const table = pciFunction.readConfiguration(capability + 4, 4);
  const bar = table & 7;
  const offset = table - bar;
  for (let vector = 0; vector <= (control & 0x7ff); vector++) {
    pciFunction.writeBar(bar, offset + ENTRY_BYTES * vector, 4, MESSAGE_ADDRESS);
    pciFunction.writeBar(bar, offset + ENTRY_BYTES * vector + 4, 4, 0);
    pciFunction.writeBar(bar, offset + ENTRY_BYTES * vector + 8, 4, vector);
    pciFunction.writeBar(bar, offset + ENTRY_BYTES * vector + 12, 4, 0);
  }
  pciFunction.writeConfiguration(capability + 2, 2, control | MSIX_ENABLE);
}

function findMsix(pciFunction: PciFunction): number {
  let offset = pciFunction.readConfiguration(CAPABILITIES_OFFSET, 1);
  while (offset !== 0 && pciFunction.readConfiguration(offset, 1) !== CAPABILITY_MSIX) {
    offset = pciFunction.readConfiguration(offset + 1, 1);
  }
  assert(offset !== 0, "the function has no MSI-X");
  return offset;
}
