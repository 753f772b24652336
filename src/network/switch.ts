// The fabric's core: a learning Ethernet switch whose links have a speed, a loss rate and a plug that can be pulled.
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { SeededRandom } from "../base/random.ts";
import type { DropCause, SwitchCounters } from "./counters.ts";
import { destinationOf, ETHERNET_HEADER_BYTES, FRAME_BYTES_MAX, sourceOf } from "./ethernet.ts";
import { isGroupMac, ZERO_MAC, type MacAddress } from "./mac.ts";
import { MacTable, type MacTableOptions } from "./mac-table.ts";
import { SwitchPort, type PortHost, type PortOptions } from "./switch-port.ts";

/** A station appeared behind another port than before. */
export interface MacMove {
  readonly mac: MacAddress;
  readonly from: string;
  readonly to: string;
  /** On the switch's clock. */
  readonly atMs: number;
}

/** Sees each frame at each port it passes, and those that are dropped there. The bytes are good until it returns. */
export type SwitchTap = (
  port: SwitchPort,
  side: "in" | "out",
  frame: Uint8Array,
  dropped: DropCause | undefined,
) => void;

export interface SwitchOptions {
  readonly clock: Clock;
  readonly random: SeededRandom;
  /** Bytes queued before each direction of a link of limited speed. */
  readonly queueBytesMax?: number;
  readonly macTable?: MacTableOptions;
  readonly onMacMove?: (move: MacMove) => void;
}

const QUEUE_BYTES_MAX = 1 << 20;
const MAC_TABLE: MacTableOptions = { capacity: 4096, ageMs: 300_000 };
/** 01-80-C2-00-00-00 to -0F: a bridge never passes these on (IEEE 802.1D table 7-10). */
const RESERVED_GROUP_FIRST = 0x0180_c200_0000;
const RESERVED_GROUP_LAST = 0x0180_c200_000f;

/**
 * Frames are copied only where they must wait for a slow link. Nothing runs by itself: whoever owns the switch calls
 * `service()` when `nextDueMs()` has come. Hostile frames are dropped and counted, they never throw.
 */
export class EthernetSwitch {
  readonly #options: SwitchOptions;
  readonly #ports: SwitchPort[] = [];
  readonly #macs: MacTable;
  readonly #host: PortHost;
  #macMoves = 0;
  #macsNotLearnt = 0;
  #tap: SwitchTap | undefined;

  constructor(options: SwitchOptions) {
    this.#options = options;
    this.#macs = new MacTable(options.macTable ?? MAC_TABLE);
    this.#host = {
      clock: options.clock,
      queueBytesMax: options.queueBytesMax ?? QUEUE_BYTES_MAX,
      switchFrame: (from, frame) => this.#switchFrame(from, frame),
      linkWentDown: (port) => this.#macs.forgetPort(port.index),
      seen: (port, side, frame, dropped) => this.#tap?.(port, side, frame, dropped),
    };
  }

  get ports(): readonly SwitchPort[] {
    return this.#ports;
  }

  /** Adds a port whose link is down. Each port draws its own randomness, so loss at one does not depend on another's traffic. */
  addPort(options: PortOptions): SwitchPort {
    assert(this.port(options.name) === undefined, `there already is a port ${options.name}`);
    const seeds = { in: this.#options.random.u32(), out: this.#options.random.u32() };
    const port = new SwitchPort(this.#host, { ...options, index: this.#ports.length, seeds });
    this.#ports.push(port);
    return port;
  }

  port(name: string): SwitchPort | undefined {
    return this.#ports.find((port) => port.name === name);
  }

  /** Sets the tap that sees every frame, or takes it away. */
  setTap(tap: SwitchTap | undefined): void {
    this.#tap = tap;
  }

  service(): void {
    for (const port of this.#ports) port.service();
  }

  /** When `service()` has something to do, on the injected clock; Infinity when nothing waits. */
  nextDueMs(): number {
    let dueMs = Infinity;
    for (const port of this.#ports) dueMs = Math.min(dueMs, port.nextDueMs());
    return dueMs;
  }

  counters(): SwitchCounters {
    const ports = this.#ports.map((port) => port.counters());
    return { ports, macMoves: this.#macMoves, macsKnown: this.#macs.size, macsNotLearnt: this.#macsNotLearnt };
  }

  /** Passes a frame on and says how many copies were made, or why none was. */
  #switchFrame(from: SwitchPort, frame: Uint8Array): number | DropCause {
    if (frame.length < ETHERNET_HEADER_BYTES || frame.length > FRAME_BYTES_MAX) return "malformed";
    const source = sourceOf(frame);
    if (isGroupMac(source) || source === ZERO_MAC) return "malformed";
    const nowMs = this.#options.clock.nowMs();
    this.#learn(source, from, nowMs);
    const destination = destinationOf(frame);
    if (destination >= RESERVED_GROUP_FIRST && destination <= RESERVED_GROUP_LAST) return "no-way-out";
    const known = isGroupMac(destination) ? -1 : this.#macs.lookUp(destination, nowMs);
    if (known === -1) return this.#flood(from, frame);
    const to = this.#ports[known];
    if (to === undefined || to === from || !to.admits(frame)) return "no-way-out";
    this.#tap?.(from, "in", frame, undefined);
    to.send(frame);
    return 1;
  }

  #flood(from: SwitchPort, frame: Uint8Array): number | DropCause {
    const targets = this.#ports.filter((port) => port !== from && port.admits(frame));
    if (targets.length === 0) return "no-way-out";
    this.#tap?.(from, "in", frame, undefined);
    for (const port of targets) port.send(frame);
    return targets.length;
  }

  #learn(mac: MacAddress, port: SwitchPort, nowMs: number): void {
    const before = this.#macs.learn(mac, port.index, nowMs);
    if (before === port.index) return;
    if (before === -1) {
      this.#macsNotLearnt++;
      return;
    }
    this.#macMoves++;
    const from = this.#ports[before]?.name ?? "";
    this.#options.onMacMove?.({ mac, from, to: port.name, atMs: nowMs });
  }
}
