// The embedded PC's saved state, without RAM: what is in it, how it is taken, checked and loaded.
import { assert } from "../../base/assert.ts";
import type { MachineClock } from "./clock.ts";
import { cpuFieldsBytes, fpuControlWordAddress, readCpuFields, writeCpuFields } from "./cpu-fields.ts";
import { conform, decodeTree, encodeTree, isStateArray, stateInvalid, type StateTree } from "./state-tree.ts";
import { timersRestored } from "./timers.ts";
import type { V86Cpu, V86Device, V86Exports } from "./v86-internals.ts";

/*
 * v86's own save_state takes 100 ms and 39 MB for a guest of 128 MiB, of which 2 MB are not RAM; and it is not quite
 * complete (cpu-fields.ts). So the state is taken here: the registers by their table, the interrupt controllers as the
 * structures they are in wasm memory, the devices by their own get_state, the time by the machine's clock.
 *
 * Left out: RAM and the VF, which others carry; whatever is derived (translated code, TLB, pixels); and v86's cached
 * translation of the instruction pointer.
 *
 * A container holds it:
 *
 *   0   8 bytes  magic "UwayPcSt"
 *   8   u32      version, 1
 *   12  u32      bytes of the payload
 *   16  u32      xxHash32 of the payload
 *   20           payload: a tree (state-tree.ts), the list of `StateParts` in order
 *
 * A state that was tampered with beyond what the checks see can only hurt the guest it describes: registers and
 * interrupt controllers are bytes within wasm memory, which the wasm cannot leave.
 */

/** What the layout of wasm memory and the shape of the device trees belong to. */
const emulatorIdentity = "v86 0.5.462";
const magic = "UwayPcSt";
export const machineStateVersion = 1;
const headerBytes = 20;
/** No honest state is larger. */
const machineStateBytesMax = 4 << 20;
const arrayBytesMax = 4 << 20;

// Sizes of the structures that v86's own get_state takes (src/cpu.js).
const apicBytes = 46 * 4;
const ioApicBytes = 52 * 4;
const picBytes = 13;
/** Byte 5 of a PIC's structure is not state. */
const picHole = 5;
const firmwareItemBytesMax = 1 << 16;
const serialInputBytesMax = 1 << 20;
const numberMax = 1e15;

/** Index of the rendered picture in the VGA's state list, which it draws anew. */
const vgaPixels = 61;

// oxfmt-ignore
const deviceNames = [
  "pci", "acpi", "rtc", "pit", "dma", "vga", "ps2", "vmware", "uart0", "parallel0", "fdc", "ide", "sb16",
] as const;
type DeviceName = (typeof deviceNames)[number];

/** 32-bit hash of bytes, such as xxHash32. */
export type Hash32 = (bytes: Uint8Array) => number;

export interface StateContext {
  readonly cpu: V86Cpu;
  readonly clock: MachineClock;
  readonly hash: Hash32;
}

/** Bytes on their way to the guest's serial port are state, too; v86 keeps some of them, the console others. */
export interface SerialInput {
  pendingInput(): Uint8Array;
  restoreInput(bytes: Uint8Array): void;
}

interface StateParts {
  readonly identity: string;
  readonly memoryBytes: number;
  readonly clockMs: number;
  /** Time stamp counter, low and high half. */
  readonly timeStamp: Uint32Array;
  readonly cpu: Uint8Array;
  readonly apic: Uint8Array;
  readonly ioApic: Uint8Array;
  readonly picMaster: Uint8Array;
  readonly picSlave: Uint8Array;
  /** The selected firmware configuration item, and how far it was read. */
  readonly firmwareItem: Uint8Array;
  readonly firmwarePointer: number;
  readonly serialInput: Uint8Array;
  /** Name and tree of each device. */
  readonly devices: readonly (readonly [name: DeviceName, tree: StateTree])[];
}

