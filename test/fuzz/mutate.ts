// Mutations of a stream that know its frames: lies that keep every checksum right, and plain damage to the bytes.
import type { SeededRandom } from "../../src/base/random.ts";
import { readU32, writeU32 } from "../../src/migration/wire/bytes.ts";
import { checksum } from "../../src/migration/wire/checksum.ts";
import { checkedHeaderBytes, headerBytes, headerOffsets } from "../../src/migration/wire/frame.ts";

/** A mutated stream and what was done to it, for the report of a failure. */
export interface Mutated {
  readonly bytes: Uint8Array;
  readonly steps: readonly string[];
}

/** Makes one mutation of one of the streams; the others may lend pieces. */
export type Mutation = (random: SeededRandom, streams: readonly Uint8Array[]) => Mutated;

export const interestingWords = [
  0,
  1,
  2,
  63,
  64,
  65,
  255,
  256,
  257,
  4096,
  65_536,
  1 << 20,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_ffff,
];
const interestingBytes = [0, 1, 2, 0x20, 0x22, 0x2c, 0x30, 0x5b, 0x5c, 0x7b, 0x7d, 0x7f, 0x80, 0xc0, 0xff];
const interestingTexts = [
  '"',
  "\\",
  "{}",
  "[]",
  ",",
  "-",
  "0",
  "1e9",
  "null",
  '"__proto__":1,',
  "[[[[[[[[",
  "\u{0}",
  "\\u0000",
];
const highestMessageNumber = 21;

export function pick<T>(random: SeededRandom, values: readonly T[]): T {
  return values[random.below(values.length)] as T;
}

/** Cuts a valid stream into its frames. */
export function framesOf(stream: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < stream.length;) {
    const end = at + headerBytes + readU32(stream, at + headerOffsets.length);
    frames.push(Uint8Array.from(stream.subarray(at, end)));
    at = end;
  }
  return frames;
}

export function resealHeader(frame: Uint8Array): void {
  writeU32(frame, headerOffsets.headerChecksum, checksum(frame.subarray(0, checkedHeaderBytes)));
}

