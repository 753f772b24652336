// A migration by QEMU alone, its RAM and all, straight from one QEMU to the other: nothing of ours is in it.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import type { QmpClient } from "./qmp.ts";
import type { QmpEvent } from "./qmp-messages.ts";

export interface PlainMigrationOptions {
  readonly source: QmpClient;
  /** Of a QEMU started with `-S -incoming defer`. */
  readonly destination: QmpClient;
  readonly downtimeLimitMs: number;
  /** Left out: as fast as it goes. */
  readonly bandwidthBytesPerSecond?: number;
  /** Passes after which `ifNotConverging` says what becomes of it. */
  readonly passesMax: number;
  readonly ifNotConverging: "switch-over" | "give-up";
  readonly onPass?: (pass: MigrationPass) => void;
  /** QEMU's word for where the source is: `wait-unplug`, `active`, `device` and so on. */
  readonly onStatus?: (status: string) => void;
  /** Cancels it; the guest then runs on, on the source. */
  readonly signal: AbortSignal;
}

/** One pass over what was dirty, as far as QEMU had counted when it was asked at its end. */
export interface MigrationPass {
  /** 1 sends all of RAM. */
  readonly pass: number;
  readonly pages: number;
  readonly zeroPages: number;
  readonly bytes: number;
  readonly dirtyAfter: number;
  /** Null where QEMU does not say. */
  readonly expectedDowntimeMs: number | null;
}

/** Times of day are Unix time in milliseconds, fractional, from the QMP events. */
export interface PlainMigration {
  /** The source's CPUs had stopped. */
  readonly stoppedAtMs: number;
  /** The destination's CPUs ran. */
  readonly resumedAtMs: number;
  /** What the source's QEMU itself calls the downtime, and the whole: whole milliseconds, `query-migrate`. */
  readonly downtimeMs: number;
  readonly totalMs: number;
  readonly bytesSent: number;
}

/** Nobody waits for that long: QEMU switches over whatever is dirty. */
const ANY_DOWNTIME_MS = 60_000;
/** From the source's last word to the destination's. */
const RESUME_TIMEOUT_MS = 10_000;
const PAGE_BYTES = 4096;

const count = v.pipe(v.number(), v.minValue(0));
const ram = v.object({ transferred: count, remaining: count, duplicate: count, normal: count });
const replySchema = v.object({
  status: v.optional(v.string(), "none"),
  "error-desc": v.optional(v.string()),
  downtime: v.optional(count),
  "total-time": v.optional(count),
  "expected-downtime": v.optional(count),
  ram: v.optional(ram),
});
type Ram = v.InferOutput<typeof ram>;
const listening = v.object({ host: v.string(), port: v.string() });
const listeningSchema = v.object({ "socket-address": v.tupleWithRest([listening], v.unknown()) });

/**
 * Moves the guest, which goes on on the destination as soon as QEMU can make it. Rejects with OperationError `cancelled`,
 * `not-converging` or `qemu-migration-failed` (in which QEMU says why), the guest running on on the source; or as QmpClient.
 */
export async function migratePlainly(options: PlainMigrationOptions): Promise<PlainMigration> {
  const uri = await makeReady(options);
  return await new Move(options).carryOut(uri);
}

/** Sets both QEMUs up, and has the destination listen. Gives its address. */
async function makeReady(options: PlainMigrationOptions): Promise<string> {
  const { source, destination, downtimeLimitMs, bandwidthBytesPerSecond = 0 } = options;
  const capabilities = ["events", "return-path"].map((capability) => ({ capability, state: true }));
  await Promise.all([
    source.run("migrate-set-capabilities", { capabilities }),
    source.run("migrate-set-parameters", {
      "max-bandwidth": Math.round(bandwidthBytesPerSecond),
      "downtime-limit": downtimeLimitMs,
    }),
    destination.run("migrate-set-capabilities", { capabilities }),
    destination.run("migrate-incoming", { uri: "tcp:127.0.0.1:0", "exit-on-error": false }),
    // To a QEMU that waits for a guest this says that it is to run it at once (qmp_cont, RUN_STATE_INMIGRATE).
    destination.run("cont"),
  ]);
  const { "socket-address": addresses } = await destination.execute("query-migrate", listeningSchema);
  const [{ host, port }] = addresses;
  return `tcp:${host}:${port}`;
}

class Move {
  readonly #options: PlainMigrationOptions;
  readonly #settled = Promise.withResolvers<void>();
  readonly #resumed = Promise.withResolvers<number>();
  #stoppedAtMs = 0;
  #isGivenUp = false;
  #before: Ram = { transferred: 0, remaining: 0, duplicate: 0, normal: 0 };
  #lastPass = 0;