/** The state of a machine that stands still. */
export function saveMachineState({ cpu, clock, hash }: StateContext, serial: SerialInput): Uint8Array<ArrayBuffer> {
  cpu.store_current_tsc();
  const parts: StateParts = {
    identity: emulatorIdentity,
    memoryBytes: cpu.memory_size[0] ?? 0,
    clockMs: clock.lastMs,
    timeStamp: Uint32Array.of(cpu.current_tsc[0] ?? 0, cpu.current_tsc[1] ?? 0),
    cpu: readCpuFields(new Uint8Array(cpu.wasm_memory.buffer)),
    apic: structure(cpu, cpu.get_apic_addr(), apicBytes),
    ioApic: structure(cpu, cpu.get_ioapic_addr(), ioApicBytes),
    picMaster: structure(cpu, cpu.get_pic_addr_master(), picBytes),
    picSlave: structure(cpu, cpu.get_pic_addr_slave(), picBytes),
    firmwareItem: Uint8Array.from(cpu.fw_value),
    firmwarePointer: cpu.fw_pointer,
    serialInput: serial.pendingInput(),
    devices: deviceTrees(cpu),
  };
  const payload = encodeTree(treeOfParts(parts));
  const bytes = new Uint8Array(headerBytes + payload.length);
  assert(bytes.length <= machineStateBytesMax, `the machine's state has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic));
  view.setUint32(8, machineStateVersion, true);
  view.setUint32(12, payload.length, true);
  view.setUint32(16, hash(payload), true);
  bytes.set(payload, headerBytes);
  return bytes;
}

/**
 * Loads a state into a machine that stands still. Throws OperationError `machine-state-invalid`, nearly always before
 * anything has changed; but a machine that refused a state is good for nothing but another try, or the end.
 */
export function restoreMachineState(context: StateContext, serial: SerialInput, bytes: Uint8Array): void {
  const { cpu, clock } = context;
  const parts = checkedParts(context, openContainer(bytes, context.hash));
  try {
    for (const [name, tree] of parts.devices) cpu.devices[name].set_state(tree);
  } catch (error) {
    throw stateInvalid(`a device refused it (${String(error)})`);
  }
  clock.restore(parts.clockMs);
  writeCpuFields(new Uint8Array(cpu.wasm_memory.buffer), parts.cpu);
  const exports = cpu.wm.exports as unknown as V86Exports;
  exports.set_control_word(new DataView(cpu.wasm_memory.buffer).getUint16(fpuControlWordAddress, true));
  structure(cpu, cpu.get_apic_addr(), apicBytes).set(parts.apic);
  structure(cpu, cpu.get_ioapic_addr(), ioApicBytes).set(parts.ioApic);
  restorePic(structure(cpu, cpu.get_pic_addr_master(), picBytes), parts.picMaster);
  restorePic(structure(cpu, cpu.get_pic_addr_slave(), picBytes), parts.picSlave);
  cpu.fw_value = parts.firmwareItem;
  cpu.fw_pointer = parts.firmwarePointer;
  restoreTimeStamp(cpu, clock, parts.timeStamp);
  timersRestored(cpu);
  serial.restoreInput(parts.serialInput);
  cpu.update_state_flags();
  cpu.full_clear_tlb();
  cpu.jit_clear_cache();
}

function openContainer(bytes: Uint8Array, hash: Hash32): Uint8Array {
  if (bytes.length < headerBytes || bytes.length > machineStateBytesMax) throw stateInvalid("its length is wrong");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (String.fromCharCode(...bytes.subarray(0, 8)) !== magic) throw stateInvalid("it is something else");
  if (view.getUint32(8, true) !== machineStateVersion) throw stateInvalid(`its version is ${view.getUint32(8, true)}`);
  const payload = bytes.subarray(headerBytes);
  if (view.getUint32(12, true) !== payload.length) throw stateInvalid("its length is wrong");
  if (view.getUint32(16, true) !== hash(payload)) throw stateInvalid("its hash is wrong");
  return payload;
}

function checkedParts({ cpu }: StateContext, payload: Uint8Array): StateParts {
  const tree = decodeTree(payload, arrayBytesMax);
  const sizes = arraySizes(tree);
  const template: StateParts = {
    identity: emulatorIdentity,
    memoryBytes: 0,
    clockMs: 0,
    timeStamp: new Uint32Array(2),
    cpu: new Uint8Array(cpuFieldsBytes),
    apic: new Uint8Array(apicBytes),
    ioApic: new Uint8Array(ioApicBytes),
    picMaster: new Uint8Array(picBytes),
    picSlave: new Uint8Array(picBytes),
    firmwareItem: new Uint8Array(Math.min(sizes.get("firmwareItem") ?? 0, firmwareItemBytesMax)),
    firmwarePointer: 0,
    serialInput: new Uint8Array(Math.min(sizes.get("serialInput") ?? 0, serialInputBytesMax)),
    devices: deviceTrees(cpu),
  };
  conform(tree, treeOfParts(template), "state");
  const parts = Object.fromEntries(tree as [string, StateTree][]) as unknown as StateParts;
  if (parts.memoryBytes !== cpu.memory_size[0]) throw stateInvalid(`it is of a guest with ${parts.memoryBytes} bytes`);
  for (const value of [parts.clockMs, parts.firmwarePointer]) {
    if (!(typeof value === "number" && value >= 0 && value < numberMax)) throw stateInvalid("a number is out of range");
  }
  return parts;
}

function treeOfParts(parts: StateParts): StateTree {
  return Object.entries(parts) as [string, StateTree][];
}

/** Lengths of the arrays among the parts, by name. */
function arraySizes(tree: StateTree): Map<unknown, number> {
  const parts = Array.isArray(tree) ? (tree as StateTree[]) : [];
  return new Map(
    parts.flatMap((part) => (Array.isArray(part) && isStateArray(part[1]) ? [[part[0], part[1].length]] : [])),
  );
}

function structure(cpu: V86Cpu, address: number, sizeBytes: number): Uint8Array {
  return new Uint8Array(cpu.wasm_memory.buffer, address, sizeBytes);
}

function restorePic(pic: Uint8Array, saved: Uint8Array): void {
  for (let i = 0; i < picBytes; i++) if (i !== picHole) pic[i] = saved[i] ?? 0;
}

function deviceTrees({ devices }: V86Cpu): StateParts["devices"] {
  return deviceNames.map((name) => {
    const tree = treeOf(devices[name]) as StateTree[];
    if (name === "vga") tree[vgaPixels] = undefined;
    return [name, tree];
  });
}

/** A device's state as a tree: devices within devices become lists, proxies of wasm memory the arrays they stand for. */
function treeOf(value: unknown): StateTree {
  if (typeof value !== "object" || value === null || isStateArray(value)) return value as StateTree;
  if (Array.isArray(value)) return Array.from(value, treeOf);
  const { BYTES_PER_ELEMENT: elementBytes } = value as { BYTES_PER_ELEMENT?: number };
  if (elementBytes === undefined) return treeOf((value as V86Device).get_state());
  assert(elementBytes === 1, "v86 has no views of wasm memory but of bytes in its devices' state");
  const { buffer, byteOffset, length } = value as Uint8Array;
  return new Uint8Array(buffer, byteOffset, length);
}

/**
 * Makes the time stamp counter go on from the saved value. v86 keeps it as an offset to its time that cannot be read
 * or written; what set_tsc(n) does is to make the offset `counter now - n`, where the counter still has the old offset
 * taken off. So with the counter and the time of one reading known, n follows. 64-bit arithmetic modulo 2^64.
 */
function restoreTimeStamp(cpu: V86Cpu, clock: MachineClock, saved: Uint32Array): void {
  const read = (): bigint => (BigInt(cpu.current_tsc[1] ?? 0) << 32n) | BigInt(cpu.current_tsc[0] ?? 0);
  const wanted = (BigInt(saved[1] ?? 0) << 32n) | BigInt(saved[0] ?? 0);
  cpu.store_current_tsc();
  const time = BigInt(Math.trunc(clock.lastMs * 1e6));
  const argument = BigInt.asUintN(64, wanted + read() - time);
  cpu.set_tsc(Number(argument & 0xffff_ffffn), Number(argument >> 32n));
  cpu.store_current_tsc();
  const error = BigInt.asIntN(64, read() - wanted);
  assert(error >= 0n && error < 1000n, `the time stamp counter is off by ${error}`);
}
