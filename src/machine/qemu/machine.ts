// The QEMU machine: somebody's QEMU, driven over QMP, whose RAM we share and whose VF is served from this process.
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { PageSet } from "../../memory/page-set.ts";
import type { Machine } from "../machine.ts";
import { IncomingMigration } from "./incoming-migration.ts";
import { OutgoingMigration } from "./outgoing-migration.ts";
import type { QmpClient } from "./qmp.ts";

export const QEMU_STATE_VERSION = 1;
const HEADER_BYTES = 8;

/** What QEMU keeps of the VF on its own side, and cannot migrate: configuration space and MSI-X table. */
export interface QemuPciState {
  /** On a QEMU whose guest is stopped. */
  read(): Promise<Uint8Array>;
  /** What can be done before the guest stops. */
  prepare(): Promise<void>;
  write(state: Uint8Array): Promise<void>;
}

export interface QemuMachineOptions {
  readonly qmp: QmpClient;
  readonly memory: GuestMemory;
  readonly pciState: QemuPciState;
  /** A folder of our own for sockets, with a short path. */
  readonly directory: string;
}

/** Made when the guest runs (`isRunning`), or stands still in a QEMU that waits for one (`-S -incoming defer`). */
export class QemuMachine implements Pick<
  Machine,
  "kind" | "memory" | "cpuDirtyLog" | "pause" | "resume" | "isPaused" | "saveState" | "restoreState"
> {
  readonly kind = "qemu";
  readonly memory: GuestMemory;
  readonly cpuDirtyLog: CpuDirtyLog = {
    method: "qemu-migration",
    start: () => this.#log().start(),
    stop: () => this.#log().stop(),
    fetchAndClear: (into: PageSet) => this.#log().fetchAndClear(into),
    // A move that failed may have taken its log along; the next one begins with all of memory.
    putBack: (pages: PageSet) => this.#outgoing?.putBack(pages),
  };
  readonly #options: QemuMachineOptions;
  #isPaused: boolean;
  #outgoing: OutgoingMigration | undefined;
  #incoming: IncomingMigration | undefined;
  #state: Uint8Array | undefined;

  constructor(options: QemuMachineOptions & { readonly isRunning: boolean }) {
    this.#options = options;
    this.memory = options.memory;
    this.#isPaused = !options.isRunning;
  }

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Source, before the engine begins: QEMU logs from now on. Rejects as OutgoingMigration.begin. */
  async prepareMove(): Promise<void> {
    assert(this.#outgoing === undefined, "one move at a time");
    const { qmp, directory, memory } = this.#options;
    this.#outgoing = await OutgoingMigration.begin({ qmp, directory, pages: memory.pages });
  }

  /** Destination, before the engine begins. Rejects as IncomingMigration.begin. */
  async prepareArrival(): Promise<void> {
    const { qmp, directory, pciState } = this.#options;
    this.#incoming = await IncomingMigration.begin(qmp, directory);
    await pciState.prepare();
  }

  /** With a move under way also waits until QEMU has told everything it knows: the log, and its devices' state. */
  async pause(): Promise<void> {
    if (this.#isPaused) return;
    const { qmp, pciState } = this.#options;
    await qmp.run("stop");
    this.#isPaused = true;
    if (this.#outgoing === undefined) return;
    const [pci] = await Promise.all([pciState.read(), this.#outgoing.drain()]);
    this.#state = encodeState(pci, this.#outgoing.machineState());
  }

  async resume(): Promise<void> {
    const outgoing = this.#outgoing;
    this.#outgoing = undefined;
    this.#state = undefined;
    await outgoing?.cancel();
    if (!this.#isPaused) return;
    await this.#options.qmp.run("cont");
    this.#isPaused = false;
  }

  /** Source, after a completed move: QEMU, too, learns that the guest is gone. */
  async finishMove(): Promise<void> {
    await this.#outgoing?.succeed();
    this.#outgoing = undefined;
  }

  saveState(): Uint8Array {
    assert(this.#state !== undefined, "the state is there once the machine was paused for a move");
    return this.#state;
  }

  /** Rejects with OperationError `machine-state-invalid` or `qemu-state-refused`, or a QMP error. */
  async restoreState(state: Uint8Array): Promise<void> {
    assert(this.#incoming !== undefined, "the arrival is prepared first");
    const { pci, stream } = decodeState(state);
    await this.#incoming.load(stream);
    await this.#options.pciState.write(pci);
  }

  #log(): OutgoingMigration {
    assert(this.#outgoing !== undefined, "the move is prepared first");
    return this.#outgoing;
  }
}

function encodeState(pci: Uint8Array, stream: Uint8Array): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(QEMU_STATE_VERSION, 0);
  header.writeUInt32LE(pci.length, 4);
  return Buffer.concat([header, pci, stream]);
}

function decodeState(bytes: Uint8Array): { pci: Uint8Array; stream: Uint8Array } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || view.getUint32(0, true) !== QEMU_STATE_VERSION) throw invalid("its version");
  const end = HEADER_BYTES + view.getUint32(4, true);
  if (end > bytes.length) throw invalid("the length of its PCI part");
  return { pci: bytes.subarray(HEADER_BYTES, end), stream: bytes.subarray(end) };
}

function invalid(what: string): OperationError<"machine-state-invalid"> {
  return new OperationError({
    code: "machine-state-invalid",
    message: `The machine's state cannot be loaded: ${what} is wrong.`,
    advice: "Run the same version of Underway on both hosts.",
    facts: { what },
  });
}
