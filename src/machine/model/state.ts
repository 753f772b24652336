// Everything the model guest is, RAM and VF apart: plain data, saved as it is, checked when it comes back.
import * as v from "valibot";
import { OperationError } from "../../base/errors.ts";
import { QUEUE_PAIRS_MAX } from "../../nic/registers.ts";
import { RING_DESCRIPTORS_MAX } from "../../nic/ring.ts";
import { RING_AREAS, type Layout } from "./layout.ts";

export const MODEL_STATE_VERSION = 2;
/** No honest state of a guest that a test would make is larger. */
const MODEL_STATE_BYTES_MAX = 4 << 20;

const PAGES_MAX = 1 << 20;
const SEQUENCES_LISTED_MAX = 16;
const SOCKET_FRAMES_MAX = 4096;
const FLOWS = 256;

const integer = (max: number, min = 0): v.GenericSchema<number> =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
const u32 = integer(0xffff_ffff);
const address = integer(Number.MAX_SAFE_INTEGER);
/** -1 for none. */
const pageOrNone = integer(PAGES_MAX, -1);
const pageNumber = integer(PAGES_MAX);
const descriptorIndex = integer(RING_DESCRIPTORS_MAX);
const queueIndex = integer(QUEUE_PAIRS_MAX - 1);
const listOf = <Item>(item: v.GenericSchema<Item>, max: number): v.GenericSchema<Item[]> =>
  v.pipe(v.array(item), v.maxLength(max));

/** The same for lists as long as memory: checked in one loop, for a guest is dark while its state is looked at. */
const longListOf = (max: number): v.GenericSchema<number[]> =>
  v.custom<number[]>((value) => {
    if (!Array.isArray(value) || value.length > PAGES_MAX) return false;
    for (const item of value) if (!Number.isInteger(item) || item < 0 || item > max) return false;
    return true;
  }, `a list of integers from 0 to ${max} is wanted`);

/** A frame as the stack holds it: bytes copied to a page of its own, and pieces of receive buffers. */
const socketBufferSchema = v.strictObject({
  headPage: pageNumber,
  headBytes: integer(65_536),
  fragments: listOf(v.strictObject({ address, bytes: integer(65_536, 1) }), RING_DESCRIPTORS_MAX),
});

const receiveQueueSchema = v.strictObject({
  nextToUse: descriptorIndex,
  nextToClean: descriptorIndex,
  nextToAlloc: descriptorIndex,
  /** rx_buffer_info: page and page_offset of each slot. */
  pages: listOf(pageOrNone, RING_DESCRIPTORS_MAX),
  offsets: listOf(integer(65_536), RING_DESCRIPTORS_MAX),
  /** rx_ring->skb: a frame whose end has not been seen. */
  unfinished: v.nullable(socketBufferSchema),
});

const transmitQueueSchema = v.strictObject({
  nextToUse: descriptorIndex,
  nextToClean: descriptorIndex,
  /** Descriptors with RS, oldest first, and the pages that their DD gives back. */
  reports: listOf(
    v.strictObject({ slot: descriptorIndex, pages: listOf(pageNumber, RING_DESCRIPTORS_MAX) }),
    RING_DESCRIPTORS_MAX,
  ),
  /** Pages of frames since the last RS. */
  unreported: listOf(pageNumber, RING_DESCRIPTORS_MAX),
  framesSinceReport: u32,
  framesSinceContext: u32,
});

