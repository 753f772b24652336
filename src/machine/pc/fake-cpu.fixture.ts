// For tests: as much of v86's CPU object as a unit looks at, without a guest.
import type { V86Cpu } from "./v86-internals.ts";

type PortRead = (port: number) => number;
type PortWrite = (value: number) => void;
type MmioRead = (address: number) => number;
type MmioWrite = (address: number, value: number) => void;

export class FakeCpu {
  readonly reads = new Map<number, PortRead>();
  readonly writes = new Map<number, PortWrite>();
  readonly blocks = new Map<number, { read8: MmioRead; write8: MmioWrite; read32: MmioRead; write32: MmioWrite }>();
  readonly raised: number[] = [];
  interruptsTaken = 0;
  readonly wasm_memory = { buffer: new ArrayBuffer(4096) };
  /** What v86's own slots answer. */
  readonly pci = {
    pci_addr: new Uint8Array(4),
    pci_status32: new Int32Array(1),
    pci_response32: new Int32Array(1),
    device_spaces: [new Int32Array(64)] as (Int32Array | undefined)[],
    devices: [],
    registered: [] as { pci_id: number }[],
    written: [] as [address: number, value: number][],
    register_device(device: { pci_id: number }): void {
      this.registered.push(device);
    },
    pci_query(): void {
      this.pci_status32[0] = 0;
      this.pci_response32[0] = -1;
    },
    pci_write8(address: number, value: number): void {
      this.written.push([address, value]);
    },
    pci_write16(address: number, value: number): void {
      this.written.push([address, value]);
    },
    pci_write32(address: number, value: number): void {
      this.written.push([address, value]);
    },
  };
  readonly acpi = { gpe: new Uint8Array(4), last_timer: 0, get_timer: (): number => 0 };
  readonly pit = {
    counter_start_time: new Float64Array(3),
    get_counter_value: (_counter: number, nowMs: number): number => nowMs,
    did_rollover: (_counter: number, nowMs: number): boolean => nowMs > 100,
    /** Like v86's: the second byte starts the counter, at a time of another clock. */
    counter_write(counter: number, value: number): void {
      if (value !== 0) this.counter_start_time[counter] = 123_456_789;
    },
  };
  readonly rtc = {
    cmos_index: 0,
    cmos_data: new Uint8Array(128),
    cmos_a: 0x26,
    cmos_b: 0,
    cmos_c: 0,
    rtc_time: 0,
    last_update: 0,
    periodic_interrupt: false,
    periodic_interrupt_time: 1,
    next_interrupt: 0,
    next_interrupt_alarm: 0,
    update_interrupt: false,
    update_interrupt_time: 0,
    timer: (): number => 0,
    decode_time: (register: number): number => register,
    cmos_port_read: (): number => 0x55,
    cmos_port_write(value: number): void {
      if (this.cmos_index !== 0x0b) return;
      this.cmos_b = value;
      this.periodic_interrupt = (value & 0x40) !== 0;
      this.update_interrupt = (value & 0x10) !== 0;
    },
  };
  readonly devices = { pci: this.pci, acpi: this.acpi, pit: this.pit, rtc: this.rtc };
  readonly io = {
    register_read: (port: number, device: object, read8?: PortRead): void => {
      if (read8 !== undefined) this.reads.set(port, read8.bind(device));
    },
    register_write: (port: number, device: object, write8?: PortWrite): void => {
      if (write8 !== undefined) this.writes.set(port, write8.bind(device));
    },
    mmap_register: (
      address: number,
      sizeBytes: number,
      read8: MmioRead,
      write8: MmioWrite,
      read32: MmioRead = read8,
      write32: MmioWrite = write8,
    ): void => {
      for (let block = address; block < address + sizeBytes; block += 1 << 17) {
        this.blocks.set(block, { read8, write8, read32, write32 });
      }
    },
  };

  handle_irqs(): void {
    this.interruptsTaken++;
  }

  device_raise_irq(irq: number): void {
    this.raised.push(irq);
  }

  get_apic_addr(): number {
    return 512;
  }

  get asCpu(): V86Cpu {
    return this as unknown as V86Cpu;
  }
}
