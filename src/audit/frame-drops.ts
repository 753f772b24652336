// Frames that a VF did not write to memory, by cause, from its counters.
import type { VfStatistics } from "../nic/vf-statistics.ts";

export type FrameDrops = Readonly<Record<string, number>>;

/** Frames for other stations, which a switch floods, and frames no station can take: nobody loses anything. */
const notForTheGuest = new Set(["otherAddress", "otherVlan", "runt", "runts"]);

export function frameDrops({ receiveDrops, receive }: VfStatistics): FrameDrops {
  const { runts, oversized, packetBufferFull, queueNotReady, withoutDescriptors, descriptorFaults } = receive;
  const taken = { runts, oversized, packetBufferFull, queueNotReady, withoutDescriptors, descriptorFaults };
  return { ...receiveDrops, ...taken };
}

export function dropsSince(now: FrameDrops, before: FrameDrops): FrameDrops {
  return Object.fromEntries(Object.entries(now).map(([cause, count]) => [cause, count - (before[cause] ?? 0)]));
}

/** Frames that the guest would have got. */
export function framesLost(drops: FrameDrops): number {
  return Object.entries(drops).reduce((sum, [cause, count]) => sum + (notForTheGuest.has(cause) ? 0 : count), 0);
}