/** Where the driver's code is; each value is one step away from the next. */
const programSchema = v.variant("at", [
  /** No driver yet: the next step probes. */
  v.strictObject({ at: v.literal("off") }),
  v.strictObject({ at: v.literal("idle") }),
  v.strictObject({ at: v.literal("disable-queues") }),
  /** Of a driver that keeps its rings. */
  v.strictObject({ at: v.literal("turn-rings"), queue: queueIndex }),
  v.strictObject({ at: v.literal("reset"), keepsRings: v.boolean() }),
  v.strictObject({ at: v.literal("free-rings") }),
  v.strictObject({ at: v.literal("reopen-queue"), queue: queueIndex }),
  v.strictObject({ at: v.literal("open-queue"), queue: queueIndex }),
  v.strictObject({ at: v.literal("fill-ring"), queue: queueIndex, left: descriptorIndex, posted: descriptorIndex }),
  v.strictObject({ at: v.literal("enable-interrupts") }),
  v.strictObject({ at: v.literal("clean-transmit"), queue: queueIndex }),
  v.strictObject({ at: v.literal("look"), queue: queueIndex, budget: u32, unused: descriptorIndex }),
  v.strictObject({
    at: v.literal("read-descriptor"),
    queue: queueIndex,
    budget: u32,
    unused: descriptorIndex,
    bytes: integer(0xffff, 1),
  }),
  /** The first half of a dummy write; `bytes` is 0 if the descriptor has not been looked at. */
  v.strictObject({
    at: v.literal("read-buffer"),
    queue: queueIndex,
    budget: u32,
    unused: descriptorIndex,
    bytes: integer(0xffff),
    status: u32,
  }),
  /** The second: `word` is what was read. */
  v.strictObject({
    at: v.literal("write-buffer"),
    queue: queueIndex,
    budget: u32,
    unused: descriptorIndex,
    bytes: integer(0xffff),
    status: u32,
    word: u32,
  }),
  v.strictObject({ at: v.literal("look-after-write"), queue: queueIndex, budget: u32, unused: descriptorIndex }),
  v.strictObject({
    at: v.literal("copy-descriptor"),
    queue: queueIndex,
    budget: u32,
    unused: descriptorIndex,
    bytes: integer(0xffff, 1),
    status: u32,
  }),
  v.strictObject({
    at: v.literal("take-buffer"),
    queue: queueIndex,
    budget: u32,
    unused: descriptorIndex,
    bytes: integer(0xffff, 1),
    status: u32,
  }),
  v.strictObject({
    at: v.literal("refill"),
    queue: queueIndex,
    budget: u32,
    left: descriptorIndex,
    posted: descriptorIndex,
  }),
  v.strictObject({ at: v.literal("end-poll"), queue: queueIndex, isDone: v.boolean() }),
]);

const driverSchema = v.strictObject({
  vf: v.strictObject({
    mac: listOf(integer(0xff), 6),
    api: integer(8),
    getLinkStatus: v.boolean(),
    strictMailbox: v.boolean(),
    stickyMailboxBits: u32,
  }),
  program: programSchema,
  /** Queues may be used by the application. */
  isUp: v.boolean(),
  /** Queues whose poll is due, one bit each; those that were scheduled again during their poll (NAPIF_STATE_MISSED). */
  scheduled: u32,
  missed: u32,
  lastPolled: queueIndex,
  isServiceDue: v.boolean(),
  isReopenDue: v.boolean(),
  ringArea: integer(RING_AREAS - 1),
  /** Pages that have left the rings and that the device may still write: see BufferMapping. */
  stillMapped: listOf(pageNumber, PAGES_MAX),
  receive: listOf(receiveQueueSchema, QUEUE_PAIRS_MAX),
  transmit: listOf(transmitQueueSchema, QUEUE_PAIRS_MAX),
});

const applicationSchema = v.strictObject({
  program: v.variant("at", [
    v.strictObject({ at: v.literal("next") }),
    v.strictObject({ at: v.literal("post"), page: pageNumber }),
    v.strictObject({ at: v.literal("ring"), queue: queueIndex, opened: u32 }),
  ]),
  /** Which of its jobs the application does next. */
  turn: u32,
  writes: u32,
  /** Sequence number of the next frame sent. */
  sending: u32,
  /** Newest sequence number seen of each flow, -1 for none. */
  newest: listOf(integer(0xffff_ffff, -1), FLOWS),
});

