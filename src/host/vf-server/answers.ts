// What a VF server tells its controller: a greeting, what happens, and how it ended; checked again where it is read.
import * as v from "valibot";
import { downtimeParts, type MigrationEvent, type MigrationPhase } from "../../migration/events.ts";
import { CONTROL_PROTOCOL } from "./requests.ts";

export const ANSWER_BYTES_MAX = 256 * 1024;

const text = v.string();
const count = v.pipe(v.number(), v.minValue(0));

const failure = v.object({
  code: text,
  message: text,
  advice: text,
  facts: v.record(text, v.union([text, v.number(), v.boolean()])),
});

const phases = [
  "negotiate",
  "pre-copy",
  "switchover",
  "hand-over",
  "completed",
  "resumed",
  "outcome-unknown",
] as const satisfies readonly MigrationPhase[];

/** JSON has no infinity: a time that nobody can tell is null. */
const perhapsInfinite = v.pipe(
  v.nullable(v.number()),
  v.transform((value) => value ?? Infinity),
);

const roundSummary = v.object({
  round: count,
  pages: count,
  zeroPages: count,
  bytes: count,
  durationMs: count,
  dirtyAfter: count,
  bytesPerSecond: count,
  expectedDowntimeMs: perhapsInfinite,
});

const queueCut = v.object({
  queue: count,
  headAtPause: count,
  head: count,
  tail: count,
  carried: count,
  turnedBack: count,
  frameInProgress: v.boolean(),
});

const at = { atMs: v.number() };
const migrationEvent: v.GenericSchema<unknown, MigrationEvent> = v.variant("kind", [
  v.object({ ...at, kind: v.literal("phase"), phase: v.picklist(phases) }),
  v.object({
    ...at,
    kind: v.literal("round-progress"),
    round: count,
    pagesDone: count,
    pagesTotal: count,
    bytes: count,
  }),
  v.object({ ...at, kind: v.literal("round"), summary: roundSummary }),
  v.object({ ...at, kind: v.literal("vcpus-paused") }),
  v.object({ ...at, kind: v.literal("device-stopped") }),
  v.object({ ...at, kind: v.literal("cut"), queues: v.array(queueCut) }),
  v.object({ ...at, kind: v.literal("downtime-part"), part: v.picklist(downtimeParts), durationMs: v.number() }),
  v.object({ ...at, kind: v.literal("running") }),
  v.object({
    ...at,
    kind: v.literal("failed"),
    code: text,
    message: text,
    facts: v.record(text, v.union([text, v.number(), v.boolean()])),
  }),
]);

const status = v.object({
  mac: text,
  uplink: v.object({ kind: text, isUp: v.boolean() }),
  /** `shared`: a client is there, and has shared its guest's memory. */
  client: v.picklist(["none", "connected", "shared"]),
  memoryBytes: v.nullable(count),
  /** What a controller is having done. */
  job: v.nullable(v.picklist(["move", "expect"])),
  /** A move ended with nobody knowing where the guest is. */
  isOutcomeUnknown: v.boolean(),
  faults: count,
});

const end = v.variant("kind", [
  /** The guest runs on the destination. */
  v.object({
    kind: v.literal("completed"),
    bytesSent: count,
    methods: v.object({ cpuDirtyLog: text, tracker: text }),
  }),
  /** The guest runs here, with a working card. */
  v.object({ kind: v.literal("resumed"), failure }),
  /** Nobody could be asked; the guest stands still here. */
  v.object({ kind: v.literal("outcome-unknown"), failure }),
  /** The guest that was expected runs here. */
  v.object({ kind: v.literal("arrived") }),
  /** The guest that was expected does not run here. */
  v.object({ kind: v.literal("discarded"), failure }),
  v.object({ kind: v.literal("taken-back") }),
]);

const answer = v.variant("kind", [
  v.object({ kind: v.literal("hello"), program: v.literal("underway"), protocol: v.number() }),
  v.object({ kind: v.literal("status"), status }),
  /** What is being done, for a person. */
  v.object({ kind: v.literal("stage"), text }),
  v.object({ kind: v.literal("listening"), host: text, port: count }),
  v.object({ kind: v.literal("migration"), event: migrationEvent }),
  /** The request was not carried out, or not begun. */
  v.object({ kind: v.literal("refused"), failure }),
  v.object({ kind: v.literal("ended"), end }),
]);

export type Answer = v.InferOutput<typeof answer>;
export type Failure = v.InferOutput<typeof failure>;
export type ServerStatus = v.InferOutput<typeof status>;
export type JobEnd = v.InferOutput<typeof end>;
export type MoveEnd = Extract<JobEnd, { kind: "completed" | "resumed" | "outcome-unknown" }>;
export type ExpectEnd = Extract<JobEnd, { kind: "arrived" | "discarded" }>;

export const greeting: Answer = { kind: "hello", program: "underway", protocol: CONTROL_PROTOCOL };

/** Undefined for what no server of this version says. */
export function readAnswer(value: unknown): Answer | undefined {
  const checked = v.safeParse(answer, value, { abortEarly: true });
  return checked.success ? checked.output : undefined;
}
