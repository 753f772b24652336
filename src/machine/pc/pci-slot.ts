// The embedded PC's PCI slot: configuration accesses and memory BARs of one PciFunction, routed into v86.
import { assert } from "../../base/assert.ts";
import type { AccessBytes, PciFunction } from "../../pci/function.ts";
import type { V86Cpu } from "./v86-internals.ts";

/*
 * v86 has no plug-in interface for PCI devices with memory BARs: its own keep their configuration in plain words which
 * any write changes, and ignore a BAR that moves. So a placeholder is registered, which makes the slot exist, and the
 * four functions through which the guest reaches configuration space are replaced by ones that know this slot.
 *
 * Memory-mapped handlers are registered per block of 128 KiB, and a BAR of 16 KiB shares its block with whatever the
 * firmware put beside it. One pair of handlers serves all blocks that BARs of this function lie in, and answers for the
 * gaps as empty address space does.
 */

/** Device number in bits 7:3, function in 2:0: 00:05.0, which v86 itself leaves free. */
const deviceAndFunction = 5 << 3;
const blockBytes = 1 << 17;

/** BARs are only mapped between the end of RAM and the I/O APIC, and not over what v86 has there itself. */
const windowEnd = 0xfec0_0000;
const reserved = [
  // The linear frame buffer, which is decoded before any handler.
  { start: 0xe000_0000, end: 0xe100_0000 },
  // The VGA BIOS, at an address that v86 does not move.
  { start: 0xfeb0_0000, end: 0xfeb2_0000 },
] as const;

interface MappedBar {
  readonly bar: number;
  readonly start: number;
  readonly end: number;
}

export class PciSlot {
  readonly #cpu: V86Cpu;
  readonly #memoryBytes: number;
  #function: PciFunction | undefined;
  #mapped: readonly MappedBar[] = [];
  readonly #blocks = new Set<number>();

  constructor(cpu: V86Cpu, memoryBytes: number) {
    this.#cpu = cpu;
    this.#memoryBytes = memoryBytes;
    this.#routeConfiguration();
  }

  plug(pciFunction: PciFunction): void {
    assert(this.#function === undefined, "the slot is taken");
    const placeholder = { pci_id: deviceAndFunction, pci_space: Array<number>(64).fill(0), pci_bars: [], name: "slot" };
    this.#cpu.devices.pci.register_device(placeholder);
    this.#function = pciFunction;
    pciFunction.onBarsChanged = () => this.#mapBars();
    this.#mapBars();
  }

  #routeConfiguration(): void {
    const { pci } = this.#cpu.devices;
    const query = pci.pci_query.bind(pci);
    pci.pci_query = () => {
      const [register = 0, deviceFunction = 0, bus = 0] = pci.pci_addr;
      const owner = bus === 0 && deviceFunction === deviceAndFunction ? this.#function : undefined;
      if (owner === undefined) return query();
      pci.pci_status32[0] = 0x8000_0000;
      pci.pci_response32[0] = owner.readConfiguration(register & 0xfc, 4);
    };
    pci.pci_write8 = this.#configurationWrite(pci.pci_write8.bind(pci), 1);
    pci.pci_write16 = this.#configurationWrite(pci.pci_write16.bind(pci), 2);
    pci.pci_write32 = this.#configurationWrite(pci.pci_write32.bind(pci), 4);
  }

  #configurationWrite(others: (address: number, value: number) => void, bytes: AccessBytes) {
    const { pci } = this.#cpu.devices;
    return (address: number, value: number): void => {
      const target = (address >>> 8) & 0xffff;
      if (target === deviceAndFunction && this.#function !== undefined) {
        this.#function.writeConfiguration(address & 0xff, bytes, value >>> 0);
        // v86 reads the data port from what the last query left there.
        pci.pci_query();
      } else if (pci.device_spaces[target] !== undefined) {
        // A write to a slot with nothing in it is the guest's mistake; v86 would throw.
        others(address, value);
      }
    };
  }

  #mapBars(): void {
    const owner = this.#function;
    if (owner === undefined) return;
    this.#mapped = owner.bars
      .map(({ index, sizeBytes }) => {
        const start = owner.barAddress(index);
        return { bar: index, start, end: start + sizeBytes };
      })
      .filter((range) => this.#isMappable(range));
    for (const { start, end } of this.#mapped) {
      for (let block = Math.floor(start / blockBytes); block * blockBytes < end; block++) this.#takeBlock(block);
    }
  }

  #isMappable({ start, end }: MappedBar): boolean {
    const isReserved = reserved.some((range) => start < range.end && end > range.start);
    return start >= this.#memoryBytes && end <= windowEnd && !isReserved;
  }

  /** Blocks once taken stay: with no BAR in them they answer as empty address space does, like v86's own default. */
  #takeBlock(block: number): void {
    if (this.#blocks.has(block)) return;
    this.#blocks.add(block);
    this.#cpu.io.mmap_register(
      block * blockBytes,
      blockBytes,
      (address) => this.#read(address, 1),
      (address, value) => this.#write(address, 1, value & 0xff),
      (address) => this.#read(address, 4) | 0,
      (address, value) => this.#write(address, 4, value >>> 0),
    );
  }

  #read(signedAddress: number, bytes: AccessBytes): number {
    const address = signedAddress >>> 0;
    for (const { bar, start, end } of this.#mapped) {
      if (address >= start && address < end) return this.#function?.readBar(bar, address - start, bytes) ?? 0;
    }
    return bytes === 1 ? 0xff : 0xffff_ffff;
  }

  #write(signedAddress: number, bytes: AccessBytes, value: number): void {
    const address = signedAddress >>> 0;
    for (const { bar, start, end } of this.#mapped) {
      if (address >= start && address < end) return this.#function?.writeBar(bar, address - start, bytes, value);
    }
  }
}
