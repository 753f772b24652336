// The destination's side of PCI state: put back through guest physical memory while the VM is stopped.
import { OperationError } from "../../base/errors.ts";
import { GdbMemory } from "./gdb-memory.ts";
import { writeConfigurationByPorts, type PciAddress } from "./guest-ports.ts";
import { HumanMonitor } from "./hmp.ts";
import { COMMAND_MEMORY, configurationAddress, ConfigurationRegister } from "./pci-reader.ts";
import { tableAddress, type PciState } from "./pci-state.ts";
import type { QmpClient } from "./qmp.ts";

const HOST_BRIDGE: PciAddress = { bus: 0, slot: 0, function: 0 };
/** Bits of Message Control that the guest writes: enable and function mask. */
const CONTROL_WRITABLE = 0xc000;

/**
 * Two steps, so that little is left to do while the guest is dark. `prepare`, while the destination waits for the
 * stream and the source still runs, lays down what is known by then, up to the table, with MSI-X off. `finish`, when QEMU
 * has loaded its own state, writes what differs, then the command register and MSI-X control, and reads all of it back.
 * Only then are there interrupts: what QEMU makes of a vector's message may depend on state that it loads. With that,
 * QEMU tells the server the event file descriptors of the vectors that are not masked, in one SET_IRQS.
 */
export class PciRestore {
  readonly #monitor: HumanMonitor;
  readonly #memory: GdbMemory;
  readonly #prepared: PciState;

