// The ledger as a finished document: columns of every device write it still knows, and the marks between them.
import { DmaPurpose, tagPurpose, tagQueue, tagRelaxedOrdering } from "../iommu/dma-port.ts";

/** Queues a tag can name. */
export const LEDGER_QUEUES = 16;
/** A mark that was never set, a write without pre-image. */
export const NONE = -1;

/** Queue and descriptor of a tag in one number. */
export const slotKey = (tag: number): number => tag & 0xf_ffff;

/** What a receive write-back said, packed: length in bits 15:0, DD in bit 16, EOP in bit 17. */
export const packFact = (status: number, lengthBytes: number): number => ((status & 3) << 16) | (lengthBytes & 0xffff);
export const factLength = (fact: number): number => fact & 0xffff;
export const factEndOfPacket = (fact: number): boolean => (fact & (1 << 17)) !== 0;

/** Somebody who is not the device changed a buffer while the device owned it. */
export interface Clobber {
  /** The write-back that completed the buffer found it changed. */
  readonly sequence: number;
  readonly queue: number;
  readonly descriptor: number;
  readonly address: number;
  readonly lengthBytes: number;
}

/**
 * Every device write from `firstSequence` on, oldest first, one row each; row r has sequence number
 * firstSequence + r. Sequence numbers count from 0 at the ledger's beginning.
 */
export interface LedgerRecord {
  readonly memoryBytes: number;
  /** Sequence number of row 0: so many older writes were folded away. */
  readonly firstSequence: number;
  readonly rows: number;
  /** Guest physical address. */
  readonly addresses: Float64Array;
  /** Bytes. */
  readonly lengths: Uint32Array;
  /** See dmaTag. */
  readonly tags: Uint32Array;
  /** Receive write-backs: length, DD and EOP as packed above; 0 for other writes. */
  readonly facts: Uint32Array;
  /** hashBytes of what was written, or an empty array if the ledger did not hash contents. */
  readonly hashes: Uint32Array;
  /** Where the row's pre-image starts in `undo`, or NONE. */
  readonly undoOffsets: Float64Array;
  readonly undo: Uint8Array;
  /** P: the sequence number of the first write after the vCPUs paused, or NONE. */
  readonly pausedAt: number;
  /** The sequence number of the first write after the device was declared stopped, or NONE. */
  readonly stoppedAt: number;
  /** Frames completed (write-backs with EOP) per queue since the ledger began, folded rows included. */
  readonly framesCompleted: Float64Array;
  readonly clobbers: readonly Clobber[];
  /** A write after P lacks its row or its pre-image: RAM cannot be rolled back to P, and no verdict can be given. */
  readonly isIncomplete: boolean;
}

/** Which frame each row belongs to. */
export interface Attribution {
  /** Ordinal of the row's frame in its queue, counted from 0 at the ledger's beginning; NONE if not a receive write. */
  readonly frames: Float64Array;
  /** The row of the write-back that completed the row's buffer; a write-back's own row; NONE if it never came. */
  readonly writeBackRows: Int32Array;
}

/**
 * Attributes buffer writes to frames by descriptor, not by order: with relaxed ordering a buffer may land before the
 * write-back of the frame ahead of it, and a write-back that has the RO bit itself may land before its own buffer. Such
 * a write-back that says more bytes than have landed is owed the rest, and the next buffer writes of its descriptor pay.
 */
export function attribute(record: LedgerRecord): Attribution {
  const { rows, lengths, tags, facts } = record;
  const frames = new Float64Array(rows).fill(NONE);
  const writeBackRows = new Int32Array(rows).fill(NONE);
  const slots = new Map<number, SlotHistory>();
  const nextFrame = firstFrames(record);
  for (let row = 0; row < rows; row++) {
    const tag = tags[row] as number;
    const purpose = tagPurpose(tag);
    if (purpose !== DmaPurpose.rxBuffer && purpose !== DmaPurpose.rxWriteBack) continue;
    const key = slotKey(tag);
    let slot = slots.get(key);
    if (slot === undefined) slots.set(key, (slot = { owner: NONE, owedBytes: 0, waiting: [], waitingBytes: 0 }));
    if (purpose === DmaPurpose.rxBuffer) {
      const length = lengths[row] as number;
      if (slot.owedBytes > 0) {
        slot.owedBytes -= length;
        writeBackRows[row] = slot.owner;
        frames[row] = frames[slot.owner] as number;
      } else {
        slot.waiting.push(row);
        slot.waitingBytes += length;
      }
      continue;
    }
    const queue = tagQueue(tag);
    const fact = facts[row] as number;
    const frame = nextFrame[queue] as number;
    frames[row] = frame;
    writeBackRows[row] = row;
    for (const waiting of slot.waiting) {
      frames[waiting] = frame;
      writeBackRows[waiting] = row;
    }
    slot.owner = row;
    slot.owedBytes = tagRelaxedOrdering(tag) ? factLength(fact) - slot.waitingBytes : 0;
    slot.waiting.length = 0;
    slot.waitingBytes = 0;
    if (factEndOfPacket(fact)) nextFrame[queue] = frame + 1;
  }
  return { frames, writeBackRows };
}

interface SlotHistory {
  /** Row of the last write-back. */
  owner: number;
  /** Bytes that the last write-back promised and that have not landed; at most 0 if none. */
  owedBytes: number;
  readonly waiting: number[];
  waitingBytes: number;
}

/** Ordinal of the first frame that ends in the record, per queue. */
function firstFrames(record: LedgerRecord): Float64Array {
  const first = record.framesCompleted.slice();
  for (let row = 0; row < record.rows; row++) {
    const tag = record.tags[row] as number;
    if (tagPurpose(tag) !== DmaPurpose.rxWriteBack || !factEndOfPacket(record.facts[row] as number)) continue;
    const queue = tagQueue(tag);
    first[queue] = (first[queue] ?? 0) - 1;
  }
  return first;
}

/** The row number of a sequence number, at least 0: rows before it are older. */
export function rowAt(record: LedgerRecord, sequence: number): number {
  return Math.max(0, sequence - record.firstSequence);
}
