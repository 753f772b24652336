// Asks a guest that has gone silent for its acknowledgment and window, since the uplink behind the fabric never does.
import type { Clock } from "../base/clock.ts";
import { ETHERNET_HEADER_BYTES } from "./ethernet.ts";
import { IPV4_HEADER_BYTES } from "./ipv4.ts";
import { isAfter, parseTcpFrame, sequenceBytes, TCP_HEADER_BYTES, TcpFlag, writeEmptySegment } from "./tcp.ts";
import type { TcpHeader, TcpSegment } from "./tcp.ts";

/**
 * Silence on a flow that waits for the guest before it is asked. Longer than the 500 ms in which Linux answers no second
 * segment of this kind (net.ipv4.tcp_invalid_ratelimit), and than a slow guest takes for a window of data.
 */
export const PROBE_MS = 600;
/** Questions in a row that the guest leaves unanswered, one minute's, before it is given up until it speaks again. */
export const PROBES_MAX = 100;
/** Flows remembered; beyond it the oldest is forgotten. */
export const FLOWS_MAX = 256;

interface Flow {
  /** Header of the uplink's last segment: whom a question comes from and goes to. */
  readonly ethernet: Uint8Array;
  fromUplink: TcpSegment;
  /** The sequence number behind all that the uplink has sent. */
  sentEnd: number;
  hasEnded: boolean;
  /** The guest's last segment with an acknowledgment. */
  fromGuest: TcpSegment | undefined;
  probes: number;
  dueMs: number;
}

/**
 * A sender whose receiver has closed its window must ask now and then whether it is open again: the segment that opens
 * it may be lost, and nobody repeats it (RFC 9293, 3.8.6.1). passt (the one of Debian 12: tcp.c, tcp_timer_handler) does
 * not ask; after five times two seconds it resets the connection. And while the window is full it sets the timer for
 * sending anew to two seconds from now at whatever the server writes (tcp_data_from_sock), for as long as the host's
 * buffers have room, some megabytes: the loss of one window's last acknowledgment is repaired that much later.
 * A switchover that drops the transmit rings loses just such segments.
 *
 * So where a flow waits for the guest, with a window of zero or something unacknowledged, and is silent, the guest is
 * sent what a keep-alive of TCP is: a segment without data, one behind what it acknowledged. Whatever it has received, it
 * answers with its acknowledgment and window as they are now (RFC 9293, 3.10.7.4). Where these are news, passt goes on;
 * where they are not, it takes them for a duplicate and sends what was lost.
 *
 * Runs on its owner's time: call `service()` when `nextDueMs()` has come.
 */
export class WindowProbes {
  readonly #clock: Clock;
  readonly #send: (frame: Uint8Array) => void;
  readonly #flows = new Map<string, Flow>();

  /** `send` takes frames to the guest; they are good until it returns. */
  constructor(options: { readonly clock: Clock; readonly send: (frame: Uint8Array) => void }) {
    this.#clock = options.clock;
    this.#send = options.send;
  }

  /** A frame that the uplink sends. */
  fromUplink(frame: Uint8Array): void {
    const segment = parseTcpFrame(frame);
    if (segment === undefined) return;
    const name = `${segment.destination}:${segment.destinationPort}<${segment.source}:${segment.sourcePort}`;
    if ((segment.flags & TcpFlag.rst) !== 0) {
      this.#flows.delete(name);
      return;
    }
    const flow = (segment.flags & TcpFlag.syn) === 0 ? this.#flows.get(name) : undefined;
    if (flow === undefined) this.#begin(name, frame, segment);
    else this.#sent(flow, segment);
  }

  /** A frame of the guest that the uplink gets. */
  fromGuest(frame: Uint8Array): void {
    const segment = parseTcpFrame(frame);
    if (segment === undefined) return;
    const name = `${segment.source}:${segment.sourcePort}<${segment.destination}:${segment.destinationPort}`;
    const flow = this.#flows.get(name);
    if (flow === undefined) return;
    if ((segment.flags & (TcpFlag.rst | TcpFlag.fin | TcpFlag.syn)) !== 0) {
      this.#flows.delete(name);
    } else if ((segment.flags & TcpFlag.ack) !== 0) {
      flow.fromGuest = segment;
      flow.probes = 0;
      flow.dueMs = this.#clock.nowMs() + PROBE_MS;
    }
  }

  /** The uplink is gone, and its flows with it. */
  forget(): void {
    this.#flows.clear();
  }

  nextDueMs(): number {
    let dueMs = Infinity;
    for (const flow of this.#flows.values()) if (isWaiting(flow)) dueMs = Math.min(dueMs, flow.dueMs);
    return dueMs;
  }

  service(): void {
    const nowMs = this.#clock.nowMs();
    for (const flow of this.#flows.values()) {
      if (flow.fromGuest === undefined || !isWaiting(flow) || flow.dueMs > nowMs) continue;
      flow.probes++;
      flow.dueMs = nowMs + PROBE_MS;
      this.#send(probeFrame(flow, flow.fromGuest));
    }
  }

  #begin(name: string, frame: Uint8Array, segment: TcpSegment): void {
    const oldest = this.#flows.keys().next();
    if (this.#flows.size >= FLOWS_MAX && oldest.done !== true) this.#flows.delete(oldest.value);
    this.#flows.set(name, {
      ethernet: frame.slice(0, ETHERNET_HEADER_BYTES),
      fromUplink: segment,
      sentEnd: (segment.sequence + sequenceBytes(segment)) >>> 0,
      hasEnded: (segment.flags & TcpFlag.fin) !== 0,
      fromGuest: undefined,
      probes: 0,
      dueMs: this.#clock.nowMs() + PROBE_MS,
    });
  }

  #sent(flow: Flow, segment: TcpSegment): void {
    const end = (segment.sequence + sequenceBytes(segment)) >>> 0;
    if (isAfter(end, flow.sentEnd)) flow.sentEnd = end;
    if ((segment.flags & TcpFlag.fin) !== 0) flow.hasEnded = true;
    flow.fromUplink = segment;
    flow.dueMs = this.#clock.nowMs() + PROBE_MS;
  }
}

/** Whether the flow can only go on after a word of the guest, which is worth asking for. */
function isWaiting({ fromGuest, sentEnd, hasEnded, probes }: Flow): boolean {
  if (fromGuest === undefined || probes >= PROBES_MAX) return false;
  return isAfter(sentEnd, fromGuest.acknowledgment) || (fromGuest.window === 0 && !hasEnded);
}

function probeFrame({ ethernet, fromUplink }: Flow, fromGuest: TcpSegment): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + TCP_HEADER_BYTES);
  frame.set(ethernet);
  const header: TcpHeader = {
    ...fromUplink,
    sequence: (fromGuest.acknowledgment - 1) >>> 0,
    flags: TcpFlag.ack,
  };
  writeEmptySegment(frame, header);
  return frame;
}
