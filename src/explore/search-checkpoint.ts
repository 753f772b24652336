// A breadth-first search that was put aside, as bytes: the tree of its states, and how far it has come.
import { OperationError } from "../base/errors.ts";

/**
 * A state is written as the state before it and the step between them, six bytes: the numbers that stand for sources and
 * engines are of one process only. Whoever resumes takes every step of the tree again, and no other.
 *
 * Little-endian: magic, version, states, states expanded, first state of the level, transitions (two words), length of the
 * identity; the identity as UTF-8; parents, a word each; packed steps, two bytes each; a checksum of all before it.
 */
export interface Checkpoint {
  /** What was searched, and how: a checkpoint is good for the same search only. */
  readonly identity: string;
  readonly expanded: number;
  /** The first of the states that were come to with the last step that counts. */
  readonly levelBegin: number;
  readonly transitions: number;
  readonly parents: Uint32Array;
  readonly packedSteps: Uint16Array;
}

const MAGIC = 0x5357_5530;
const VERSION = 1;
const HEADER_WORDS = 8;

export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array<ArrayBuffer> {
  const identity = new TextEncoder().encode(checkpoint.identity);
  const states = checkpoint.parents.length;
  const bytes = new Uint8Array(HEADER_WORDS * 4 + identity.length + states * 6 + 4);
  const view = new DataView(bytes.buffer);
  const { expanded, levelBegin, transitions } = checkpoint;
  const header = [MAGIC, VERSION, states, expanded, levelBegin, transitions >>> 0, Math.floor(transitions / 2 ** 32)];
  for (const [i, word] of [...header, identity.length].entries()) view.setUint32(i * 4, word, true);
  bytes.set(identity, HEADER_WORDS * 4);
  const parentsAt = HEADER_WORDS * 4 + identity.length;
  for (let i = 0; i < states; i++) {
    view.setUint32(parentsAt + i * 4, checkpoint.parents[i] as number, true);
    view.setUint16(parentsAt + states * 4 + i * 2, checkpoint.packedSteps[i] as number, true);
  }
  view.setUint32(bytes.length - 4, checksum(bytes.subarray(0, -4)), true);
  return bytes;
}

/** Throws OperationError `checkpoint-invalid` for bytes that are none, are damaged, or are of another search. */
export function decodeCheckpoint(bytes: Uint8Array, identity: string): Checkpoint {
  if (bytes.length < HEADER_WORDS * 4 + 4) throw checkpointInvalid("it is too short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (i: number): number => view.getUint32(i * 4, true);
  if (word(0) !== MAGIC) throw checkpointInvalid("it does not begin as one");
  if (word(1) !== VERSION) throw checkpointInvalid(`it is of version ${word(1)}, and this reads ${VERSION}`);
  const [states, expanded, levelBegin] = [word(2), word(3), word(4)];
  const parentsAt = HEADER_WORDS * 4 + word(7);
  if (bytes.length !== parentsAt + states * 6 + 4) throw checkpointInvalid("its length is wrong");
  if (view.getUint32(bytes.length - 4, true) !== checksum(bytes.subarray(0, -4)))
    throw checkpointInvalid("it is damaged");
  const found = new TextDecoder().decode(bytes.subarray(HEADER_WORDS * 4, parentsAt));
  if (found !== identity) throw checkpointInvalid(`it is of another search: ${found.slice(0, 500)}`);
  const parents = new Uint32Array(states);
  const packedSteps = new Uint16Array(states);
  for (let i = 0; i < states; i++) {
    parents[i] = view.getUint32(parentsAt + i * 4, true);
    packedSteps[i] = view.getUint16(parentsAt + states * 4 + i * 2, true);
    if ((parents[i] as number) >= Math.max(i, 1)) throw checkpointInvalid("a state comes before the one it came from");
  }
  if (states === 0 || expanded > states || levelBegin > expanded)
    throw checkpointInvalid("its counts contradict each other");
  return { identity, expanded, levelBegin, transitions: word(5) + word(6) * 2 ** 32, parents, packedSteps };
}

/** Every state's children as a list: the first, and of each child the next one. No child is state 0. */
export function childrenOf(parents: Uint32Array): { readonly first: Uint32Array; readonly next: Uint32Array } {
  const first = new Uint32Array(parents.length);
  const next = new Uint32Array(parents.length);
  for (let child = parents.length - 1; child > 0; child--) {
    const parent = parents[child] as number;
    next[child] = first[parent] as number;
    first[parent] = child;
  }
  return { first, next };
}

/** FNV-1a. */
function checksum(bytes: Uint8Array): number {
  let sum = 0x811c_9dc5;
  for (let i = 0; i < bytes.length; i++) sum = Math.imul(sum ^ (bytes[i] as number), 0x0100_0193);
  return sum >>> 0;
}

export function checkpointInvalid(why: string): OperationError {
  return new OperationError({
    code: "checkpoint-invalid",
    message: `The checkpoint cannot be gone on from: ${why}.`,
    advice: "Begin the search anew, or give the checkpoint together with the options it was made with.",
    facts: { why },
  });
}
