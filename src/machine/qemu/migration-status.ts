// What QEMU says of its migration, the outgoing or the incoming one.
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import type { QmpClient } from "./qmp.ts";

const reply = v.object({ status: v.optional(v.string(), "none"), "error-desc": v.optional(v.string()) });
const settled: ReadonlySet<string> = new Set(["none", "completed", "failed", "cancelled"]);
const POLL_MS = 1;

export interface MigrationStatus {
  /** QEMU's word, `none` before the first. */
  readonly status: string;
  readonly error: string | undefined;
  readonly isUnderWay: boolean;
}

/** Rejects as QmpClient. */
export async function migrationStatus(qmp: QmpClient): Promise<MigrationStatus> {
  const { status, "error-desc": error } = await qmp.execute("query-migrate", reply);
  return { status, error, isUnderWay: !settled.has(status) };
}

/** Waits until it is not under way. Rejects with OperationError `qemu-migration-stuck`, or as QmpClient. */
export async function waitUntilSettled(qmp: QmpClient, timeoutMs: number): Promise<MigrationStatus> {
  const startMs = performance.now();
  for (;;) {
    const status = await migrationStatus(qmp);
    if (!status.isUnderWay) return status;
    if (performance.now() - startMs > timeoutMs) throw stuck(status.status, timeoutMs);
    await sleep(POLL_MS);
  }
}

function stuck(status: string, timeoutMs: number): OperationError<"qemu-migration-stuck"> {
  return new OperationError({
    code: "qemu-migration-stuck",
    message: `QEMU's migration is still "${status}" after ${timeoutMs / 1000} s.`,
    advice: "Look at `info migrate` in QEMU's monitor, and cancel it there with `migrate_cancel`.",
    facts: { status },
  });
}
