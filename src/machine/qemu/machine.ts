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
  /** On the source, while the guest runs: what can be found out early, and most likely stays so. */
  prepareRead(): Promise<Uint8Array>;
  /** Of a guest that is stopped. */
  read(): Promise<Uint8Array>;
  /** On the destination, with what `prepareRead` gave: what can be done before QEMU has loaded its state. */
  prepareWrite(early: Uint8Array): Promise<void>;
  write(state: Uint8Array): Promise<void>;
}

export interface QemuMachineOptions {
  readonly qmp: QmpClient;
  readonly memory: GuestMemory;
  readonly pciState: QemuPciState;
  /**
   * Keeps the VF's interrupts back, or lets them go. QEMU would take one while the guest stands still, and lose it if it had
   * saved its interrupt controller by then; the VF, which masks what it raised, would never raise it again.
   */
  readonly holdMessages: (isHeld: boolean) => void;
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
    stop: () => this.#outgoing?.stop(),
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

  /**
   * Source, before the engine begins: QEMU logs from now on. Gives what the destination is to prepare by. Rejects as
   * OutgoingMigration.begin.
   */
  async prepareMove(): Promise<Uint8Array> {
    // A move that failed before the guest was stopped has left it to us.
    await this.#endMove();
    const { qmp, directory, memory, pciState } = this.#options;
    this.#outgoing = await OutgoingMigration.begin({ qmp, directory, pages: memory.pages });
    try {
      return await pciState.prepareRead();
    } catch (thrown) {
      await this.#endMove().catch(() => {});
      throw thrown;
    }
  }

  /** Destination, with what `prepareMove` gave. Rejects as IncomingMigration.begin. */
  async prepareArrival(early: Uint8Array): Promise<void> {
    const { qmp, directory, pciState } = this.#options;
    await pciState.prepareWrite(early);
    this.#incoming = await IncomingMigration.begin(qmp, directory);
  }

  /**
   * With a move under way also waits until QEMU has told everything it knows: the log, and its devices' state. A failure may
   * leave the guest stopped, and `resume` makes it go on. Rejects as OutgoingMigration.drain or QmpClient.
   */
  async pause(): Promise<void> {
    if (this.#isPaused) return;
    const { qmp, pciState, holdMessages } = this.#options;
    this.#outgoing?.expectEnd();
    holdMessages(true);
    // Before it is known: a `stop` whose answer is lost may have been carried out.
    this.#isPaused = true;
    await qmp.run("stop");
    const outgoing = this.#outgoing;
    if (outgoing === undefined) return;
    const [pci, drained] = await Promise.allSettled([pciState.read(), outgoing.drain()]);
    if (drained.status === "rejected") throw drained.reason;
    if (pci.status === "rejected") throw pci.reason;
    this.#state = encodeState(pci.value, outgoing.machineState());
  }

  /**
   * Also ends a move under way. Rejects as QmpClient; when QEMU's migration could not be ended and its guest therefore does
   * not run, with what was wrong with that.
   */
  async resume(): Promise<void> {
    const problem = await this.#endMove().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const { qmp } = this.#options;
    if (!this.#isPaused) {
      if (problem !== undefined) throw problem;
      // A guest whose QEMU is gone does not go on.
      if (qmp.isClosed) throw await qmp.closed;
      return;
    }
    try {
      await qmp.run("cont");
    } catch (thrown) {
      throw problem ?? thrown;
    }
    this.#isPaused = false;
    this.#options.holdMessages(false);
  }

  async #endMove(): Promise<void> {
    const outgoing = this.#outgoing;
    this.#outgoing = undefined;
    this.#state = undefined;
    await outgoing?.cancel();
  }

  /** Source, after a completed move: QEMU, too, learns that the guest is gone. */
  async finishMove(): Promise<void> {
    const outgoing = this.#outgoing;
    this.#outgoing = undefined;
    await outgoing?.succeed();
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
