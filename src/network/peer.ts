// The built-in peer: a station that answers ARP and ping, and pings guests with verified payloads.
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { ArpOperation, buildArpFrame, parseArpFrame, type ArpPacket } from "./arp.ts";
import { destinationOf, ETHERNET_HEADER_BYTES, EtherType, etherTypeOf, sourceOf } from "./ethernet.ts";
import {
  echoFrameBytes,
  ECHO_PAYLOAD_OFFSET,
  IcmpType,
  parseEchoFrame,
  sealEchoFrame,
  type ParsedEcho,
  type Station,
} from "./icmp.ts";
import type { Ipv4Address } from "./ipv4.ts";
import { BROADCAST_MAC, isGroupMac, ZERO_MAC, type MacAddress } from "./mac.ts";
import { Pinger, PING_IDENTIFIERS, type PingerSettings } from "./pinger.ts";
import type { PingReport, PingWindow } from "./ping-log.ts";

export interface PeerOptions {
  readonly clock: Clock;
  readonly station: Station;
  /** Where the peer's frames go; they are good until it returns. */
  readonly send: (frame: Uint8Array) => void;
}

export interface PeerCounters {
  /** ARP requests and echo requests of others that were answered. */
  readonly arpAnswered: number;
  readonly echoAnswered: number;
  /** Echo replies that answer no request of ours. */
  readonly unexpectedReplies: number;
  /** Frames sent to the peer whose IP header, ICMP header or checksum is wrong. */
  readonly damaged: number;
}

/** What is known of a station that is pinged. */
interface Neighbour {
  mac: MacAddress | undefined;
  askAgainAtMs: number;
}

const ARP_RETRY_MS = 200;

/** Runs on its owner's time: call `service()` when `nextDueMs()` has come. Frames that make no sense are dropped. */
export class Peer {
  readonly #options: PeerOptions;
  readonly #pingers = new Map<string, Pinger>();
  readonly #neighbours = new Map<Ipv4Address, Neighbour>();
  readonly #counters = { arpAnswered: 0, echoAnswered: 0, unexpectedReplies: 0, damaged: 0 };
  #nextIdentifier = 0;

  constructor(options: PeerOptions) {
    this.#options = options;
  }

