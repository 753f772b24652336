// What a controller may ask of a VF server: one JSON object a line, checked in every field before anything is done.
import path from "node:path";
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";

/** Changes when a request or an answer does; the server says it first. */
export const CONTROL_PROTOCOL = 1;
/** Paths are the longest things in a request. */
export const REQUEST_BYTES_MAX = 32 * 1024;

const filePath = v.pipe(v.string(), v.maxLength(4096), v.check(path.isAbsolute, "a path from the root"));
const tcpAddress = v.strictObject({
  host: v.pipe(v.string(), v.minLength(1), v.maxLength(255)),
  port: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535)),
});
const tls = v.strictObject({ ca: filePath, certificate: filePath, key: filePath });
const whole = (min: number, max: number) => v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));

/** Which QEMU it is about, and how the two hosts are to speak. */
const common = {
  /** QEMU's QMP socket. */
  qmp: filePath,
  /** The id= of the VF among QEMU's devices; may be left out where it has only one such. */
  device: v.exactOptional(v.pipe(v.string(), v.minLength(1), v.maxLength(255))),
  tls: v.exactOptional(tls),
};

/** Move the guest to where somebody expects one. */
const move = v.strictObject({
  ...common,
  to: tcpAddress,
  strategy: v.pipe(v.string(), v.maxLength(64)),
  downtimeLimitMs: whole(1, 60_000),
  bandwidthBytesPerSecond: v.exactOptional(v.pipe(v.number(), v.minValue(1), v.maxValue(1e12))),
  roundsMax: whole(1, 1000),
  ifNotConverging: v.picklist(["switch-over", "give-up"]),
});

/** Take a guest in. */
const expectGuest = v.strictObject({ ...common, at: tcpAddress });

const nothing = v.strictObject({});

const request = v.union([
  v.strictObject({ move }),
  v.strictObject({ expect: expectGuest }),
  /** After a move whose outcome nobody knows: the person has made sure that the guest runs nowhere else. */
  v.strictObject({ takeBack: nothing }),
  v.strictObject({ status: nothing }),
  /** Of the move, or the waiting, that this connection asked for. To hang up says the same. */
  v.strictObject({ cancel: nothing }),
]);

export type MoveRequest = v.InferOutput<typeof move>;
export type ExpectRequest = v.InferOutput<typeof expectGuest>;
export type Request = v.InferOutput<typeof request>;

/** Throws OperationError `control-request-invalid`. */
export function readRequest(value: unknown): Request {
  const checked = v.safeParse(request, value, { abortEarly: true });
  if (checked.success) return checked.output;
  throw new OperationError({
    code: "control-request-invalid",
    message: `The request is none that a VF server knows: ${whatIsWrong(value)}.`,
    advice: "Run the same version of Underway for `sidecar` and for `vf serve`.",
  });
}

/** A union of objects complains of all its members; the one that was meant tells more. */
function whatIsWrong(value: unknown): string {
  for (const [name, schema] of [
    ["move", move],
    ["expect", expectGuest],
  ] as const) {
    if (typeof value !== "object" || value === null || !(name in value)) continue;
    const checked = v.safeParse(schema, (value as Record<string, unknown>)[name], { abortEarly: true });
    if (checked.success) return "there is something beside it";
    const [issue] = checked.issues;
    return `${[name, v.getDotPath(issue)].filter((part) => part !== null).join(".")}: ${issue.message}`;
  }
  return "it is not one of move, expect, takeBack, status, cancel";
}
