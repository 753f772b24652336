// A guest in a QEMU that is there already: its VF served from this process, its QEMU driven over QMP.
import path from "node:path";
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import type { Console } from "../machine/machine.ts";
import { QEMU_STATE_VERSION, QemuMachine, type QemuPciState } from "../machine/qemu/machine.ts";
import type { DeviceChoice } from "../machine/qemu/pci-query.ts";
import { PciStateReader, type ServedRegisters } from "../machine/qemu/pci-reader.ts";
import { PciRestore } from "../machine/qemu/pci-restore.ts";
import { decodePciState, encodePciState } from "../machine/qemu/pci-state.ts";
import { MsixLocation } from "../machine/qemu/vfio-user/msix-location.ts";
import type { QmpClient } from "../machine/qemu/qmp.ts";
import type { ServedVm, SharedParts } from "../machine/qemu/served-vm.ts";
import { ConfigurationOffset } from "../pci/configuration-space.ts";
import type { HostedGuest } from "./hosted-guest.ts";

export interface AttachedQemuOptions {
  readonly served: ServedVm;
  readonly shared: SharedParts;
  readonly qmp: QmpClient;
  /** The VF among QEMU's devices. */
  readonly device: DeviceChoice;
  /** A folder of our own for sockets that QEMU can get at, with a short path. */
  readonly directory: string;
  /** Whether its guest runs, or it waits for one (`-S -incoming defer`). */
  readonly isRunning: boolean;
  readonly console: Console;
  /** What ends the guest for good. */
  readonly close: () => Promise<void>;
}

export interface AttachedQemu extends HostedGuest {
  readonly machine: QemuMachine;
}

export function attachQemu(options: AttachedQemuOptions): AttachedQemu {
  const { served, shared, qmp, directory, isRunning, console, close } = options;
  const { memory, dma, tracker, deviceLog } = shared;
  const machine = new QemuMachine({
    qmp,
    memory,
    directory,
    isRunning,
    pciState: new PciStateOfQemu(options),
    holdMessages: (isHeld) => served.vf.holdMessages(isHeld),
  });
  return {
    machine,
    vf: served.vf,
    arriving: served.arriving,
    dma,
    tracker,
    deviceLog,
    console,
    machineStateVersion: QEMU_STATE_VERSION,
    lost: served.clientLost(qemuGone()),
    translate: (iova) => served.translate(iova),
    mappings: () => served.mappings(),
    prepareMove: async () => Buffer.from(await machine.prepareMove()).toString("base64"),
    prepareArrival: (hint = "") => machine.prepareArrival(Buffer.from(hint, "base64")),
    finishMove: () => machine.finishMove(),
    close,
  };
}

function qemuGone(): OperationError<"qemu-gone"> {
  return new OperationError({
    code: "qemu-gone",
    message: "QEMU has ended, and its guest with it.",
    advice: "Start the guest again; what QEMU said at its end may tell why.",
  });
}

/** Read through a monitor that disturbs no running guest; written while the destination's stands still. */
class PciStateOfQemu implements QemuPciState {
  readonly #options: Pick<AttachedQemuOptions, "qmp" | "device" | "directory" | "served">;
  #reader: PciStateReader | undefined;
  #restore: PciRestore | undefined;

  constructor(options: Pick<AttachedQemuOptions, "qmp" | "device" | "directory" | "served">) {
    this.#options = options;
  }

  async prepareRead(): Promise<Uint8Array> {
    const { qmp, device } = this.#options;
    this.#reader = await PciStateReader.open(qmp, device);
    return this.read();
  }

  async read(): Promise<Uint8Array> {
    assert(this.#reader !== undefined, "reading is prepared first");
    return encodePciState(await this.#reader.read(this.#servedRegisters()));
  }

  /** As the server has them: QEMU passes every write on, and one question less is asked while the guest stands still. */
  #servedRegisters(): ServedRegisters {
    const { vf } = this.#options.served;
    const control = new MsixLocation(vf).control(vf);
    return {
      command: vf.readConfiguration(ConfigurationOffset.command, 2),
      bars: [0, 1, 2, 3, 4, 5].map((bar) => vf.readConfiguration(ConfigurationOffset.bars + 4 * bar, 4)),
      control,
    };
  }

  async prepareWrite(early: Uint8Array): Promise<void> {
    const gdbSocketPath = path.join(this.#options.directory, "gdb");
    const { qmp } = this.#options;
    const restore = await PciRestore.prepare(qmp, decodePciState(early), { gdbSocketPath });
    this.#restore = restore;
    // Also where the guest never comes.
    void qmp.closed.then(() => restore.close());
  }

  async write(bytes: Uint8Array): Promise<void> {
    assert(this.#restore !== undefined, "writing is prepared first");
    await this.#restore.finish(decodePciState(bytes));
    void this.#restore.close();
  }
}