  get counters(): PeerCounters {
    return { ...this.#counters };
  }

  /** Starts pinging; the first request goes out when the target's MAC address is known. Throws OperationError `pinger-exists`. */
  startPinger(name: string, settings: PingerSettings): void {
    if (this.#pingers.has(name)) {
      throw new OperationError({
        code: "pinger-exists",
        message: `a pinger named "${name}" was started before`,
        advice: "Give each pinger a name of its own; a stopped one keeps its name for its report.",
        facts: { name },
      });
    }
    const startMs = this.#options.clock.nowMs();
    const options = { firstIdentifier: this.#nextIdentifier, startMs };
    this.#nextIdentifier = (this.#nextIdentifier + PING_IDENTIFIERS) & 0xffff;
    this.#pingers.set(name, new Pinger(settings, this.#options.station, options));
    if (!this.#neighbours.has(settings.targetIp)) {
      this.#neighbours.set(settings.targetIp, { mac: undefined, askAgainAtMs: startMs });
    }
  }

  /** Throws OperationError `pinger-unknown`. */
  stopPinger(name: string): void {
    this.#pinger(name).stop();
  }

  /** Throws OperationError `pinger-unknown`. */
  pingReport(name: string, window?: PingWindow): PingReport {
    return this.#pinger(name).report(this.#options.clock.nowMs(), window);
  }

  nextDueMs(): number {
    let dueMs = Infinity;
    for (const pinger of this.#pingers.values()) dueMs = Math.min(dueMs, pinger.nextDueMs());
    return dueMs;
  }

  service(): void {
    const nowMs = this.#options.clock.nowMs();
    for (const pinger of this.#pingers.values()) {
      if (pinger.nextDueMs() > nowMs) continue;
      const ip = pinger.settings.targetIp;
      const mac = this.#resolve(ip, nowMs);
      if (mac === undefined) pinger.postpone(nowMs);
      else pinger.service(nowMs, { mac, ip }, this.#options.send);
    }
  }

  /** A frame from the network. The bytes are the caller's again when it returns. */
  frame(bytes: Uint8Array): void {
    if (bytes.length < ETHERNET_HEADER_BYTES) return;
    const isForUs = destinationOf(bytes) === this.#options.station.mac;
    const etherType = etherTypeOf(bytes);
    if (etherType === EtherType.arp) {
      const packet = parseArpFrame(bytes);
      if (packet !== undefined) this.#takeArp(packet);
    } else if (isForUs && etherType === EtherType.ipv4) {
      const echo = parseEchoFrame(bytes);
      if (echo === undefined) this.#counters.damaged++;
      else if (echo.destination === this.#options.station.ip) this.#takeEcho(echo, bytes);
    }
  }

  #takeArp(packet: ArpPacket): void {
    const { mac, ip } = this.#options.station;
    if (isGroupMac(packet.senderMac) || packet.senderMac === ZERO_MAC) return;
    const neighbour = this.#neighbours.get(packet.senderIp);
    if (neighbour !== undefined) neighbour.mac = packet.senderMac;
    if (packet.operation !== ArpOperation.request || packet.targetIp !== ip) return;
    this.#counters.arpAnswered++;
    const addresses = { senderMac: mac, senderIp: ip, targetMac: packet.senderMac, targetIp: packet.senderIp };
    this.#options.send(buildArpFrame(packet.senderMac, { operation: ArpOperation.reply, ...addresses }));
  }

  #takeEcho(echo: ParsedEcho, bytes: Uint8Array): void {
    if (echo.type === IcmpType.echoReply) {
      const nowMs = this.#options.clock.nowMs();
      for (const pinger of this.#pingers.values()) if (pinger.reply(nowMs, echo, bytes)) return;
      this.#counters.unexpectedReplies++;
    } else if (echo.checksumValid) {
      this.#answerEcho(echo, bytes);
    } else {
      this.#counters.damaged++;
    }
  }

  #answerEcho(echo: ParsedEcho, bytes: Uint8Array): void {
    const answer = new Uint8Array(echoFrameBytes(echo.payloadEnd - echo.payloadStart));
    answer.set(bytes.subarray(echo.payloadStart, echo.payloadEnd), ECHO_PAYLOAD_OFFSET);
    const { identifier, sequence } = echo;
    const to = { mac: sourceOf(bytes), ip: echo.source };
    sealEchoFrame(answer, this.#options.station, to, { type: IcmpType.echoReply, identifier, sequence });
    this.#counters.echoAnswered++;
    this.#options.send(answer);
  }

  /** The MAC address of a station that is pinged; asks for it when it is not known. */
  #resolve(targetIp: Ipv4Address, nowMs: number): MacAddress | undefined {
    const neighbour = this.#neighbours.get(targetIp);
    if (neighbour === undefined || neighbour.mac !== undefined) return neighbour?.mac;
    if (neighbour.askAgainAtMs > nowMs) return undefined;
    neighbour.askAgainAtMs = nowMs + ARP_RETRY_MS;
    const { mac: senderMac, ip: senderIp } = this.#options.station;
    const addresses = { senderMac, senderIp, targetMac: ZERO_MAC, targetIp };
    this.#options.send(buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.request, ...addresses }));
    // A station on the same machine may have answered while the frame was being sent.
    return neighbour.mac;
  }

  #pinger(name: string): Pinger {
    const pinger = this.#pingers.get(name);
    if (pinger !== undefined) return pinger;
    throw new OperationError({
      code: "pinger-unknown",
      message: `there is no pinger named "${name}"`,
      advice: "Start it first.",
      facts: { name },
    });
  }
}
