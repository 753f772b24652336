// What QEMU says over QMP: greeting, replies and events (docs/interop/qmp-spec.rst and qapi/*.json), checked as they come.
import * as v from "valibot";

/** Text that goes into an error or a log: QEMU's own sentences are far shorter. */
const words = v.pipe(
  v.string(),
  v.transform((text) => text.slice(0, 2000)),
);
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(200));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** States of `query-migrate` and of the MIGRATION event (qapi/migration.json, MigrationStatus). */
const migrationStatuses = [
  "none",
  "setup",
  "cancelling",
  "cancelled",
  "active",
  "postcopy-device",
  "postcopy-active",
  "postcopy-paused",
  "postcopy-recover-setup",
  "postcopy-recover",
  "completed",
  "failing",
  "failed",
  "colo",
  "pre-switchover",
  "device",
  "wait-unplug",
] as const;

const version = v.object({ major: count, minor: count, micro: count });
export type QemuVersion = v.InferOutput<typeof version>;

const greetingSchema = v.object({ QMP: v.object({ version: v.object({ qemu: version }) }) });
const returnSchema = v.object({ id: count, return: v.unknown() });
const errorSchema = v.object({ id: v.optional(count), error: v.object({ class: words, desc: words }) });
/** Host wall-clock time; QEMU gives -1 for both when it cannot tell. */
const timestamp = v.object({ seconds: v.number(), microseconds: v.number() });
const eventSchema = v.object({ event: name, data: v.optional(v.unknown()), timestamp });

const none = v.optional(v.unknown());
const eventData = {
  STOP: none,
  RESUME: none,
  RESET: v.object({ guest: v.boolean(), reason: words }),
  SHUTDOWN: v.object({ guest: v.boolean(), reason: words }),
  MIGRATION: v.object({ status: v.picklist(migrationStatuses) }),
  MIGRATION_PASS: v.object({ pass: count }),
  /** `device` is the id it was given, if any. */
  DEVICE_DELETED: v.object({ device: v.optional(name), path: words }),
  DEVICE_UNPLUG_GUEST_ERROR: v.object({ device: v.optional(name), path: words }),
  UNPLUG_PRIMARY: v.object({ "device-id": name }),
  FAILOVER_NEGOTIATED: v.object({ "device-id": name }),
} as const;
type EventName = keyof typeof eventData;

type KnownEvent = {
  [Name in EventName]: {
    readonly kind: Name;
    readonly atMs: number;
    readonly data: v.InferOutput<(typeof eventData)[Name]>;
  };
}[EventName];

/**
 * An event of QEMU, `atMs` in Unix time, fractional. `other` is every event that is not named here, or that carries what
 * is not known here, such as the migration status of a QEMU still to come.
 */
export type QmpEvent =
  | KnownEvent
  | { readonly kind: "other"; readonly atMs: number; readonly name: string; readonly data: unknown };

export type QmpMessage =
  | { readonly kind: "greeting"; readonly version: QemuVersion }
  | { readonly kind: "return"; readonly id: number; readonly value: unknown }
  /** Without an id when QEMU could not read the command it belongs to. */
  | { readonly kind: "error"; readonly id: number | undefined; readonly class: string; readonly desc: string }
  | { readonly kind: "event"; readonly event: QmpEvent };

/** Reads one line of QEMU's, or gives undefined for what QMP does not allow. */
export function readQmpMessage(value: unknown): QmpMessage | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if ("event" in value) {
    const event = v.safeParse(eventSchema, value);
    return event.success ? { kind: "event", event: readEvent(event.output) } : undefined;
  }
  if ("error" in value) {
    const error = v.safeParse(errorSchema, value);
    return error.success ? { kind: "error", id: error.output.id, ...error.output.error } : undefined;
  }
  if ("QMP" in value) {
    const greeting = v.safeParse(greetingSchema, value);
    return greeting.success ? { kind: "greeting", version: greeting.output.QMP.version.qemu } : undefined;
  }
  const reply = v.safeParse(returnSchema, value);
  return reply.success ? { kind: "return", id: reply.output.id, value: reply.output.return } : undefined;
}

function readEvent(event: v.InferOutput<typeof eventSchema>): QmpEvent {
  const atMs = event.timestamp.seconds * 1000 + event.timestamp.microseconds / 1000;
  if (isKnown(event.event)) {
    const data = v.safeParse<v.GenericSchema>(eventData[event.event], event.data);
    if (data.success) return { kind: event.event, atMs, data: data.output } as KnownEvent;
  }
  return { kind: "other", atMs, name: event.event, data: event.data };
}

function isKnown(event: string): event is EventName {
  return Object.hasOwn(eventData, event);
}