export function resealPayload(frame: Uint8Array): void {
  writeU32(frame, headerOffsets.length, frame.length - headerBytes);
  writeU32(frame, headerOffsets.payloadChecksum, checksum(frame.subarray(headerBytes)));
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Replaces `count` bytes at `at` by others. */
export function spliced(bytes: Uint8Array, at: number, count: number, inserted: Uint8Array): Uint8Array {
  return concatenated([bytes.subarray(0, at), inserted, bytes.subarray(at + count)]);
}

/** A place in the frame's payload, near its front more often than not, or -1 when it has none. */
function payloadPlace(random: SeededRandom, frame: Uint8Array): number {
  const length = frame.length - headerBytes;
  if (length === 0) return -1;
  return headerBytes + random.below(random.chance(0.6) ? Math.min(length, 32) : length);
}

type FrameMutation = (random: SeededRandom, frames: Uint8Array[], donors: readonly Uint8Array[]) => void;

/** Changes one frame's payload and seals it again: what a hostile peer sends. */
function onPayload(change: (random: SeededRandom, frame: Uint8Array, at: number) => Uint8Array): FrameMutation {
  return (random, frames) => {
    const index = random.below(frames.length);
    const frame = frames[index] as Uint8Array;
    const at = payloadPlace(random, frame);
    if (at < 0) return;
    const changed = change(random, frame, at);
    resealPayload(changed);
    frames[index] = changed;
  };
}

function onHeader(change: (random: SeededRandom, frame: Uint8Array) => void): FrameMutation {
  return (random, frames) => change(random, pick(random, frames));
}

const frameMutations: Readonly<Record<string, FrameMutation>> = {
  "drop frame": (random, frames) => void frames.splice(random.below(frames.length), frames.length > 1 ? 1 : 0),
  "repeat frame": (random, frames) => {
    const index = random.below(frames.length);
    frames.splice(index, 0, Uint8Array.from(frames[index] as Uint8Array));
  },
  "swap frames": (random, frames) => {
    const [a, b] = [random.below(frames.length), random.below(frames.length)];
    [frames[a], frames[b]] = [frames[b] as Uint8Array, frames[a] as Uint8Array];
  },
  "splice in a foreign frame": (random, frames, donors) =>
    void frames.splice(random.below(frames.length + 1), 0, Uint8Array.from(pick(random, donors))),
  "swap the type": onHeader((random, frame) => {
    frame[headerOffsets.type] = random.below(highestMessageNumber + 1);
  }),
  "set a reserved field": onHeader((random, frame) => {
    frame[headerOffsets.flags + random.below(3)] = 1 << random.below(8);
  }),
  "set a payload byte": onPayload((random, frame, at) => {
    frame[at] = random.chance(0.5) ? pick(random, interestingBytes) : random.below(256);
    return frame;
  }),
  "set a payload word": onPayload((random, frame, at) => {
    const aligned = at - ((at - headerBytes) % 4);
    if (aligned + 4 <= frame.length) writeU32(frame, aligned, pick(random, interestingWords));
    return frame;
  }),
  "insert into the payload": onPayload((random, frame, at) =>
    spliced(frame, at, 0, new TextEncoder().encode(pick(random, interestingTexts))),
  ),
  "replace in the payload": onPayload((random, frame, at) =>
    spliced(frame, at, 1 + random.below(4), new TextEncoder().encode(pick(random, interestingTexts))),
  ),
  "cut the payload": onPayload((_random, frame, at) => frame.slice(0, at)),
  "repeat a piece of the payload": onPayload((random, frame, at) =>
    spliced(frame, at, 0, frame.slice(at, at + 1 + random.below(64))),
  ),
  "blow the payload up": onPayload((random, frame, at) =>
    spliced(frame, at, 0, new Uint8Array(random.below(5000)).fill(pick(random, interestingBytes))),
  ),
};
const frameMutationNames = Object.keys(frameMutations);

export type ByteMutation = (random: SeededRandom, bytes: Uint8Array, at: number) => Uint8Array;

export const byteMutations: Readonly<Record<string, ByteMutation>> = {
  "flip a bit": (random, bytes, at) => {
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    return bytes;
  },
  "set a byte": (random, bytes, at) => {
    bytes[at] = pick(random, interestingBytes);
    return bytes;
  },
  "insert bytes": (random, bytes, at) => {
    const inserted = Uint8Array.from({ length: 1 + random.below(40) }, () => random.u32());
    return spliced(bytes, at, 0, inserted);
  },
  "delete bytes": (random, bytes, at) => spliced(bytes, at, 1 + random.below(40), new Uint8Array(0)),
  truncate: (_random, bytes, at) => bytes.subarray(0, at),
  "repeat bytes": (random, bytes, at) => spliced(bytes, at, 0, bytes.slice(at, at + 1 + random.below(200))),
};
const byteMutationNames = Object.keys(byteMutations);

/** Puts sequence numbers and header checksums right, so that a lie is heard out and not taken for damage. */
function resealAll(frames: readonly Uint8Array[], isRenumbered: boolean): void {
  frames.forEach((frame, index) => {
    if (isRenumbered) writeU32(frame, headerOffsets.sequence, index);
    resealHeader(frame);
  });
}

/** Announces another length than the frame has, with a header checksum that vouches for it. */
function lieAboutLength(random: SeededRandom, frames: readonly Uint8Array[]): void {
  const frame = pick(random, frames);
  const honest = frame.length - headerBytes;
  const lie = random.chance(0.5) ? pick(random, interestingWords) : honest + random.below(9) - 4;
  writeU32(frame, headerOffsets.length, Math.max(0, lie));
  resealHeader(frame);
}

/** A mutation of one of the streams; the others lend frames. */
export function mutate(random: SeededRandom, streams: readonly Uint8Array[]): Mutated {
  const steps: string[] = [];
  const frames = framesOf(pick(random, streams));
  const donors = framesOf(pick(random, streams));
  for (let left = random.below(4); left > 0; left--) {
    const name = pick(random, frameMutationNames);
    steps.push(name);
    frameMutations[name]?.(random, frames, donors);
  }
  resealAll(frames, random.chance(0.9));
  if (random.chance(0.1)) {
    steps.push("lie about a length");
    lieAboutLength(random, frames);
  }
  let bytes = concatenated(frames);
  for (let left = random.chance(0.3) ? 1 + random.below(3) : 0; left > 0 && bytes.length > 0; left--) {
    const name = pick(random, byteMutationNames);
    steps.push(name);
    bytes = byteMutations[name]?.(random, bytes, random.below(bytes.length)) ?? bytes;
  }
  return { bytes, steps };
}
