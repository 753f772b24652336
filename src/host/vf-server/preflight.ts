// What can be asked of a QEMU before a move, so that what is wrong with it is said while its guest still runs.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import type { QmpClient } from "../../machine/qemu/qmp.ts";

const MINIMUM_VERSION = { major: 10, minor: 1 };

const runState = v.object({ status: v.string(), running: v.boolean() });
const memorySummary = v.object({ "base-memory": v.number(), "plugged-memory": v.optional(v.number(), 0) });
const migrationState = v.object({
  status: v.optional(v.string(), "none"),
  "blocked-reasons": v.optional(v.array(v.string()), []),
});
const settled: ReadonlySet<string> = new Set(["none", "completed", "failed", "cancelled"]);

/**
 * Rejects with OperationError `qemu-too-old`, `qemu-machine-unsupported`, `qemu-memory-mismatch`, `qemu-guest-not-running`,
 * `qemu-migration-blocked`, `qemu-migration-busy`, and as QmpClient.
 */
export async function checkSource(qmp: QmpClient, memoryBytes: number): Promise<void> {
  await checkMachine(qmp, memoryBytes);
  const { status, running } = await qmp.execute("query-status", runState);
  if (!running) throw notRunning(status);
  const { status: migrating, "blocked-reasons": reasons } = await qmp.execute("query-migrate", migrationState);
  if (reasons.length > 0) throw blocked(reasons);
  if (!settled.has(migrating)) throw busy(migrating);
}

/** Rejects with OperationError `qemu-not-expecting`, and as checkSource for the machine. */
export async function checkDestination(qmp: QmpClient, memoryBytes: number): Promise<void> {
  const { status } = await qmp.execute("query-status", runState);
  const { status: migrating } = await qmp.execute("query-migrate", migrationState);
  if (status !== "inmigrate" || migrating !== "none") throw notExpecting(status, migrating);
  await checkMachine(qmp, memoryBytes);
}

async function checkMachine(qmp: QmpClient, memoryBytes: number): Promise<void> {
  const { major, minor, micro } = qmp.version;
  if (major < MINIMUM_VERSION.major || (major === MINIMUM_VERSION.major && minor < MINIMUM_VERSION.minor)) {
    throw tooOld(`${major}.${minor}.${micro}`);
  }
  const type = await qmp.execute("qom-get", v.string(), { arguments: { path: "/machine", property: "type" } });
  if (!type.startsWith("pc-q35-")) throw wrongMachine(type);
  const memory = await qmp.execute("query-memory-size-summary", memorySummary);
  const bytes = memory["base-memory"] + memory["plugged-memory"];
  if (bytes !== memoryBytes) throw memoryMismatch(bytes, memoryBytes);
}

function tooOld(version: string): OperationError<"qemu-too-old"> {
  return new OperationError({
    code: "qemu-too-old",
    message: `This QEMU is ${version}, and vfio-user needs 10.1 or newer.`,
    advice: "Start the guest in a newer QEMU.",
    facts: { version },
  });
}

function wrongMachine(type: string): OperationError<"qemu-machine-unsupported"> {
  return new OperationError({
    code: "qemu-machine-unsupported",
    message: `This QEMU's machine is ${type}, and only q35 can be moved.`,
    advice: "Start the guest with -machine q35: the card's registers are read through its PCI Express window.",
    facts: { type },
  });
}

function memoryMismatch(bytes: number, sharedBytes: number): OperationError<"qemu-memory-mismatch"> {
  return new OperationError({
    code: "qemu-memory-mismatch",
    message: `The guest has ${bytes} bytes of memory, and the VF's client shares ${sharedBytes}.`,
    advice:
      "Name the QMP socket of the QEMU that uses this VF, and give it all its memory as one memory-backend-memfd with share=on, none of it plugged in later.",
    facts: { bytes, sharedBytes },
  });
}

function notRunning(status: string): OperationError<"qemu-guest-not-running"> {
  return new OperationError({
    code: "qemu-guest-not-running",
    message: `The guest does not run in this QEMU, which says "${status}".`,
    advice:
      status === "postmigrate"
        ? "It has moved away already: end this QEMU."
        : 'Name the QEMU whose guest is to move, and let it run (QMP\'s "cont").',
    facts: { status },
  });
}

function blocked(reasons: readonly string[]): OperationError<"qemu-migration-blocked"> {
  return new OperationError({
    code: "qemu-migration-blocked",
    message: `Something in this QEMU cannot be migrated: ${reasons.join("; ")}`,
    advice: "Start the guest without it, or unplug it before the move.",
    facts: { reasons: reasons.join("; ") },
  });
}

function busy(status: string): OperationError<"qemu-migration-busy"> {
  return new OperationError({
    code: "qemu-migration-busy",
    message: `This QEMU is in the middle of another migration, which is "${status}".`,
    advice: 'Wait for its end, or end it with QMP\'s "migrate_cancel".',
    facts: { status },
  });
}

function notExpecting(status: string, migration: string): OperationError<"qemu-not-expecting"> {
  return new OperationError({
    code: "qemu-not-expecting",
    message: `This QEMU does not wait for a guest: its state is "${status}", its migration "${migration}".`,
    advice:
      "Start the destination's QEMU anew with -S -incoming defer, and the rest of its command line like the source's.",
    facts: { status, migration },
  });
}
