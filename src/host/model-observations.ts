// What a model guest noticed of its move, and what the network sent to it meanwhile, from what both hosts counted.
import type { LoadOptions } from "./model/network-load.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { GuestFrames, GuestObservations, LoadReport } from "./report.ts";

/** On the source before the move and after it, and on the destination at the end. */
export interface CountsOfMove {
  readonly before: TrafficCounts;
  readonly left: TrafficCounts;
  readonly after: TrafficCounts;
  /** Number of the first frame that the network sent to the destination. */
  readonly firstFrame: number;
  /** Frames from that one on that the source was sent as well, before it heard of it. */
  readonly doubles: number;
}

/** Frames are numbered by when they are due: those that neither host was sent are numbers that neither offered. */
function sentAndNot({ before, left, after, firstFrame, doubles }: CountsOfMove): { sent: number; notSent: number } {
  return {
    sent: left.offered - before.offered - doubles + after.offered,
    notSent: Math.max(0, left.skipped - before.skipped + (firstFrame - left.next) + doubles + after.skipped),
  };
}

export function observe(counts: CountsOfMove): GuestObservations {
  const { after } = counts;
  const frames = guestFrames(counts);
  return {
    downloadFinished: null,
    sha256Expected: null,
    sha256Actual: null,
    pingsSent: null,
    pingsLost: null,
    frames,
    panic: after.panic,
    noticed: sentences(counts, frames),
  };
}

/** The guest's counters move with it, so that what the source counted before is part of what the destination counted. */
function guestFrames({ before, left, after }: CountsOfMove): GuestFrames {
  const since = (name: "verified" | "corrupt" | "repeated" | "missing"): number =>
    after.guest[name] - before.guest[name];
  const read = ({ guest }: TrafficCounts): number => guest.verified + guest.corrupt;
  return {
    verified: since("verified"),
    corrupt: since("corrupt"),
    repeated: since("repeated"),
    missing: since("missing"),
    readAfterMove: read(after) - read(left),
  };
}

function sentences(counts: CountsOfMove, frames: GuestFrames): string[] {
  const { before, after } = counts;
  const count = (number: number): string => number.toLocaleString("en-US");
  const { verified, corrupt, repeated, missing } = frames;
  const said = [
    corrupt === 0
      ? `It read ${count(verified)} frames, and every byte of them was right.`
      : `It read ${count(verified + corrupt)} frames, and ${count(corrupt)} of them had wrong bytes.`,
  ];
  const lost = missing - sentAndNot(counts).notSent;
  if (lost > 0) said.push(`By their numbers, ${count(lost)} that were sent never reached it.`);
  if (repeated > 0) said.push(`${count(repeated)} came twice, or out of their order.`);
  const dropped = after.guest.droppedBySocket - before.guest.droppedBySocket;
  if (dropped > 0) said.push(`Its socket was full for ${count(dropped)} more.`);
  const errors = after.guest.errors - before.guest.errors;
  if (errors > 0) said.push(`Its driver threw ${count(errors)} away that the card had marked as damaged.`);
  if (after.sentWrong > 0) said.push(`${count(after.sentWrong)} frames that it sent left the card damaged.`);
  if (after.panic !== null) said.push(`It died: ${after.panic}.`);
  return said;
}

export function loadOf(asked: Pick<LoadOptions, "bitsPerSecond">, counts: CountsOfMove): LoadReport {
  const { sent, notSent } = sentAndNot(counts);
  return {
    askedBitsPerSecond: asked.bitsPerSecond,
    reachedBitsPerSecond: (asked.bitsPerSecond * sent) / Math.max(1, sent + notSent),
    framesSent: sent,
    framesNotSent: notSent,
  };
}