  constructor(options: PlainMigrationOptions) {
    this.#options = options;
  }

  async carryOut(uri: string): Promise<PlainMigration> {
    const { source, destination, signal } = this.#options;
    const cancel = (): void => void source.run("migrate_cancel").catch(() => {});
    const ends = [
      source.onEvent((event) => this.#sourceSays(event)),
      destination.onEvent((event) => this.#resumes(event)),
    ];
    signal.addEventListener("abort", cancel);
    try {
      await source.run("migrate", { uri });
      if (signal.aborted) cancel();
      await Promise.race([this.#settled.promise, closed(source), closed(destination)]);
      return await this.#outcome();
    } finally {
      signal.removeEventListener("abort", cancel);
      for (const end of ends) end();
    }
  }

  async #outcome(): Promise<PlainMigration> {
    const said = await this.#options.source.execute("query-migrate", replySchema);
    if (said.status !== "completed") throw this.#whyNot(said.status, said["error-desc"]);
    const timer = setTimeout(() => this.#resumed.reject(failed("the destination does not run")), RESUME_TIMEOUT_MS);
    const resumedAtMs = await this.#resumed.promise.finally(() => clearTimeout(timer));
    return {
      stoppedAtMs: this.#stoppedAtMs,
      resumedAtMs,
      downtimeMs: said.downtime ?? 0,
      totalMs: said["total-time"] ?? 0,
      bytesSent: said.ram?.transferred ?? 0,
    };
  }

  #sourceSays(event: QmpEvent): void {
    if (event.kind === "STOP") this.#stoppedAtMs = event.atMs;
    if (event.kind === "MIGRATION_PASS") void this.#passes(event.data.pass);
    if (event.kind !== "MIGRATION") return;
    const { status } = event.data;
    this.#options.onStatus?.(status);
    if (status === "completed" || status === "failed" || status === "cancelled") this.#settled.resolve();
  }

  #resumes(event: QmpEvent): void {
    if (event.kind === "RESUME") this.#resumed.resolve(event.atMs);
  }

  /** QEMU counts a pass when it begins: what it then has sent more than before was sent by the one before. */
  async #passes(begun: number): Promise<void> {
    const { source, onPass } = this.#options;
    const said = await source.execute("query-migrate", replySchema).catch(() => undefined);
    if (said?.ram === undefined || begun <= this.#lastPass) return;
    this.#lastPass = begun;
    if (begun === 1) return;
    const [now, before] = [said.ram, this.#before];
    this.#before = now;
    onPass?.({
      pass: begun - 1,
      pages: now.normal - before.normal,
      zeroPages: now.duplicate - before.duplicate,
      bytes: now.transferred - before.transferred,
      dirtyAfter: Math.ceil(now.remaining / PAGE_BYTES),
      expectedDowntimeMs: said["expected-downtime"] ?? null,
    });
    if (said.status === "active" && begun > this.#options.passesMax) await this.#endIt().catch(() => {});
  }

  async #endIt(): Promise<void> {
    const { source, ifNotConverging } = this.#options;
    if (ifNotConverging === "switch-over") {
      await source.run("migrate-set-parameters", { "downtime-limit": ANY_DOWNTIME_MS });
    } else {
      this.#isGivenUp = true;
      await source.run("migrate_cancel");
    }
  }

  #whyNot(status: string, error: string | undefined): OperationError {
    if (status !== "cancelled") return failed(error ?? `its migration is ${status}`);
    return this.#isGivenUp ? notConverging(this.#lastPass - 1) : cancelled();
  }
}

async function closed(qmp: QmpClient): Promise<never> {
  throw await qmp.closed;
}

function failed(what: string): OperationError<"qemu-migration-failed"> {
  return new OperationError({
    code: "qemu-migration-failed",
    message: `QEMU's migration failed: ${what}.`,
    advice: "See what QEMU says; both QEMUs have to be of the same version, with the same devices.",
    facts: { what },
  });
}

function notConverging(passes: number): OperationError<"not-converging"> {
  return new OperationError({
    code: "not-converging",
    message: `After ${passes} passes the guest still dirties memory faster than QEMU can send it.`,
    advice: "Allow a longer downtime, more bandwidth or more rounds, or ask to switch over anyway.",
    facts: { passes },
  });
}

function cancelled(): OperationError<"cancelled"> {
  return new OperationError({
    code: "cancelled",
    message: "The migration was cancelled. The guest runs on the source.",
    advice: "Start a new migration when you want to move it.",
    facts: { outcome: "resumed" },
  });
}