  /**
   * Opens a gdb server at `gdbSocketPath`, a path where QEMU may make a socket and this process may connect, and prepares.
   * The VM must be stopped: QEMU started with -S and -incoming defer. Rejects with OperationError `pci-restore-failed`,
   * `gdb-failed`, and as HumanMonitor does.
   */
  static async prepare(
    qmp: QmpClient,
    state: PciState,
    options: { readonly gdbSocketPath: string },
  ): Promise<PciRestore> {
    const monitor = new HumanMonitor(qmp);
    await monitor.startGdbServer(options.gdbSocketPath);
    try {
      const memory = await GdbMemory.connect(options.gdbSocketPath);
      const restore = new PciRestore(monitor, memory, state);
      await restore.#openWindow();
      await restore.#checkDevice();
      await Promise.all([...restore.#writeBars(state), ...restore.#writeTable(state)]);
      return restore;
    } catch (error) {
      await monitor.stopGdbServer().catch(() => {});
      throw error;
    }
  }

  private constructor(monitor: HumanMonitor, memory: GdbMemory, prepared: PciState) {
    this.#monitor = monitor;
    this.#memory = memory;
    this.#prepared = prepared;
  }

  /** Once, after QEMU has loaded its state and before the VM runs. The gdb server is not used any more afterwards. */
  async finish(state: PciState): Promise<void> {
    const prepared = this.#prepared;
    if (JSON.stringify(placeOf(state)) !== JSON.stringify(placeOf(prepared))) throw failed("the device has moved");
    const { command, msix } = state;
    const writes: Promise<void>[] = [];
    if (!equal(state.bars, prepared.bars)) writes.push(...this.#writeBars(state), ...this.#writeTable(state));
    else if (!equal(state.msix.table, prepared.msix.table)) writes.push(...this.#writeTable(state));
    writes.push(
      this.#writeRegister(state.address, ConfigurationRegister.command, 2, command),
      this.#writeRegister(state.address, msix.offset + 2, 2, msix.control & CONTROL_WRITABLE),
    );
    await Promise.all([...writes, this.#verify(state), this.#memory.leave()]);
  }

  /** Takes the gdb server away, in any case; after `finish` the VM may run already. Never rejects. */
  async close(): Promise<void> {
    this.#memory.hangUp();
    await this.#monitor.stopGdbServer().catch(() => {});
  }

  /** Makes the device's registers reachable as on the source. QEMU loads the same values, or newer ones, over these. */
  async #openWindow(): Promise<void> {
    const { window, bridges } = this.#prepared;
    const [low = 0, high = 0] = window;
    const register = ConfigurationRegister.hostWindow;
    await Promise.all([
      writeConfigurationByPorts(this.#monitor, HOST_BRIDGE, { offset: register + 4, bytes: 4, value: high }),
      writeConfigurationByPorts(this.#monitor, HOST_BRIDGE, { offset: register, bytes: 4, value: low }),
    ]);
    for (const bridge of bridges) {
      const { address, busNumbers, memory, command } = bridge;
      await Promise.all([
        this.#writeRegister(address, ConfigurationRegister.bridgeBusNumbers, 2, busNumbers & 0xffff),
        this.#writeRegister(address, ConfigurationRegister.bridgeBusNumbers + 2, 1, busNumbers >>> 16),
        ...memory.map((value, i) => this.#writeRegister(address, ConfigurationRegister.bridgeMemory + 4 * i, 4, value)),
        this.#writeRegister(address, ConfigurationRegister.command, 2, command),
      ]);
    }
  }

  async #checkDevice(): Promise<void> {
    const { vendorId, deviceId, address } = this.#prepared;
    const words = await this.#memory.read(this.#registerAddress(address, 0), 4);
    const found = new DataView(words.buffer).getUint32(0, true);
    if (found !== vendorId + deviceId * 0x1_0000) {
      const place = `${address.bus}:${address.slot}.${address.function}`;
      throw failed(`at ${place} there is ${found.toString(16)} in place of the device`);
    }
  }

  /** Nothing decodes them while they change. Bus mastering is on early: the server has no VF yet that would use it. */
  #writeBars({ address, bars, command }: PciState): Promise<void>[] {
    return [
      this.#writeRegister(address, ConfigurationRegister.command, 2, 0),
      ...bars.map((value, i) => this.#writeRegister(address, ConfigurationRegister.bars + 4 * i, 4, value)),
      this.#writeRegister(address, ConfigurationRegister.command, 2, command),
    ];
  }

  /** In the order of addresses, an entry's control last: QEMU takes an entry into use when that unmasks it. */
  #writeTable(state: PciState): Promise<void>[] {
    const { table } = state.msix;
    return table === null ? [] : [this.#memory.write(tableAddress(state), littleEndian(table))];
  }

  #writeRegister(address: PciAddress, offset: number, bytes: 1 | 2 | 4, value: number): Promise<void> {
    return this.#memory.write(this.#registerAddress(address, offset), littleEndian([value]).subarray(0, bytes));
  }

  #registerAddress(address: PciAddress, offset: number): number {
    return configurationAddress(this.#prepared.window, address) + offset;
  }

  async #verify(state: PciState): Promise<void> {
    const { address, msix } = state;
    const read = (offset: number, length: number): Promise<Uint8Array> =>
      this.#memory.read(this.#registerAddress(address, offset), length);
    const isDecoding = (state.command & COMMAND_MEMORY) !== 0;
    const [command, bars, control, table] = await Promise.all([
      read(ConfigurationRegister.command, 2),
      read(ConfigurationRegister.bars, 4 * state.bars.length),
      read(msix.offset + 2, 2),
      msix.table === null || !isDecoding ? undefined : this.#memory.read(tableAddress(state), 4 * msix.table.length),
    ]);
    const wrong = [
      isSame(command, littleEndian([state.command]).subarray(0, 2)) ? "" : "command",
      isSame(bars, littleEndian(state.bars)) ? "" : "base addresses",
      isSame(control, littleEndian([msix.control]).subarray(0, 2)) ? "" : "MSI-X control",
      table === undefined || isSame(table, littleEndian(msix.table ?? [])) ? "" : "MSI-X table",
    ].filter((what) => what !== "");
    if (wrong.length > 0) throw failed(`it did not take ${wrong.join(", ")}`);
  }
}

/** What must be the same in every state of one migration. */
function placeOf({ vendorId, deviceId, address, window, msix }: PciState): unknown {
  return { vendorId, deviceId, address, window, msix: [msix.offset, msix.bar, msix.tableOffset] };
}

function equal(a: readonly number[] | null, b: readonly number[] | null): boolean {
  if (a === null || b === null) return a === b;
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return equal([...a], [...b]);
}

function littleEndian(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  return bytes;
}

function failed(why: string): OperationError<"pci-restore-failed"> {
  return new OperationError({
    code: "pci-restore-failed",
    message: `the destination's QEMU cannot take over the VF's PCI state: ${why}`,
    advice: "Start both QEMUs with the same machine and the same devices in the same order; the source can go on.",
    facts: { why },
  });
}
