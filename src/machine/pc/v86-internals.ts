// What we rely on inside npm v86: the narrow interface, none of it public, and the check that it is all there.
import { OperationError } from "../../base/errors.ts";
import { cpuFields } from "./cpu-fields.ts";
import type { WasmExports, WasmMemory } from "./web-assembly.ts";

/*
 * The names were read in the package's build/libv86-debug.mjs; the release build keeps the names of properties. Their
 * meaning is pinned by the exact version in package.json, their presence is checked at start (`checkedInternals`).
 */

/** Typed array over wasm memory that survives its growth: a slow proxy, for scalars only. */
export interface V86View {
  [index: number]: number;
  readonly byteOffset: number;
  readonly length: number;
  readonly BYTES_PER_ELEMENT: number;
}

/** A device whose state is a tree of numbers and typed arrays. Both functions hand out and keep live references. */
export interface V86Device {
  get_state(): unknown;
  set_state(state: unknown): void;
}

export interface V86Pci extends V86Device {
  /** Last value of port 0xCF8: register, device and function, bus, enable bit 7. */
  readonly pci_addr: Uint8Array;
  readonly pci_status32: Int32Array;
  /** What the configuration data port reads. */
  readonly pci_response32: Int32Array;
  readonly device_spaces: readonly (Int32Array | undefined)[];
  readonly devices: readonly ({ readonly pci_bars: readonly (object | undefined)[] } | undefined)[];
  register_device(device: { pci_id: number; pci_space: number[]; pci_bars: object[]; name: string }): void;
  /** Replaceable on the instance: a configuration read through the address in pci_addr. */
  pci_query(): void;
  /** Replaceable: a configuration write; `address` is bus, device and function in bits 23:8, register in 7:0. */
  pci_write8(address: number, value: number): void;
  pci_write16(address: number, value: number): void;
  pci_write32(address: number, value: number): void;
}

export interface V86Acpi extends V86Device {
  /** General-purpose event registers: status 0 and 1, enable 2 and 3. */
  readonly gpe: Uint8Array;
  last_timer: number;
  /** Replaceable: the power management timer's count for a time in ms. */
  get_timer(nowMs: number): number;
}

export interface V86Pit extends V86Device {
  counter_start_time: Float64Array;
  /** Replaceable; all three take times in ms. */
  get_counter_value(counter: number, nowMs: number): number;
  did_rollover(counter: number, nowMs: number): boolean;
  counter_write(counter: number, value: number): void;
}

export interface V86Rtc extends V86Device {
  cmos_index: number;
  cmos_data: Uint8Array;
  cmos_a: number;
  cmos_b: number;
  cmos_c: number;
  /** The date registers show this time, in ms since 1970. */
  rtc_time: number;
  last_update: number;
  periodic_interrupt: boolean;
  periodic_interrupt_time: number;
  next_interrupt: number;
  next_interrupt_alarm: number;
  update_interrupt: boolean;
  update_interrupt_time: number;
  /** Replaceable: raises what is due and returns the ms until the next. */
  timer(nowMs: number): number;
  decode_time(register: number): number;
  cmos_port_read(): number;
  cmos_port_write(value: number): void;
}

export interface V86Uart extends V86Device {
  /** Bytes that the guest has not read yet; not part of get_state. */
  input: number[];
}

/** All replaceable: they draw. */
export interface V86Vga extends V86Device {
  complete_redraw(): void;
  complete_replot(): void;
  set_font_bitmap(): void;
  set_size_graphical(): void;
  set_size_text(): void;
  text_mode_redraw(): void;
  update_layers(): void;
  update_vga_size(): void;
}

export interface V86Devices {
  readonly pci: V86Pci;
  readonly acpi: V86Acpi;
  readonly rtc: V86Rtc;
  readonly pit: V86Pit;
  readonly uart0: V86Uart;
  readonly vga: V86Vga;
  readonly dma: V86Device;
  readonly ps2: V86Device;
  readonly vmware: V86Device;
  readonly parallel0: V86Device;
  readonly fdc: V86Device;
  readonly ide: V86Device;
  readonly sb16: V86Device;
}

type PortRead = (port: number) => number;
type PortWrite = (value: number) => void;
type MmioRead = (address: number) => number;
type MmioWrite = (address: number, value: number) => void;

export interface V86Io {
  /** Handlers are called with `device` as this. */
  register_read(port: number, device: object, read8?: PortRead, read16?: PortRead, read32?: PortRead): void;
  register_write(port: number, device: object, write8?: PortWrite, write16?: PortWrite, write32?: PortWrite): void;
  /** In blocks of 128 KiB. Addresses arrive as signed 32-bit integers. */
  mmap_register(
    address: number,
    sizeBytes: number,
    read8: MmioRead,
    write8: MmioWrite,
    read32?: MmioRead,
    write32?: MmioWrite,
  ): void;
}

export interface V86Cpu {
  readonly wasm_memory: WasmMemory;
  readonly memory_size: V86View;
  readonly mem8: V86View;
  readonly wm: { readonly exports: WasmExports };
  readonly io: V86Io;
  readonly devices: V86Devices;
  readonly instruction_counter: V86View;
  readonly in_hlt: V86View;
  readonly current_tsc: V86View;
  /** The firmware configuration item that was selected last, and how far it was read. */
  fw_value: ArrayLike<number>;
  fw_pointer: number;
  /** Replaceable: runs the guest for about a millisecond; returns how many ms may pass until the next call. */
  main_loop(): number;
  /** Takes a pending interrupt now, if the guest accepts one: pushes a frame on its stack. Wakes from HLT. */
  handle_irqs(): void;
  device_raise_irq(irq: number): void;
  full_clear_tlb(): void;
  /** Drops translated code of [start, end). */
  jit_dirty_cache(start: number, end: number): void;
  jit_clear_cache(): void;
  update_state_flags(): void;
  set_tsc(low: number, high: number): void;
  /** Puts the time stamp counter into current_tsc. */
  store_current_tsc(): void;
  zero_memory(start: number, length: number): void;
  get_apic_addr(): number;
  get_ioapic_addr(): number;
  get_pic_addr_master(): number;
  get_pic_addr_slave(): number;
}

