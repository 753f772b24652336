// Payloads of fixed form: round ends, parts of opaque states, and outcomes.
//
//   round-end       0 u32 round | 4 u32 pages | 8 u32 zero pages | 12 u32 dirty after
//   machine-state   0 u32 total bytes | 4 u32 offset | 8 bytes of this part; vf-state the same
//   end-of-state    0 u32 bytes of machine state | 4 u32 bytes of VF state
//   query-outcome   0 migration id
//   outcome         0 migration id | 16 u8 outcome: 1 running, 2 discarded, 3 unknown | 17 seven times u8 0
import { assert } from "../../base/assert.ts";
import { readU32, writeU32 } from "./bytes.ts";
import { wireError } from "./errors.ts";
import { stateBytesMax, statePartBytesMax, statePrefixBytes } from "./frame.ts";
import { outcomes } from "./protocol.ts";
import type { EndOfState, MachineState, MigrationId, Outcome, QueryOutcome, RoundEnd, VfState } from "./protocol.ts";

const migrationIdBytes = 16;

/** A migration's id from 16 random bytes. */
export function migrationIdOf(bytes: Uint8Array): MigrationId {
  assert(bytes.length === migrationIdBytes, `a migration id has 16 bytes, not ${bytes.length}`);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("") as MigrationId;
}

/** Writes the 16 bytes of an id, the whole payload of `query-outcome`, and returns their number. */
export function writeMigrationId(id: MigrationId, target: Uint8Array, at: number): number {
  assert(/^[0-9a-f]{32}$/.test(id), "not a migration id");
  for (let i = 0; i < migrationIdBytes; i++) target[at + i] = Number.parseInt(id.slice(2 * i, 2 * i + 2), 16);
  return migrationIdBytes;
}

export function writeRoundEnd(message: RoundEnd, target: Uint8Array, at: number): number {
  writeU32(target, at, message.round);
  writeU32(target, at + 4, message.pages);
  writeU32(target, at + 8, message.zeroPages);
  writeU32(target, at + 12, message.dirtyAfter);
  return 16;
}

export function readRoundEnd(payload: Uint8Array): RoundEnd {
  return {
    kind: "round-end",
    round: readU32(payload, 0),
    pages: readU32(payload, 4),
    zeroPages: readU32(payload, 8),
    dirtyAfter: readU32(payload, 12),
  };
}

type StateMessage = MachineState | VfState;

/** Why the numbers of a part do not fit together, or undefined. */
function partProblem(part: StateMessage): string | undefined {
  const { kind, totalBytes, offset, bytes } = part;
  if (bytes.length === 0 || bytes.length > statePartBytesMax) return `a part of ${bytes.length} bytes`;
  if (totalBytes > stateBytesMax[kind]) return `a state of ${totalBytes} bytes`;
  if (offset + bytes.length > totalBytes) return `a part that ends behind its total of ${totalBytes} bytes`;
  return undefined;
}

export function writeStatePart(message: StateMessage, target: Uint8Array, at: number): number {
  const problem = partProblem(message);
  assert(problem === undefined, `${message.kind}: ${problem}`);
  writeU32(target, at, message.totalBytes);
  writeU32(target, at + 4, message.offset);
  target.set(message.bytes, at + statePrefixBytes);
  return statePrefixBytes + message.bytes.length;
}

export function readStatePart(kind: StateMessage["kind"], payload: Uint8Array): StateMessage {
  const bytes = payload.subarray(statePrefixBytes);
  const message = { kind, totalBytes: readU32(payload, 0), offset: readU32(payload, 4), bytes };
  const problem = partProblem(message);
  if (problem !== undefined) throw wireError("wire-payload", `${kind}: ${problem}`, { kind });
  return message;
}

export function writeEndOfState(message: EndOfState, target: Uint8Array, at: number): number {
  writeU32(target, at, message.machineStateBytes);
  writeU32(target, at + 4, message.vfStateBytes);
  return 8;
}

export function readEndOfState(payload: Uint8Array): EndOfState {
  return { kind: "end-of-state", machineStateBytes: readU32(payload, 0), vfStateBytes: readU32(payload, 4) };
}

export function readQueryOutcome(payload: Uint8Array): QueryOutcome {
  return { kind: "query-outcome", migrationId: migrationIdOf(payload.subarray(0, migrationIdBytes)) };
}

export function writeOutcome(message: Outcome, target: Uint8Array, at: number): number {
  writeMigrationId(message.migrationId, target, at);
  target.fill(0, at + migrationIdBytes, at + 24);
  target[at + migrationIdBytes] = 1 + outcomes.indexOf(message.outcome);
  return 24;
}

export function readOutcome(payload: Uint8Array): Outcome {
  const number = payload[migrationIdBytes] as number;
  const outcome = outcomes[number - 1];
  if (outcome === undefined) throw wireError("wire-payload", `outcome ${number}`, { kind: "outcome" });
  if (payload.subarray(migrationIdBytes + 1).some((byte) => byte !== 0)) {
    throw wireError("wire-reserved", "a reserved byte of outcome is set", { kind: "outcome" });
  }
  return { kind: "outcome", migrationId: migrationIdOf(payload.subarray(0, migrationIdBytes)), outcome };
}
