// The VF's saved state: one named, versioned struct that describes the device, and its form on the wire.
import * as v from "valibot";
import { OperationError } from "../base/errors.ts";
import type { EndpointState } from "../pci/endpoint.ts";
import type { ReceiveState, TransmitState } from "./datapath-ports.ts";
import type { InterruptState } from "./interrupts.ts";
import { CastMode, MailboxApi } from "./mailbox-messages.ts";
import type { PhysicalFunctionState } from "./physical-function.ts";
import { FRAME_LIMIT_BYTES_MAX, FRAME_LIMIT_BYTES_MIN } from "./pf-requests.ts";
import { savedRows } from "./register-state.ts";
import type { RegisterState } from "./register-state.ts";
import { QUEUE_PAIRS_MAX, VECTORS_MAX, VFMBMEM_WORDS } from "./registers.ts";
import { MAC_VLANS_MAX, VLANS_MAX } from "./switch-filter.ts";

export const VF_STATE_VERSION = 1;
/** More than any state this version can have. */
export const VF_STATE_BYTES_MAX = 256 * 1024;

/**
 * What moves when a VF moves: the device as its datasheet and its guest know it, nothing of this implementation.
 * Frames still in the packet buffer are not part of it: they are lost like frames on a wire, and counted.
 */
export interface VfState {
  readonly device: "82599-vf";
  readonly version: typeof VF_STATE_VERSION;
  readonly queuePairs: number;
  /** VFFRTIMER at the time of saving, microseconds. */
  readonly timerUs: number;
  readonly pci: EndpointState;
  readonly registers: RegisterState;
  readonly interrupts: InterruptState;
  readonly physicalFunction: PhysicalFunctionState;
  readonly receive: ReceiveState;
  readonly transmit: TransmitState;
}

const integer = (max: number, min = 0): v.GenericSchema<number> =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const u8 = integer(0xff);
const u16 = integer(0xffff);
const u32 = integer(0xffff_ffff);
const listOf = <Item>(item: v.GenericSchema<Item>, max: number, min = 0): v.GenericSchema<Item[]> =>
  v.pipe(v.array(item), v.minLength(min), v.maxLength(max));
const exactly = <Item>(item: v.GenericSchema<Item>, count: number): v.GenericSchema<Item[]> =>
  listOf(item, count, count);
const mac = v.pipe(v.string(), v.regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/));

const pciSchema = v.strictObject({
  command: u16,
  cacheLineSize: u8,
  interruptLine: u8,
  bars: exactly(u32, 6),
  deviceControl: u16,
  deviceControl2: u16,
  msixControl: u16,
  msixVectors: exactly(
    v.strictObject({ addressLow: u32, addressHigh: u32, data: u32, masked: v.boolean(), pending: v.boolean() }),
    VECTORS_MAX,
  ),
});

const registersSchema = v.strictObject(Object.fromEntries(savedRows.map((row) => [row.name, exactly(u32, row.count)])));

const interruptsSchema = v.strictObject({
  vectors: exactly(v.strictObject({ asserted: v.boolean(), holdUs: integer(0xff8) }), VECTORS_MAX),
});

const mailboxSchema = v.strictObject({
  waitingReply: listOf(u32, VFMBMEM_WORDS),
  waitingControl: listOf(u32, VFMBMEM_WORDS),
  replyUnread: v.boolean(),
});

const physicalFunctionSchema = v.strictObject({
  clearToSend: v.boolean(),
  api: v.picklist(Object.values(MailboxApi)),
  mac,
  macAssigned: v.boolean(),
  addressFiltered: v.boolean(),
  macVlans: listOf(mac, MAC_VLANS_MAX),
  multicastHashes: listOf(integer(0xfff), 0x1000),
  castMode: v.picklist(Object.values(CastMode)),
  vlans: listOf(integer(0xfff), VLANS_MAX, 1),
  spoofCheck: v.boolean(),
  frameLimitBytes: integer(FRAME_LIMIT_BYTES_MAX, FRAME_LIMIT_BYTES_MIN),
  receiveEnabled: v.boolean(),
  refusalDueUs: integer(1_000_000, -1),
  mailbox: mailboxSchema,
});

const receiveSchema = v.strictObject({
  queues: listOf(
    v.strictObject({ frameInProgress: v.boolean(), causePending: v.boolean(), dmaFault: v.boolean() }),
    QUEUE_PAIRS_MAX,
    1,
  ),
});

const contextSchema = v.strictObject({ valid: v.boolean(), vlanMacipLens: u32, typeTucmdMlhl: u32, mssL4lenIdx: u32 });

const transmitSchema = v.strictObject({
  queues: listOf(
    v.strictObject({
      contexts: v.tuple([contextSchema, contextSchema]),
      reported: u16,
      causePending: v.boolean(),
      dmaFault: v.boolean(),
    }),
    QUEUE_PAIRS_MAX,
    1,
  ),
  nextQueue: integer(QUEUE_PAIRS_MAX - 1),
});

const vfStateSchema = v.pipe(
  v.strictObject({
    device: v.literal("82599-vf"),
    version: v.literal(VF_STATE_VERSION),
    queuePairs: integer(QUEUE_PAIRS_MAX, 1),
    timerUs: u32,
    pci: pciSchema,
    registers: registersSchema,
    interrupts: interruptsSchema,
    physicalFunction: physicalFunctionSchema,
    receive: receiveSchema,
    transmit: transmitSchema,
  }),
  v.check(
    (state) =>
      state.receive.queues.length === state.queuePairs &&
      state.transmit.queues.length === state.queuePairs &&
      state.transmit.nextQueue < state.queuePairs,
    "queues do not match queuePairs",
  ),
);

/** The state as UTF-8 JSON: small, readable in a dump, and independent of byte order. */
export function encodeVfState(state: VfState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(state));
}

/**
 * Reads what encodeVfState wrote. The bytes may come from anyone: their length is bounded, every field is checked, and
 * nothing unknown is let in. Throws OperationError `vf-state-version` for another version of this device's state and
 * `vf-state-invalid` for anything else.
 */
export function decodeVfState(bytes: Uint8Array): VfState {
  if (bytes.length > VF_STATE_BYTES_MAX) throw invalid(`${bytes.length} bytes are too many`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid("it is not JSON in UTF-8", error);
  }
  const header = v.safeParse(v.object({ device: v.literal("82599-vf"), version: v.number() }), parsed);
  if (header.success && header.output.version !== VF_STATE_VERSION) {
    throw new OperationError({
      code: "vf-state-version",
      message: `the VF state has version ${header.output.version}, this side reads version ${VF_STATE_VERSION}`,
      advice: "Run the same version of Underway on both sides.",
      facts: { version: header.output.version, versionRead: VF_STATE_VERSION },
    });
  }
  const result = v.safeParse(vfStateSchema, parsed, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw invalid(`${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
}

function invalid(reason: string, cause?: unknown): OperationError {
  return new OperationError({
    code: "vf-state-invalid",
    message: `the VF state cannot be used: ${reason}`,
    advice: "The state is damaged or was not made by Underway; the source still has the VF and can go on.",
    facts: { reason },
    cause,
  });
}
