// The source's side of PCI state: read through guest physical memory, which disturbs no running guest.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import type { PciAddress } from "./guest-ports.ts";
import { HumanMonitor } from "./hmp.ts";
import { findPciDevice, type DeviceChoice, type FoundDevice } from "./pci-query.ts";
import {
  MSIX_ENTRIES_MAX,
  MSIX_ENTRY_WORDS,
  pciStateIdentity,
  tableAddress,
  tableEntries,
  type PciState,
  type TablePlace,
} from "./pci-state.ts";
import type { QmpClient } from "./qmp.ts";

export const ConfigurationRegister = {
  command: 0x04,
  bars: 0x10,
  bridgeBusNumbers: 0x18,
  bridgeMemory: 0x20,
  capabilities: 0x34,
  /** Of q35's host bridge at 00:00.0 (hw/pci-host/q35.c, MCH_HOST_BRIDGE_PCIEXBAR). */
  hostWindow: 0x60,
} as const;
export const COMMAND_MEMORY = 0x0002;
const CAPABILITY_MSIX = 0x11;
const BAR_COUNT = 6;

/** Where a function's registers lie in guest physical memory (PCI Express 4.0, section 7.2.2). */
export function configurationAddress(window: readonly number[], address: PciAddress): number {
  const base = (window[1] ?? 0) * 0x1_0000_0000 + (((window[0] ?? 0) & 0xfc00_0000) >>> 0);
  return base + (address.bus << 20) + (address.slot << 15) + (address.function << 12);
}

/** Where the things are that do not move while a guest runs. */
interface Place {
  readonly found: FoundDevice;
  readonly window: readonly [number, number];
  readonly bridges: PciState["bridges"];
  readonly msix: { readonly offset: number; readonly bar: number; readonly tableOffset: number };
}

/** What the vfio-user server has seen of it: QEMU passes every write of configuration space on (hw/vfio/pci.c). */
export interface ServedRegisters {
  readonly command: number;
  readonly bars: readonly number[];
  /** MSI-X Message Control. */
  readonly control: number;
}

/**
 * Reads the state any number of times. QEMU asks the server for the registers that it does not emulate, a message each:
 * if the server is this process, it must be free to answer.
 */
export class PciStateReader {
  readonly #monitor: HumanMonitor;
  readonly #place: Place;
  #last: PciState | undefined;

  /**
   * Finds the device and what is fixed about it; the guest may run. Rejects with OperationError `pci-state-unreadable`
   * (no q35, or no guest that has set up configuration space yet), as findPciDevice, HumanMonitor and QmpClient do.
   */
  static async open(qmp: QmpClient, choice: DeviceChoice): Promise<PciStateReader> {
    const monitor = new HumanMonitor(qmp);
    const [found, windowBase] = await Promise.all([findPciDevice(qmp, choice), queryWindow(qmp)]);
    const root = { bus: 0, slot: 0, function: 0 };
    const guess = [windowBase % 0x1_0000_0000, Math.floor(windowBase / 0x1_0000_0000)];
    const [low = 0, high = 0] = await monitor.readPhysicalWords(
      configurationAddress(guess, root) + ConfigurationRegister.hostWindow,
      2,
    );
    const window = [low, high] as const;
    if (configurationAddress(window, root) !== windowBase || (low & 1) === 0) throw unreadable("its window has moved");
    const bridges = await Promise.all(found.bridges.map((bridge) => readBridge(monitor, window, bridge)));
    const registers = await monitor.readPhysicalWords(configurationAddress(window, found.device), 64);
    return new PciStateReader(monitor, { found, window: [low, high], bridges, msix: findMsix(registers) });
  }

  private constructor(monitor: HumanMonitor, place: Place) {
    this.#monitor = monitor;
    this.#place = place;
  }

