// What can be asked of the fabric process and what it reports; requests are checked where they arrive.
import * as v from "valibot";
import { OperationError } from "../base/errors.ts";
import type { SwitchCounters } from "../network/counters.ts";
import { FRAME_BYTES_MAX } from "../network/ethernet.ts";
import { echoFrameBytes } from "../network/icmp.ts";
import type { Ipv4Address } from "../network/ipv4.ts";
import type { PeerCounters } from "../network/peer.ts";
import type { PingReport } from "../network/ping-log.ts";
import type { MacMove } from "../network/switch.ts";
import type { CaptureSummary } from "./capture-file.ts";

/** Ports that are always there, beside one for each cable. */
export const PEER_PORT = "peer";
export const UPLINK_PORT = "passt";

const portName = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9-]{0,31}$/));
const finite = v.pipe(v.number(), v.finite());
const positive = v.pipe(finite, v.gtValue(0));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const ipv4 = v.custom<Ipv4Address>((value) => Number.isInteger(value) && (value as number) >>> 0 === value);
const pingerName = v.pipe(v.string(), v.minLength(1), v.maxLength(64));
const payloadBytesMax = FRAME_BYTES_MAX - echoFrameBytes(0);

export const startSchema = v.strictObject({
  /** Folder for the cables' sockets. */
  directory: v.pipe(v.string(), v.minLength(1)),
  /** One port for each; where to plug in is told by `cablePath`. */
  cables: v.pipe(v.array(portName), v.maxLength(64)),
  seed: v.pipe(v.number(), v.safeInteger()),
});

export const setLinkSchema = v.strictObject({
  port: portName,
  /** Administrative state: a port that is up works while its cable is plugged in. */
  up: v.exactOptional(v.boolean()),
  /** Bits per second; null is as fast as the host is. */
  speedBitsPerSecond: v.exactOptional(v.nullable(positive)),
  /** Share of frames lost in each direction, 0 to 1. */
  lossRate: v.exactOptional(v.pipe(finite, v.minValue(0), v.maxValue(1))),
});

export const startPingerSchema = v.strictObject({
  name: pingerName,
  /** Default: the guest of the network plan. */
  targetIp: v.exactOptional(ipv4),
  /** Milliseconds between requests, fractional. */
  intervalMs: v.pipe(positive, v.minValue(0.001)),
  payloadBytes: v.pipe(count, v.maxValue(payloadBytesMax)),
  seed: v.pipe(v.number(), v.safeInteger()),
  timeoutMs: v.exactOptional(positive),
});

export const pingerSchema = v.strictObject({ name: pingerName });

/** Times are on the host's clock. */
export const pingReportSchema = v.strictObject({
  name: pingerName,
  sentFromMs: v.exactOptional(finite),
  sentBeforeMs: v.exactOptional(finite),
  answeredAfterMs: v.exactOptional(finite),
});

export const captureSchema = v.strictObject({ path: v.pipe(v.string(), v.minLength(1)) });
export const passtSchema = v.strictObject({ program: v.pipe(v.string(), v.minLength(1)) });
export const nothingSchema = v.null();

export interface FabricCounters {
  /** When they were taken, on the host's clock. */
  readonly atMs: number;
  readonly switch: SwitchCounters;
  readonly peer: PeerCounters;
  /** Cables that came while another was plugged in, and were turned away. */
  readonly cablesTurnedAway: number;
  /** Cables unplugged by the fabric since what came over them made no sense. */
  readonly cablesGarbled: number;
}

type In<Schema extends v.GenericSchema> = v.InferInput<Schema>;

/** The fabric's methods, for `Child` and `serveParent`. A bad parameter is refused with `fabric-request-invalid`. */
export type FabricMethods = {
  /** First of all. Rejects with `socket-path-unusable`. */
  start(parameters: In<typeof startSchema>): Promise<null>;
  /** Rejects with `port-unknown`. */
  setLink(parameters: In<typeof setLinkSchema>): Promise<null>;
  counters(parameters: null): Promise<FabricCounters>;
  /** Rejects with `pinger-exists`. */
  startPinger(parameters: In<typeof startPingerSchema>): Promise<null>;
  /** Rejects with `pinger-unknown`. */
  stopPinger(parameters: In<typeof pingerSchema>): Promise<null>;
  /** Rejects with `pinger-unknown`. */
  pingReport(parameters: In<typeof pingReportSchema>): Promise<PingReport>;
  /** Rejects with `capture-failed` or `capture-runs`. */
  startCapture(parameters: In<typeof captureSchema>): Promise<null>;
  /** Null when none runs. Rejects with `capture-failed`. */
  stopCapture(parameters: null): Promise<CaptureSummary | null>;
  /** Plugs passt into the port `passt`. Rejects with `passt-failed`, after which the fabric is as usable as before. */
  connectPasst(parameters: In<typeof passtSchema>): Promise<{ pid: number }>;
};

export type FabricEvent =
  | ({ readonly kind: "mac-moved" } & MacMove)
  | { readonly kind: "plugged"; readonly port: string; readonly atMs: number }
  | { readonly kind: "unplugged"; readonly port: string; readonly atMs: number; readonly why: string };

/** Parses a request. Throws OperationError `fabric-request-invalid`. */
export function checked<Schema extends v.GenericSchema>(schema: Schema, request: unknown): v.InferOutput<Schema> {
  const result = v.safeParse(schema, request);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const where = v.getDotPath(issue) ?? "the request";
  throw new OperationError({
    code: "fabric-request-invalid",
    message: `${where}: ${issue.message}`,
    advice: "See src/host/fabric-messages.ts for what the fabric takes.",
    facts: { where },
  });
}
