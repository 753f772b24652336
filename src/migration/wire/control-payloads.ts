// Small control payloads: JSON, bounded and canonical. Every accepted payload is the only encoding of its message.
//
// Canonical means: the bytes are what JSON.stringify gives for the decoded fields in the order of the schema. That
// leaves no room for white space, repeated or unknown keys, other escapes, or anything after the object.
import * as v from "valibot";
import { assert } from "../../base/assert.ts";
import type { ErrorFacts } from "../../base/errors.ts";
import { OperationError } from "../../base/errors.ts";
import { machineKinds } from "../../machine/machine.ts";
import { wireError } from "./errors.ts";
import { isPageSize, memoryBytesMax, pageBytesMax, pageBytesMin, payloadLengths } from "./frame.ts";
import type { Abort, ErrorMessage, MessageKind, MessageOf, MigrationId } from "./protocol.ts";

/** Characters that would let a peer write escape sequences, forged lines or reversed text to a terminal or log. */
const unsafeCharacters = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;
const textMax = { message: 512, advice: 256, fact: 128, program: 128 } as const;
const factsMax = 16;
const partsMax = 32;

const text = (charactersMax: number) =>
  v.pipe(
    v.string(),
    v.maxLength(charactersMax),
    v.check((value) => !unsafeCharacters.test(value), "control characters"),
  );
const kebabName = v.pipe(v.string(), v.maxLength(64), v.regex(/^[a-z0-9]+(-[a-z0-9]+)*$/));
const camelName = v.pipe(
  v.string(),
  v.maxLength(32),
  v.regex(/^[a-z][A-Za-z0-9]*$/),
  // The validator leaves these keys of a record out for safety's sake; refusing them says so.
  v.check((key) => key !== "constructor" && key !== "prototype", "reserved name"),
);
const integer = (minimum: number, maximum: number) =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(minimum), v.maxValue(maximum));
const version = integer(1, 0xffff);
const milliseconds = v.pipe(v.number(), v.finite(), v.minValue(0), v.maxValue(1e9));

const capabilities = v.pipe(
  v.array(kebabName),
  v.maxLength(32),
  v.check((names) => names.every((name, i) => i === 0 || (names[i - 1] as string) < name), "not sorted"),
);
const migrationId = v.pipe(
  v.string(),
  v.regex(/^[0-9a-f]{32}$/),
  v.transform((digits) => digits as MigrationId),
);

function isWholePages(memoryBytes: number, pageBytes: number): boolean {
  return isPageSize(pageBytes) && memoryBytes % pageBytes === 0 && memoryBytes / pageBytes < 2 ** 32;
}

/** Base64 of some kilobytes; with the rest it fits into an offer's frame. */
const machineHintCharactersMax = 12_288;

const schemas = {
  hello: v.pipe(
    v.strictObject({ minVersion: version, maxVersion: version, capabilities, program: text(textMax.program) }),
    v.check((hello) => hello.minVersion <= hello.maxVersion, "empty version range"),
  ),
  "hello-ack": v.strictObject({ version, capabilities, program: text(textMax.program) }),
  offer: v.pipe(
    v.strictObject({
      migrationId,
      machine: v.picklist(machineKinds),
      memoryBytes: integer(pageBytesMin, memoryBytesMax),
      pageBytes: integer(pageBytesMin, pageBytesMax),
      strategy: kebabName,
      vfModel: kebabName,
      vfStateVersion: integer(0, 0xffff),
      machineStateVersion: integer(0, 0xffff),
      queuePairs: integer(0, 0xff),
      mac: v.pipe(v.string(), v.regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/)),
      machineHint: v.exactOptional(v.pipe(v.string(), v.base64(), v.maxLength(machineHintCharactersMax))),
    }),
    v.check((offer) => isWholePages(offer.memoryBytes, offer.pageBytes), "memory is not whole pages of a power of two"),
  ),
  ready: v.strictObject({
    partsMs: v.pipe(
      v.record(camelName, milliseconds),
      v.check((parts) => Object.keys(parts).length <= partsMax, "too many parts"),
    ),
  }),
  abort: v.strictObject({ code: kebabName, message: text(textMax.message) }),
  error: v.strictObject({
    code: kebabName,
    message: text(textMax.message),
    advice: text(textMax.advice),
    facts: v.pipe(
      v.record(camelName, v.union([text(textMax.fact), v.pipe(v.number(), v.finite()), v.boolean()])),
      v.check((facts) => Object.keys(facts).length <= factsMax, "too many facts"),
    ),
  }),
} as const;

