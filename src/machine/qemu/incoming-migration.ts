// The destination's QEMU takes in a machine's state, as a migration that has no RAM in it.
import { connect, type Socket } from "node:net";
import path from "node:path";
import { OperationError } from "../../base/errors.ts";
import { setForArrival } from "./migration-settings.ts";
import { waitUntilSettled } from "./migration-status.ts";
import type { QmpClient } from "./qmp.ts";
import { ReturnPathReader } from "./return-path.ts";

const LOAD_TIMEOUT_MS = 60_000;
/** From its last word, or its silence, to the status that says why. */
const SETTLE_TIMEOUT_MS = 10_000;

/** QEMU listens from `begin` on, so that nothing is left to set up while the guest stands still. */
export class IncomingMigration {
  readonly #qmp: QmpClient;
  readonly #socket: Socket;
  readonly #reader = new ReturnPathReader();
  #onChange: () => void = () => {};
  #isOver = false;

  /** For a QEMU started with `-S -incoming defer`. Rejects as QmpClient, or with `qemu-state-refused`. */
  static async begin(qmp: QmpClient, directory: string): Promise<IncomingMigration> {
    const socketPath = path.join(directory, "incoming");
    await setForArrival(qmp);
    await qmp.run("migrate-incoming", { uri: `unix:${socketPath}`, "exit-on-error": false });
    const socket = connect(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (error) => reject(refused(error.message)));
    });
    return new IncomingMigration(qmp, socket);
  }

  private constructor(qmp: QmpClient, socket: Socket) {
    this.#qmp = qmp;
    this.#socket = socket;
    const over = (): void => {
      this.#isOver = true;
      this.#onChange();
    };
    socket.on("data", (bytes: Uint8Array) => {
      this.#reader.push(bytes);
      if (this.#reader.shut !== undefined) this.#onChange();
    });
    socket.on("error", over);
    socket.on("close", over);
    // Who lets go of QEMU before its guest has come leaves it with a migration that failed, not with one that waits.
    void qmp.closed.then(() => socket.destroy());
  }

  /**
   * Once. Resolves when QEMU has loaded the state and stands at the guest's next instruction. Guest RAM is in place before.
   * Rejects with OperationError `qemu-state-refused`, in which QEMU says why, or as QmpClient when QEMU is gone.
   */
  async load(state: Uint8Array): Promise<void> {
    const timer = setTimeout(() => this.#socket.destroy(), LOAD_TIMEOUT_MS);
    try {
      this.#socket.write(state);
      while (this.#reader.shut === undefined && !this.#isOver) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#onChange = resolve;
        await promise;
      }
      const { status, error } = await waitUntilSettled(this.#qmp, SETTLE_TIMEOUT_MS);
      if (status !== "completed") throw refused(error ?? `its migration is ${status}`);
    } finally {
      clearTimeout(timer);
      this.#socket.destroy();
    }
  }
}

function refused(why: string): OperationError<"qemu-state-refused"> {
  return new OperationError({
    code: "qemu-state-refused",
    message: `The destination's QEMU did not take the machine's state: ${why}`,
    advice: "Start both QEMUs with the same version, machine type, CPU model, memory and devices.",
    facts: { why },
  });
}
