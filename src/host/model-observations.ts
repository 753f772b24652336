// What a model guest noticed of its move, and what the network sent to it meanwhile, from what both hosts counted.
import type { LoadOptions } from "./model/network-load.ts";
import type { TrafficCounts } from "./model/methods.ts";
import type { GuestFrames, GuestObservations, LoadReport } from "./report.ts";

/** On the source before the move and after it, and on the destination at the end. */
export interface CountsOfMove {
  readonly before: TrafficCounts;
  readonly left: TrafficCounts;
  readonly after: TrafficCounts;
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

function sentences({ before, after }: CountsOfMove, frames: GuestFrames): string[] {
  const count = (number: number): string => number.toLocaleString("en-US");
  const { verified, corrupt, repeated, missing } = frames;
  const said = [
    corrupt === 0
      ? `It read ${count(verified)} frames, and every byte of them was right.`
      : `It read ${count(verified + corrupt)} frames, and ${count(corrupt)} of them had wrong bytes.`,
  ];
  if (missing > 0) said.push(`By their numbers, ${count(missing)} never reached it.`);
  if (repeated > 0) said.push(`${count(repeated)} came twice, or out of their order.`);
  const dropped = after.guest.droppedBySocket - before.guest.droppedBySocket;
  if (dropped > 0) said.push(`Its socket was full for ${count(dropped)} more.`);
  const errors = after.guest.errors - before.guest.errors;
  if (errors > 0) said.push(`Its driver threw ${count(errors)} away that the card had marked as damaged.`);
  if (after.sentWrong > 0) said.push(`${count(after.sentWrong)} frames that it sent left the card damaged.`);
  if (after.panic !== null) said.push(`It died: ${after.panic}.`);
  return said;
}

/** Frames are numbered by when they are due, so those sent and not sent are all that were due. */
export function loadOf(asked: Pick<LoadOptions, "bitsPerSecond">, { before, left, after }: CountsOfMove): LoadReport {
  const framesSent = left.offered - before.offered + after.offered;
  const framesNotSent = left.skipped - before.skipped + after.skipped;
  const share = framesSent / Math.max(1, framesSent + framesNotSent);
  return {
    askedBitsPerSecond: asked.bitsPerSecond,
    reachedBitsPerSecond: asked.bitsPerSecond * share,
    framesSent,
    framesNotSent,
  };
}