export interface V86Core {
  running: boolean;
  /** A scheduled tick that carries another number is void. */
  tick_counter: number;
  readonly cpu: V86Cpu;
  run(): void;
  /** Replaceable: calls yield_callback(tick) after `ms`. */
  yield(ms: number, tick: number): void;
  /** Frees what `yield` needs. */
  destroy(): void;
}

export interface V86Emulator {
  readonly v86: V86Core;
  readonly bus: { send(event: string, value?: unknown): void };
  add_listener(event: string, listener: (value: number) => void): void;
}

/** Exported functions of the wasm that v86's own JavaScript does not use. */
export interface V86Exports {
  v86_malloc(sizeBytes: number): number;
  /** Sets the FPU control word and the rounding that follows from it. */
  set_control_word(value: number): void;
}

const words = (text: string): string[] => text.split(/\s+/);
const deviceFunctions = "get_state set_state";

/** Object path, and the functions and other properties that must be there. */
const required: readonly (readonly [path: string, functions: string, others: string])[] = [
  ["bus", "send", ""],
  ["v86", "run yield destroy", "running tick_counter"],
  [
    "v86.cpu",
    `main_loop handle_irqs device_raise_irq full_clear_tlb jit_dirty_cache jit_clear_cache update_state_flags set_tsc
     store_current_tsc zero_memory get_apic_addr get_ioapic_addr get_pic_addr_master get_pic_addr_slave`,
    "wasm_memory memory_size mem8 instruction_counter in_hlt current_tsc fw_value fw_pointer",
  ],
  ["v86.cpu.wm.exports", "v86_malloc set_control_word", ""],
  ["v86.cpu.io", "register_read register_write mmap_register", ""],
  [
    "v86.cpu.devices.pci",
    `${deviceFunctions} register_device pci_query pci_write8 pci_write16 pci_write32`,
    "pci_addr pci_status32 pci_response32 device_spaces devices",
  ],
  ["v86.cpu.devices.acpi", `${deviceFunctions} get_timer`, "gpe last_timer"],
  ["v86.cpu.devices.pit", `${deviceFunctions} get_counter_value did_rollover counter_write`, "counter_start_time"],
  [
    "v86.cpu.devices.rtc",
    `${deviceFunctions} timer decode_time cmos_port_read cmos_port_write`,
    `cmos_index cmos_data cmos_a cmos_b cmos_c rtc_time last_update periodic_interrupt periodic_interrupt_time
     next_interrupt next_interrupt_alarm update_interrupt update_interrupt_time`,
  ],
  ["v86.cpu.devices.uart0", deviceFunctions, "input"],
  [
    "v86.cpu.devices.vga",
    `${deviceFunctions} complete_redraw complete_replot set_font_bitmap set_size_graphical set_size_text
     text_mode_redraw update_layers update_vga_size`,
    "pixel_buffer",
  ],
  ...words("dma ps2 vmware parallel0 fdc ide sb16").map(
    (name) => [`v86.cpu.devices.${name}`, deviceFunctions, ""] as const,
  ),
];

function propertyOf(value: unknown, name: string): unknown {
  return (typeof value === "object" && value !== null) || typeof value === "function"
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

/** Names that are missing or moved, for the error; empty when all is as expected. */
export function missingInternals(emulator: unknown): string[] {
  const missing: string[] = [];
  for (const [path, functions, others] of required) {
    const owner = path.split(".").reduce(propertyOf, emulator);
    const isFunction = (name: string): boolean => typeof propertyOf(owner, name) === "function";
    const isPresent = (name: string): boolean => propertyOf(owner, name) !== undefined;
    missing.push(
      ...words(functions)
        .filter((name) => !isFunction(name))
        .map((name) => `${path}.${name}()`),
    );
    if (others !== "")
      missing.push(
        ...words(others)
          .filter((name) => !isPresent(name))
          .map((name) => `${path}.${name}`),
      );
  }
  const cpu = propertyOf(propertyOf(emulator, "v86"), "cpu");
  for (const { address, sizeBytes, view } of cpuFields) {
    if (view === undefined) continue;
    const found = propertyOf(cpu, view);
    const bytes = Number(propertyOf(found, "length")) * Number(propertyOf(found, "BYTES_PER_ELEMENT"));
    if (propertyOf(found, "byteOffset") !== address || bytes > sizeBytes) missing.push(`v86.cpu.${view} at ${address}`);
  }
  return missing;
}

/** The same object, typed. Throws OperationError `emulator-unsupported` when anything we rely on is not there. */
export function checkedInternals(emulator: unknown): V86Emulator {
  const missing = missingInternals(emulator);
  if (missing.length === 0) return emulator as V86Emulator;
  throw new OperationError({
    code: "emulator-unsupported",
    message: `this build of v86 lacks ${missing.length} of the internals in use: ${missing.slice(0, 5).join(", ")}`,
    advice: "install the exact version of v86 that package.json names",
    facts: { missing: missing.join(" ") },
  });
}
