import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccessBytes, PciFunction } from "../../pci/function.ts";
import { FakeCpu } from "./fake-cpu.fixture.ts";
import { PciSlot } from "./pci-slot.ts";

const memoryBytes = 128 << 20;
const slot = 5 << 3;

class FakeFunction implements PciFunction {
  readonly bars = [
    { index: 0, sizeBytes: 0x4000, is64Bit: true },
    { index: 3, sizeBytes: 0x4000, is64Bit: true },
  ];
  readonly addresses = new Map<number, number>();
  readonly log: string[] = [];
  onBarsChanged: () => void = () => {};

  readConfiguration(offset: number): number {
    return 0x8086_0000 + offset;
  }

  writeConfiguration(offset: number, bytes: AccessBytes, value: number): void {
    this.log.push(`configuration ${offset} ${bytes} ${value}`);
  }

  readBar(bar: number, offset: number, bytes: AccessBytes): number {
    this.log.push(`read ${bar} ${offset} ${bytes}`);
    return bytes === 4 ? 0xdead_beef : 0xef;
  }

  writeBar(bar: number, offset: number, bytes: AccessBytes, value: number): void {
    this.log.push(`write ${bar} ${offset} ${bytes} ${value}`);
  }

  barAddress(bar: number): number {
    return this.addresses.get(bar) ?? -1;
  }

  place(bar: number, address: number): void {
    this.addresses.set(bar, address);
    this.onBarsChanged();
  }
}

function plugged(): { cpu: FakeCpu; device: FakeFunction } {
  const cpu = new FakeCpu();
  const device = new FakeFunction();
  new PciSlot(cpu.asCpu, memoryBytes).plug(device);
  return { cpu, device };
}

const select = (cpu: FakeCpu, deviceFunction: number, register: number): void => {
  cpu.pci.pci_addr.set([register, deviceFunction, 0, 0x80]);
  cpu.pci.pci_query();
};

test("configuration reads of the slot come from the function, all others from v86", () => {
  const { cpu } = plugged();
  assert.equal(cpu.pci.registered[0]?.pci_id, slot);
  select(cpu, slot, 0x10);
  assert.equal(cpu.pci.pci_response32[0], 0x8086_0010 | 0);
  assert.equal(cpu.pci.pci_status32[0], 0x8000_0000 | 0);
  select(cpu, slot + 8, 0x10);
  assert.equal(cpu.pci.pci_response32[0], -1);
  cpu.pci.pci_addr[2] = 1;
  cpu.pci.pci_addr[1] = slot;
  cpu.pci.pci_query();
  assert.equal(cpu.pci.pci_response32[0], -1);
});

test("configuration writes of the slot reach the function with their width, and unsigned", () => {
  const { cpu, device } = plugged();
  const address = (register: number): number => 0x8000_0000 | (slot << 8) | register | 0;
  cpu.pci.pci_write32(address(0x10), -1);
  cpu.pci.pci_write16(address(0x04), 6);
  cpu.pci.pci_write8(address(0x3c), 11);
  assert.deepEqual(device.log, ["configuration 16 4 4294967295", "configuration 4 2 6", "configuration 60 1 11"]);
  assert.deepEqual(cpu.pci.written, []);
});

test("a write to a slot with nothing in it is dropped, where v86 would throw", () => {
  const { cpu } = plugged();
  const address = (deviceFunction: number): number => 0x8000_0000 | (deviceFunction << 8);
  cpu.pci.pci_write8(address(9 << 3), 1);
  cpu.pci.pci_write32(address(0), 7);
  assert.deepEqual(cpu.pci.written, [[address(0), 7]]);
});

test("two BARs in one block of 128 KiB each answer at their place, and the gaps as empty space", () => {
  const { cpu, device } = plugged();
  device.place(0, 0xfebf_0000);
  device.place(3, 0xfebf_4000);
  assert.deepEqual([...cpu.blocks.keys()], [0xfebe_0000]);
  const block = cpu.blocks.get(0xfebe_0000);
  assert.ok(block !== undefined);
  assert.equal(block.read32(0xfebf_0008 | 0), 0xdead_beef | 0);
  assert.equal(block.read8(0xfebf_7fff | 0), 0xef);
  block.write32(0xfebf_4010 | 0, -2);
  block.write8(0xfebf_0001 | 0, 0x80);
  assert.equal(block.read32(0xfebf_8000 | 0), -1);
  assert.equal(block.read8(0xfebe_ffff | 0), 0xff);
  block.write32(0xfebf_8000 | 0, 1);
  assert.deepEqual(device.log, ["read 0 8 4", "read 3 16383 1", "write 3 16 4 4294967294", "write 0 1 1 128"]);
});

test("a BAR that moves away answers at its new place only", () => {
  const { cpu, device } = plugged();
  device.place(0, 0xfebf_0000);
  device.place(0, 0xf000_0000);
  assert.equal(cpu.blocks.get(0xfebe_0000)?.read32(0xfebf_0000 | 0), -1);
  assert.equal(cpu.blocks.get(0xf000_0000)?.read32(0xf000_0000 | 0), 0xdead_beef | 0);
  device.place(0, -1);
  assert.equal(cpu.blocks.get(0xf000_0000)?.read32(0xf000_0000 | 0), -1);
});

test("a BAR over RAM, the frame buffer, the VGA BIOS, interrupt controllers or beyond 4 GiB is not mapped", () => {
  const { cpu, device } = plugged();
  for (const address of [0x10_0000, 0xe000_4000, 0xfeb1_0000, 0xfec0_0000, 0xffff_c000, 0x1_0000_0000, 2 ** 52]) {
    device.place(0, address);
  }
  assert.equal(cpu.blocks.size, 0);
});
