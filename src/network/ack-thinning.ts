// Keeps a guest's repeated TCP acknowledgments from an uplink that answers each of them with a whole window of data.
import type { Clock } from "../base/clock.ts";
import { parseTcpFrame, TcpFlag } from "./tcp.ts";

/**
 * How long a repetition is held to say nothing new: about as long as the shortest retransmission timeout of Linux, and
 * longer than a slow guest needs for the window that the first one brought.
 */
export const REPETITION_MS = 200;
/** Flows remembered; beyond it all are forgotten, which lets one repetition of each through. */
const FLOWS_MAX = 256;

/**
 * A segment that was lost makes the guest repeat an acknowledgment for every later one. passt (the one of Debian 12:
 * tcp.c, tcp_data_from_tap) sends its whole window again at the first repetition, and at every one after it; the guest
 * acknowledges each of those duplicates, and the two never come to rest. So of acknowledgments that say the same, one
 * goes through every REPETITION_MS. The returned function says whether a frame does.
 */
export function ackThinning(clock: Clock): (frame: Uint8Array) => boolean {
  const lastByFlow = new Map<string, { says: string; atMs: number }>();
  return (frame) => {
    const ack = pureAcknowledgment(frame);
    if (ack === undefined) return true;
    const last = lastByFlow.get(ack.flow);
    const nowMs = clock.nowMs();
    if (last?.says === ack.says && nowMs - last.atMs < REPETITION_MS) return false;
    if (lastByFlow.size >= FLOWS_MAX) lastByFlow.clear();
    lastByFlow.set(ack.flow, { says: ack.says, atMs: nowMs });
    return true;
  };
}

/** Flow and meaning of a TCP segment without data and with no flag but ACK; undefined for any other frame. */
function pureAcknowledgment(frame: Uint8Array): { flow: string; says: string } | undefined {
  const segment = parseTcpFrame(frame);
  if (segment === undefined || segment.dataBytes > 0 || segment.flags !== TcpFlag.ack) return undefined;
  const { source, sourcePort, destination, destinationPort, sequence, acknowledgment, window } = segment;
  return {
    flow: `${source}:${sourcePort}>${destination}:${destinationPort}`,
    says: `${sequence} ${acknowledgment} ${window}`,
  };
}
