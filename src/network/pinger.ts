// A stream of ICMP echo requests whose every reply is verified byte by byte, with the times of each.
import { assert } from "../base/assert.ts";
import { FRAME_BYTES_MAX } from "./ethernet.ts";
import {
  echoFrameBytes,
  ECHO_PAYLOAD_OFFSET,
  IcmpType,
  sealEchoFrame,
  type Echo,
  type ParsedEcho,
  type Station,
} from "./icmp.ts";
import { fillPingPayload } from "./ping-payload.ts";
import { PingLog, type PingReport, type PingWindow } from "./ping-log.ts";
import type { Ipv4Address } from "./ipv4.ts";

export interface PingerSettings {
  readonly targetIp: Ipv4Address;
  /** Milliseconds between requests, fractional: 0.1 is ten thousand a second. */
  readonly intervalMs: number;
  readonly payloadBytes: number;
  readonly seed: number;
  /** An unanswered request older than this counts as lost. */
  readonly timeoutMs?: number;
}

/** Echo identifiers set aside for each pinger: it takes the next one whenever its sequence numbers run over. */
export const PING_IDENTIFIERS = 0x100;
/** Requests a pinger may send, bounded by its identifiers and by the memory for their times (17 bytes each). */
const PINGS_MAX = 0x1_0000 * 64;
const TIMEOUT_MS = 1000;
/** Requests sent at once after the owner came late; time slots beyond that are skipped, and counted. */
const CATCH_UP_MAX = 64;

export class Pinger {
  readonly settings: PingerSettings;
  readonly #from: Station;
  readonly #firstIdentifier: number;
  readonly #frame: Uint8Array;
  readonly #expected: Uint8Array;
  readonly #log = new PingLog();
  #nextAtMs: number;
  #stopped = false;

  constructor(settings: PingerSettings, from: Station, options: { firstIdentifier: number; startMs: number }) {
    const frameBytes = echoFrameBytes(settings.payloadBytes);
    assert(
      settings.payloadBytes >= 0 && frameBytes <= FRAME_BYTES_MAX,
      `ping payload of ${settings.payloadBytes} bytes`,
    );
    assert(settings.intervalMs > 0, `ping interval of ${settings.intervalMs} ms`);
    this.settings = settings;
    this.#from = from;
    this.#firstIdentifier = options.firstIdentifier;
    this.#frame = new Uint8Array(frameBytes);
    this.#expected = new Uint8Array(settings.payloadBytes);
    this.#nextAtMs = options.startMs;
  }

  /** No more requests; replies to those under way still count. */
  stop(): void {
    this.#stopped = true;
  }

  nextDueMs(): number {
    return this.#stopped || this.#log.sent >= PINGS_MAX ? Infinity : this.#nextAtMs;
  }

  /** The target cannot be reached now (its MAC address is not known): time passes without a request. */
  postpone(nowMs: number): void {
    this.#nextAtMs = Math.max(this.#nextAtMs, nowMs + this.settings.intervalMs);
  }

  /** Sends the requests that are due. The frame given to `send` is good until it returns. */
  service(nowMs: number, target: Station, send: (frame: Uint8Array) => void): void {
    for (let burst = 0; burst < CATCH_UP_MAX && this.nextDueMs() <= nowMs; burst++) {
      this.#nextAtMs += this.settings.intervalMs;
      this.#sendOne(nowMs, target, send);
    }
    if (this.nextDueMs() > nowMs) return;
    const slots = Math.floor((nowMs - this.#nextAtMs) / this.settings.intervalMs) + 1;
    this.#nextAtMs += slots * this.settings.intervalMs;
    this.#log.skipped += slots;
  }

  /** Takes an echo reply. False when it answers none of this pinger's requests. */
  reply(nowMs: number, echo: ParsedEcho, frame: Uint8Array): boolean {
    const index = ((echo.identifier - this.#firstIdentifier) & 0xffff) * 0x1_0000 + echo.sequence;
    if (echo.source !== this.settings.targetIp || index >= this.#log.sent) return false;
    this.#log.reply(index, nowMs, echo.checksumValid && this.#isPayload(index, echo, frame));
    return true;
  }

  report(nowMs: number, window?: PingWindow): PingReport {
    return this.#log.report(nowMs - (this.settings.timeoutMs ?? TIMEOUT_MS), window);
  }

  #sendOne(nowMs: number, target: Station, send: (frame: Uint8Array) => void): void {
    const index = this.#log.send(nowMs);
    fillPingPayload(this.#frame, ECHO_PAYLOAD_OFFSET, this.settings.seed, index);
    const identifier = (this.#firstIdentifier + (index >>> 16)) & 0xffff;
    const echo: Echo = { type: IcmpType.echoRequest, identifier, sequence: index & 0xffff };
    sealEchoFrame(this.#frame, this.#from, target, echo);
    send(this.#frame);
  }

  #isPayload(index: number, echo: ParsedEcho, frame: Uint8Array): boolean {
    const expected = this.#expected;
    if (echo.payloadEnd - echo.payloadStart !== expected.length) return false;
    fillPingPayload(expected, 0, this.settings.seed, index);
    for (let i = 0; i < expected.length; i++) if (frame[echo.payloadStart + i] !== expected[i]) return false;
    return true;
  }
}