  /**
   * The state now; exact only while the guest is stopped. It takes four commands of QEMU's monitor, and one when the
   * server's registers are given.
   */
  async read(served?: ServedRegisters): Promise<PciState> {
    const { msix } = this.#place;
    const last = this.#last;
    const registersRead = served ?? this.#readRegisters();
    const tableRead = last?.msix.table === null || last === undefined ? undefined : this.#readTable(last);
    const registers = await registersRead;
    let table = await tableRead;
    const isDecoding = (registers.command & COMMAND_MEMORY) !== 0;
    const place = { bars: registers.bars, msix: { ...msix, control: registers.control } };
    const hasMoved = last === undefined || tableAddress(last) !== tableAddress(place);
    if (!isDecoding) table = undefined;
    else if (table === undefined || hasMoved) table = await this.#readTable(place);
    const { found, window, bridges } = this.#place;
    const { bus, slot, function: number } = found.device;
    this.#last = {
      ...pciStateIdentity,
      vendorId: found.device.id.vendor,
      deviceId: found.device.id.device,
      address: { bus, slot, function: number },
      window: [...window],
      bridges,
      command: registers.command,
      bars: [...registers.bars],
      msix: { ...msix, control: registers.control, table: table === undefined ? null : [...table] },
    };
    return this.#last;
  }

  async #readRegisters(): Promise<ServedRegisters> {
    const at = configurationAddress(this.#place.window, this.#place.found.device);
    const [command, bars, capability] = await Promise.all([
      this.#monitor.readPhysicalWords(at + ConfigurationRegister.command, 1),
      this.#monitor.readPhysicalWords(at + ConfigurationRegister.bars, BAR_COUNT),
      this.#monitor.readPhysicalWords(at + this.#place.msix.offset, 1),
    ]);
    return { command: (command[0] ?? 0) & 0xffff, bars: [...bars], control: (capability[0] ?? 0) >>> 16 };
  }

  #readTable(state: TablePlace & { readonly msix: { readonly control: number } }): Promise<Uint32Array> {
    const entries = tableEntries(state.msix.control);
    if (entries > MSIX_ENTRIES_MAX) throw unreadable(`it has ${entries} MSI-X vectors`);
    return this.#monitor.readPhysicalWords(tableAddress(state), MSIX_ENTRY_WORDS * entries);
  }
}

/** QEMU tells where the guest's firmware has put the window; while it has not, the number is 2^64 - 1. */
async function queryWindow(qmp: QmpClient): Promise<number> {
  const path = { path: "/machine/q35", property: "MCFG" };
  const base = await qmp.execute("qom-get", v.number(), { arguments: path }).catch((error: unknown) => {
    if (error instanceof OperationError && error.code === "qmp-error")
      throw unreadable("its machine is not q35", error);
    throw error;
  });
  if (!Number.isSafeInteger(base)) throw unreadable("its firmware has not set up configuration space yet");
  return base;
}

async function readBridge(
  monitor: HumanMonitor,
  window: readonly number[],
  bridge: PciAddress,
): Promise<PciState["bridges"][number]> {
  const at = configurationAddress(window, bridge);
  const [command, busNumbers, memory] = await Promise.all([
    monitor.readPhysicalWords(at + ConfigurationRegister.command, 1),
    monitor.readPhysicalWords(at + ConfigurationRegister.bridgeBusNumbers, 1),
    monitor.readPhysicalWords(at + ConfigurationRegister.bridgeMemory, 4),
  ]);
  return {
    address: { bus: bridge.bus, slot: bridge.slot, function: bridge.function },
    command: (command[0] ?? 0) & 0xffff,
    busNumbers: (busNumbers[0] ?? 0) & 0xff_ffff,
    memory: [...memory],
  };
}

/** Follows the list of capabilities; a list that goes in circles ends, too. */
function findMsix(registers: Uint32Array): Place["msix"] {
  const byteAt = (offset: number): number => ((registers[offset >>> 2] ?? 0) >>> (8 * (offset & 3))) & 0xff;
  let offset = byteAt(ConfigurationRegister.capabilities) & 0xfc;
  for (let hops = 0; hops < 48 && offset >= 0x40 && offset <= 0xf4; hops++) {
    if (byteAt(offset) === CAPABILITY_MSIX) {
      const table = registers[(offset >>> 2) + 1] ?? 0;
      return { offset, bar: table & 7, tableOffset: (table & ~7) >>> 0 };
    }
    offset = byteAt(offset + 1) & 0xfc;
  }
  throw unreadable("the device has no MSI-X");
}

function unreadable(why: string, cause?: unknown): OperationError<"pci-state-unreadable"> {
  return new OperationError({
    code: "pci-state-unreadable",
    message: `the PCI state cannot be read from this QEMU: ${why}`,
    advice: "Run QEMU with -machine q35, and migrate when the guest has booted.",
    facts: { why },
    cause,
  });
}
