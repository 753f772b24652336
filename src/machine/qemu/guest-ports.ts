// PCI configuration space through the ports of a PC (0xcf8 and 0xcfc), for a VM that has not begun to run.
import type { HumanMonitor, PortBytes } from "./hmp.ts";

export interface PciAddress {
  readonly bus: number;
  readonly slot: number;
  readonly function: number;
}

const ADDRESS_PORT = 0xcf8;
const DATA_PORT = 0xcfc;

/**
 * Writes a register by configuration mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2). It leaves its mark on the address
 * port, which a guest may be in the middle of using: for a VM that waits for its state, which overwrites the port.
 */
export async function writeConfigurationByPorts(
  monitor: HumanMonitor,
  address: PciAddress,
  register: { readonly offset: number; readonly bytes: PortBytes; readonly value: number },
): Promise<void> {
  const { offset, bytes, value } = register;
  const selected = 0x8000_0000 + (address.bus << 16) + (address.slot << 11) + (address.function << 8) + (offset & 0xfc);
  await Promise.all([
    monitor.writePort(ADDRESS_PORT, 4, selected),
    monitor.writePort(DATA_PORT + (offset & 3), bytes, value),
  ]);
}