const countersSchema = v.strictObject({
  /** Frames the driver gave to the socket. */
  received: u32,
  /** Frames the application read, every byte of which was right. */
  verified: u32,
  /** Frames with a wrong byte. */
  corrupt: u32,
  /** Of the first corrupt frames: how many frames had been read before. */
  corruptAt: listOf(u32, SEQUENCES_LISTED_MAX),
  /** Frames not newer than the newest of their flow: duplicates, or out of order. */
  repeated: u32,
  /** Sequence numbers left out. */
  missing: u32,
  droppedBySocket: u32,
  /** Frames with an error bit, which the driver throws away. */
  errors: u32,
  allocationFailures: u32,
  /** Frames posted, whose completion came, and that were given up with their ring. */
  sent: u32,
  completed: u32,
  abandoned: u32,
  interrupts: u32,
  /** Times the driver opened its rings. */
  opened: u32,
});

const stateSchema = v.strictObject({
  machine: v.literal("model"),
  version: v.literal(MODEL_STATE_VERSION),
  /** What the guest was made of; it goes on only in a machine of the same kind. */
  shape: v.string(),
  /** Why the guest died, or null. */
  panic: v.nullable(v.pipe(v.string(), v.maxLength(1000))),
  pendingVectors: u32,
  /** The page allocator: free pages, the next one last, and the number of owners of each page. */
  freePages: longListOf(PAGES_MAX),
  owners: longListOf(0xffff),
  driver: driverSchema,
  application: applicationSchema,
  socket: listOf(socketBufferSchema, SOCKET_FRAMES_MAX),
  counters: countersSchema,
});

export type ModelState = v.InferOutput<typeof stateSchema>;
export type SocketBuffer = v.InferOutput<typeof socketBufferSchema>;
export type ReceiveQueue = v.InferOutput<typeof receiveQueueSchema>;
export type TransmitQueue = v.InferOutput<typeof transmitQueueSchema>;
export type DriverState = v.InferOutput<typeof driverSchema>;
export type Program = v.InferOutput<typeof programSchema>;
export type ProgramAt<Name extends Program["at"]> = Extract<Program, { at: Name }>;
export type Counters = v.InferOutput<typeof countersSchema>;

export function listCorrupt(counters: Counters, frame: number): void {
  counters.corrupt++;
  if (counters.corruptAt.length < SEQUENCES_LISTED_MAX) counters.corruptAt.push(frame);
}

function shapeOf(layout: Layout): string {
  const { pages, queuePairs, receiveDescriptors, transmitDescriptors, bufferBytes, poolFirst } = layout;
  const { cooperation, descriptorWriteRelaxedOrdering, unmap } = layout;
  return [
    pages.count,
    pages.sizeBytes,
    queuePairs,
    receiveDescriptors,
    transmitDescriptors,
    bufferBytes,
    poolFirst,
    cooperation,
    descriptorWriteRelaxedOrdering ? "relaxed" : "ordered",
    unmap,
  ].join("/");
}

/** A guest that has not begun. */
export function initialState(layout: Layout): ModelState {
  const { pages, poolFirst, queuePairs, receiveDescriptors } = layout;
  const perQueue = <Item>(make: () => Item): Item[] => Array.from({ length: queuePairs }, make);
  return {
    machine: "model",
    version: MODEL_STATE_VERSION,
    shape: shapeOf(layout),
    panic: null,
    pendingVectors: 0,
    freePages: Array.from({ length: pages.count - poolFirst }, (_, index) => pages.count - 1 - index),
    owners: Array.from({ length: pages.count }, () => 0),
    driver: {
      vf: { mac: [], api: 0, getLinkStatus: true, strictMailbox: false, stickyMailboxBits: 0 },
      program: { at: "off" },
      isUp: false,
      scheduled: 0,
      missed: 0,
      lastPolled: 0,
      isServiceDue: false,
      isReopenDue: false,
      ringArea: 0,
      stillMapped: [],
      receive: perQueue(() => emptyReceiveQueue(receiveDescriptors)),
      transmit: perQueue(emptyTransmitQueue),
    },
    application: {
      program: { at: "next" },
      turn: 0,
      writes: 0,
      sending: 0,
      newest: Array.from({ length: FLOWS }, () => -1),
    },
    socket: [],
    counters: {
      received: 0,
      verified: 0,
      corrupt: 0,
      corruptAt: [],
      repeated: 0,
      missing: 0,
      droppedBySocket: 0,
      errors: 0,
      allocationFailures: 0,
      sent: 0,
      completed: 0,
      abandoned: 0,
      interrupts: 0,
      opened: 0,
    },
  };
}

