// A migration that QEMU believes to make: its stream comes to us, as the CPU's dirty log and the machine's state.
import { rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import type { CpuDirtyLog } from "../../memory/dirty-log.ts";
import type { PageGeometry } from "../../memory/geometry.ts";
import { PageSet } from "../../memory/page-set.ts";
import { setForDirtyLog } from "./migration-settings.ts";
import { MigrationStream } from "./migration-stream.ts";
import { migrationStatus, waitUntilSettled } from "./migration-status.ts";
import type { QmpClient } from "./qmp.ts";
import { returnPathShut } from "./return-path.ts";
import { RAM_PAGE_BYTES } from "./stream-words.ts";

/** While the guest writes nothing QEMU would go round and round; unread, its stream stops it. */
const IDLE_PAUSE_MS = 4;
/** A stream with fewer bytes than this to a dirty page is one of pages. */
const IDLE_BYTES_PER_PAGE = 8192;
const FIRST_PASS_TIMEOUT_MS = 300_000;
const DRAIN_TIMEOUT_MS = 60_000;
const SETTLE_TIMEOUT_MS = 10_000;
/** A migration that fails before it has a stream says so nowhere else. */
const STATUS_INTERVAL_MS = 250;

export interface OutgoingMigrationOptions {
  readonly qmp: QmpClient;
  readonly pages: PageGeometry;
  /** A folder of our own for a socket, with a short path. */
  readonly directory: string;
}

/**
 * QEMU goes through all of RAM once, and from then on sends what the guest's CPUs and QEMU's own devices write (not what
 * a device in another process writes). Only pages' numbers count (MigrationStream says why that is enough). It never
 * completes by itself: once somebody has stopped the guest, `drain` reads the rest; then either `succeed` or `cancel`.
 */
export class OutgoingMigration implements CpuDirtyLog {
  readonly method = "qemu-migration";
  readonly #qmp: QmpClient;
  readonly #dirty: PageSet;
  readonly #unseen: PageSet;
  readonly #stream: MigrationStream;
  readonly #path: string;
  readonly #server: Server;
  #undoSettings: () => Promise<void> = async () => {};
  /** What is under way may be ours, and not somebody else's. */
  #isOurs = false;
  #socket: Socket | undefined;
  #isDraining = false;
  #resting: NodeJS.Timeout | undefined;
  #cancelling: Promise<void> | undefined;
  #records = 0;
  #problem: OperationError | undefined;
  #onChange: () => void = () => {};

  /** Resolves when QEMU has gone through RAM once. Rejects with OperationError `qemu-migration-failed` or a QMP error. */
  static async begin(options: OutgoingMigrationOptions): Promise<OutgoingMigration> {
    const migration = new OutgoingMigration(options);
    try {
      await migration.#begin();
    } catch (thrown) {
      await migration.cancel().catch(() => {});
      throw thrown;
    }
    return migration;
  }

  private constructor({ qmp, pages, directory }: OutgoingMigrationOptions) {
    assert(pages.sizeBytes === RAM_PAGE_BYTES, "QEMU's pages and ours are the same");
    this.#qmp = qmp;
    this.#dirty = new PageSet(pages.count);
    this.#unseen = new PageSet(pages.count);
    this.#unseen.addAll();
    this.#path = path.join(directory, "outgoing");
    this.#stream = new MigrationStream({
      isGuestRam: (block) => block.usedBytes === pages.count * pages.sizeBytes,
      onDirtyPage: (page) => {
        this.#dirty.add(page);
        this.#unseen.delete(page);
        this.#records++;
      },
    });
    this.#server = createServer((socket) => this.#connected(socket));
    void qmp.closed.then((error) => {
      this.#fail(error);
      return this.#close();
    });
  }

  async #begin(): Promise<void> {
    if ((await migrationStatus(this.#qmp)).isUnderWay) throw failed("another migration is under way");
    await this.#listen();
    this.#undoSettings = await setForDirtyLog(this.#qmp);
    this.#isOurs = true;
    await this.#qmp.run("migrate", { uri: `unix:${this.#path}` }).catch((thrown: unknown) => {
      if (thrown instanceof OperationError && thrown.code === "qmp-error") this.#isOurs = false;
      throw thrown;
    });
    const watch = setInterval(() => void this.#failIfOver(), STATUS_INTERVAL_MS);
    try {
      await this.#until(() => this.#unseen.isEmpty, FIRST_PASS_TIMEOUT_MS, "gone through the guest's memory");
    } finally {
      clearInterval(watch);
    }
  }

  async #listen(): Promise<void> {
    await rm(this.#path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.on("error", (error) => {
        this.#fail(failed(error.message));
        reject(failed(error.message));
      });
      this.#server.listen(this.#path, resolve);
    });
  }

  start(): void {
    this.#dirty.clear();
  }

  stop(): void {}

  /** Throws OperationError `qemu-migration-failed`: a log that may have missed something must not be believed. */
  fetchAndClear(into: PageSet): void {
    this.#throwProblem();
    this.#dirty.drainInto(into);
  }

  putBack(pages: PageSet): void {
    this.#dirty.addSet(pages);
  }

  /**
   * The guest is about to be stopped: from now on QEMU may come to an end, and what it sends must be read. It sends its last
   * pages and its state with its big lock held, and may begin with that while `stop` still waits for the CPUs: unread, `stop`
   * would never be answered.
   */
  expectEnd(): void {
    this.#isDraining = true;
    clearTimeout(this.#resting);
    this.#socket?.resume();
  }

  /** With the guest stopped: takes the rest of the stream, after which log and state are complete. Rejects as `begin`. */
  async drain(): Promise<void> {
    await this.#until(() => this.#stream.isComplete, DRAIN_TIMEOUT_MS, "sent the state of its devices");
  }

  /** After `drain`: the stream for the QEMU of the destination. */
  machineState(): Uint8Array {
    assert(this.#stream.isComplete, "the state is complete once the stream is drained");
    return this.#stream.machineState();
  }

  /** Tells QEMU that the guest runs elsewhere: it will not run it again by itself. Rejects as `begin`. */
  async succeed(): Promise<void> {
    try {
      this.#socket?.write(returnPathShut(0));
      const { status, error } = await waitUntilSettled(this.#qmp, SETTLE_TIMEOUT_MS);
      if (status !== "completed") throw failed(error ?? `it is ${status}`);
    } finally {
      await this.#close();
    }
  }

  /**
   * Tells QEMU that nothing came of it; the guest is as running or stopped as it was. May be called again, and when QEMU is
   * gone. Rejects with OperationError `qemu-migration-stuck`, or as QmpClient.
   */
  cancel(): Promise<void> {
    this.#cancelling ??= this.#cancel();
    return this.#cancelling;
  }

  async #cancel(): Promise<void> {
    const qmp = this.#qmp;
    try {
      const isRunning = !qmp.isClosed && this.#isOurs && (await migrationStatus(qmp)).isUnderWay;
      if (isRunning) await qmp.run("migrate_cancel");
    } finally {
      await this.#close();
    }
    if (qmp.isClosed) return;
    if (this.#isOurs) await waitUntilSettled(qmp, SETTLE_TIMEOUT_MS);
    await this.#undoSettings();
  }

  async #close(): Promise<void> {
    this.#isDraining = true;
    this.#fail(failed("it was ended"));
    clearTimeout(this.#resting);
    this.#socket?.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await rm(this.#path, { force: true });
  }

  #connected(socket: Socket): void {
    if (this.#socket !== undefined) {
      socket.on("error", () => {}).destroy();
      return;
    }
    this.#socket = socket;
    socket.on("data", (bytes: Uint8Array) => this.#take(bytes));
    // What is wrong only QEMU knows.
    socket.on("error", () => {});
    socket.on("close", () => void this.#streamClosed());
  }

  async #streamClosed(): Promise<void> {
    await this.#failIfOver();
    this.#fail(failed("QEMU closed the stream"));
  }

  /** Never rejects: when QMP is closed that is why it failed. */
  async #failIfOver(): Promise<void> {
    if (this.#problem !== undefined) return;
    const status = await migrationStatus(this.#qmp).catch(() => undefined);
    if (status?.isUnderWay === false) this.#fail(failed(status.error ?? `its migration is ${status.status}`));
  }

  #take(bytes: Uint8Array): void {
    const before = this.#records;
    try {
      this.#stream.push(bytes);
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      this.#fail(thrown);
      this.#socket?.destroy();
      return;
    }
    if (this.#stream.isRamComplete && !this.#isDraining) this.#fail(switchedOver());
    if (!this.#isDraining && bytes.length > (this.#records - before) * IDLE_BYTES_PER_PAGE) this.#rest();
    this.#onChange();
  }

  #rest(): void {
    this.#socket?.pause();
    this.#resting = setTimeout(() => this.#socket?.resume(), IDLE_PAUSE_MS);
  }

  #fail(problem: OperationError): void {
    this.#problem ??= problem;
    this.#onChange();
  }

  #throwProblem(): void {
    if (this.#problem !== undefined) throw this.#problem;
  }

  async #until(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
    const timer = setTimeout(() => this.#fail(failed(`it has not ${what} within ${timeoutMs / 1000} s`)), timeoutMs);
    try {
      for (;;) {
        this.#throwProblem();
        if (condition()) return;
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#onChange = resolve;
        await promise;
      }
    } finally {
      clearTimeout(timer);
      this.#onChange = () => {};
    }
  }
}

function failed(what: string): OperationError<"qemu-migration-failed"> {
  return new OperationError({
    code: "qemu-migration-failed",
    message: `QEMU's own side of the migration failed: ${what}.`,
    advice: "See what QEMU itself prints; devices that it cannot migrate have to be unplugged first.",
    facts: { what },
  });
}

function switchedOver(): OperationError<"qemu-migration-failed"> {
  return new OperationError({
    code: "qemu-migration-failed",
    message: "The guest was stopped before it was time, by QEMU itself or by somebody at another monitor.",
    advice:
      "Leave the guest alone while it moves; QEMU 11.1 waits to be asked only with " +
      "`-global migration.switchover-ack-legacy=on`, or a machine type of an earlier version.",
  });
}