export type ControlKind = keyof typeof schemas;
export type ControlMessage = MessageOf<ControlKind>;

export function isControlKind(kind: MessageKind): kind is ControlKind {
  return Object.hasOwn(schemas, kind);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The payload of a control message. What does not fit the schema is the programmer's error. */
export function encodeControl(message: ControlMessage): Uint8Array {
  const { kind, ...fields } = message;
  const checked = v.safeParse(schemas[kind], fields);
  assert(checked.success, `${kind}: ${checked.success ? "" : issueText(checked.issues[0])}`);
  const payload = encoder.encode(JSON.stringify(checked.output));
  assert(payload.length <= payloadLengths[kind].maxBytes, `${kind} payload of ${payload.length} bytes`);
  return payload;
}

/** Throws `wire-payload` for anything but the canonical encoding of a valid message. */
export function decodeControl(kind: ControlKind, payload: Uint8Array): ControlMessage {
  const json = decodeText(kind, payload);
  const checked = v.safeParse(schemas[kind], parseJson(kind, json));
  if (!checked.success) throw wireError("wire-payload", `${kind}: ${issueText(checked.issues[0])}`, { kind });
  if (JSON.stringify(checked.output) !== json) {
    throw wireError("wire-payload", `${kind}: the JSON is not in canonical form`, { kind });
  }
  return { kind, ...checked.output } as ControlMessage;
}

function decodeText(kind: ControlKind, payload: Uint8Array): string {
  try {
    return decoder.decode(payload);
  } catch {
    throw wireError("wire-payload", `${kind}: the text is not UTF-8`, { kind });
  }
}

function parseJson(kind: ControlKind, json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    throw wireError("wire-payload", `${kind}: the text is not JSON`, { kind });
  }
}

/** Which field is wrong and why, in our own words only: the peer's text is not repeated. */
function issueText(issue: v.BaseIssue<unknown>): string {
  const field = typeof issue.path?.[0]?.key === "string" ? issue.path[0].key : "payload";
  return `${camelField(field)} is not valid (${issue.type.replaceAll("_", " ")})`;
}

function camelField(name: string): string {
  return /^[A-Za-z]{1,32}$/.test(name) ? name : "a field";
}

function clipped(value: string, charactersMax: number): string {
  const safe = value.replace(new RegExp(unsafeCharacters.source, "gu"), " ");
  if (safe.length <= charactersMax) return safe;
  // A cut inside a surrogate pair would leave half a character.
  return `${safe.slice(0, charactersMax - 1).replace(/\p{Cs}$/u, "")}…`;
}

function clippedFacts(facts: ErrorFacts): ErrorFacts {
  const entries = Object.entries(facts)
    .filter(([key]) => v.is(camelName, key))
    .slice(0, factsMax)
    .map(([key, value]): [string, string | number | boolean] => {
      if (typeof value === "string") return [key, clipped(value, textMax.fact)];
      return [key, typeof value === "number" && !Number.isFinite(value) ? String(value) : value];
    });
  return Object.fromEntries(entries);
}

/** The `error` message that tells the peer of a failure; text that is too long or unsafe for the wire is clipped. */
export function errorMessageOf(error: OperationError): ErrorMessage {
  return {
    kind: "error",
    code: v.is(kebabName, error.code) ? error.code : "operation-failed",
    message: clipped(error.message, textMax.message),
    advice: clipped(error.advice, textMax.advice),
    facts: clippedFacts(error.facts),
  };
}

/** A said `error` or `abort` as an OperationError with the same code; the fact `toldByPeer` says who said it. */
export function errorOfMessage(message: ErrorMessage | Abort, sender: "self" | "peer"): OperationError {
  const { code, message: sentence } = message;
  const advice =
    message.kind === "error" ? message.advice : "The guest stays where it was; migrate again when you want to.";
  const facts = { ...(message.kind === "error" ? message.facts : {}), toldByPeer: sender === "peer" };
  return new OperationError({ code, message: sentence, advice, facts });
}