export function emptyReceiveQueue(descriptors: number): ReceiveQueue {
  return {
    nextToUse: 0,
    nextToClean: 0,
    nextToAlloc: 0,
    pages: Array.from({ length: descriptors }, () => -1),
    offsets: Array.from({ length: descriptors }, () => 0),
    unfinished: null,
  };
}

export function emptyTransmitQueue(): TransmitQueue {
  return {
    nextToUse: 0,
    nextToClean: 0,
    reports: [],
    unreported: [],
    framesSinceReport: 0,
    framesSinceContext: 0,
  };
}

export function encodeState(state: ModelState): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(state));
}

/**
 * Reads what encodeState wrote, from whomever it comes. Throws OperationError `machine-state-invalid`. A state that
 * passes may still be that of a guest gone mad: it can panic, and hurt nobody else.
 */
export function decodeState(bytes: Uint8Array, layout: Layout): ModelState {
  if (bytes.length > MODEL_STATE_BYTES_MAX) throw invalid(`${bytes.length} bytes are too many`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid("it is not JSON in UTF-8", error);
  }
  const result = v.safeParse(stateSchema, parsed, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    throw invalid(`${v.getDotPath(issue) ?? "it"}: ${issue.message}`);
  }
  const mistake = misfit(result.output, layout);
  if (mistake !== undefined) throw invalid(mistake);
  return result.output;
}

/** Lists whose length other code relies on, and indices into them. */
function misfit(state: ModelState, layout: Layout): string | undefined {
  const { queuePairs, receiveDescriptors, transmitDescriptors, pages } = layout;
  const { driver, application } = state;
  if (state.shape !== shapeOf(layout)) return `it is of a guest of another shape, ${state.shape}`;
  if (state.owners.length !== pages.count || application.newest.length !== FLOWS) return "a list is too short";
  if (driver.receive.length !== queuePairs || driver.transmit.length !== queuePairs) return "a queue is missing";
  const programs = [driver.program, application.program];
  if (programs.some((program) => "queue" in program && program.queue >= queuePairs)) return "a queue is unknown";
  for (const queue of driver.receive) {
    const { pages: buffers, offsets, nextToUse, nextToClean, nextToAlloc } = queue;
    if (buffers.length !== receiveDescriptors || offsets.length !== receiveDescriptors) return "a ring is too short";
    if (Math.max(nextToUse, nextToClean, nextToAlloc) >= receiveDescriptors) return "an index is outside its ring";
  }
  for (const { nextToUse, nextToClean, reports } of driver.transmit) {
    const slots = [nextToUse, nextToClean, ...reports.map((report) => report.slot)];
    if (slots.some((slot) => slot >= transmitDescriptors)) return "an index is outside its ring";
  }
  return undefined;
}

function invalid(reason: string, cause?: unknown): OperationError {
  return new OperationError({
    code: "machine-state-invalid",
    message: `the model machine's state cannot be used: ${reason}`,
    advice: "The state is damaged or of another machine; the source still has the guest and can go on.",
    facts: { reason },
    cause,
  });
}
