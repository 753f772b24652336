// The ledger as bytes, since the source that keeps it and the auditor that reads it may be different processes.
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { ADDRESS_MAX } from "../base/numbers.ts";
import { DmaPurpose, tagPurpose, tagQueue } from "../iommu/dma-port.ts";
import { factEndOfPacket, LEDGER_QUEUES, NONE, type Clobber, type LedgerRecord } from "./ledger-record.ts";

/*
 * Layout, little-endian, version 1:
 *
 *   u32 magic "UWLG" | u32 version | u32 flags (1 hashes, 2 incomplete) | u32 rows | u32 clobbers | u32 undo bytes
 *   f64 memory bytes | f64 first sequence | f64 paused at | f64 stopped at | 16 x f64 frames completed
 *   f64 addresses[rows] | f64 undo offsets[rows] | 5 x f64 clobbers[] | u32 lengths[rows] | u32 tags[rows]
 *   u32 facts[rows] | u32 hashes[rows], if any | undo bytes
 */
const MAGIC = 0x474c_5755;
const VERSION = 1;
const FLAG_HASHES = 1;
const FLAG_INCOMPLETE = 2;
const FLAGS_KNOWN = FLAG_HASHES | FLAG_INCOMPLETE;
const HEADER_BYTES = 24;
const SCALARS = 4 + LEDGER_QUEUES;
const CLOBBER_FIELDS = 5;

export function serializeLedger(record: LedgerRecord): Uint8Array {
  const { rows, clobbers, undo } = record;
  const scalars = [record.memoryBytes, record.firstSequence, record.pausedAt, record.stoppedAt];
  const header = new Uint32Array([MAGIC, VERSION, flagsOf(record), rows, clobbers.length, undo.length]);
  const flat = clobbers.flatMap((c) => [c.sequence, c.queue, c.descriptor, c.address, c.lengthBytes]);
  const sections = [
    header,
    new Float64Array([...scalars, ...record.framesCompleted]),
    record.addresses,
    record.undoOffsets,
    new Float64Array(flat),
    record.lengths,
    record.tags,
    record.facts,
    record.hashes,
    undo,
  ];
  const bytes = new Uint8Array(sections.reduce((sum, section) => sum + section.byteLength, 0));
  let at = 0;
  for (const section of sections) {
    bytes.set(new Uint8Array(section.buffer, section.byteOffset, section.byteLength), at);
    at += section.byteLength;
  }
  assert(bytes.length === sizeOf(header), "a column of the ledger has not one entry a row");
  return bytes;
}

/** Throws OperationError `ledger-invalid`. */
export function deserializeLedger(bytes: Uint8Array): LedgerRecord {
  check(bytes.length >= HEADER_BYTES, "is too short for a header");
  const header = new Uint32Array(bytes.slice(0, HEADER_BYTES).buffer);
  const [magic, version, flags = 0, rows = 0, clobberCount = 0, undoBytes = 0] = header;
  check(magic === MAGIC, "does not begin with its magic number");
  check(version === VERSION, `has version ${version}, this program reads version ${VERSION}`);
  check((flags & ~FLAGS_KNOWN) === 0, "has flags this program does not know");
  check(bytes.length === sizeOf(header), "has not the length that its header says");

  let at = HEADER_BYTES;
  const take = (length: number): ArrayBuffer => bytes.slice(at, (at += length)).buffer;
  const scalars = new Float64Array(take(8 * SCALARS));
  const [memoryBytes = 0, firstSequence = 0, pausedAt = 0, stoppedAt = 0] = scalars;
  const record: LedgerRecord = {
    memoryBytes,
    firstSequence,
    rows,
    pausedAt,
    stoppedAt,
    framesCompleted: scalars.slice(4),
    addresses: new Float64Array(take(8 * rows)),
    undoOffsets: new Float64Array(take(8 * rows)),
    clobbers: readClobbers(new Float64Array(take(8 * CLOBBER_FIELDS * clobberCount))),
    lengths: new Uint32Array(take(4 * rows)),
    tags: new Uint32Array(take(4 * rows)),
    facts: new Uint32Array(take(4 * rows)),
    hashes: new Uint32Array(take((flags & FLAG_HASHES) === 0 ? 0 : 4 * rows)),
    undo: new Uint8Array(take(undoBytes)),
    isIncomplete: (flags & FLAG_INCOMPLETE) !== 0,
  };
  checkRecord(record);
  return record;
}

function flagsOf(record: LedgerRecord): number {
  return (record.hashes.length > 0 ? FLAG_HASHES : 0) | (record.isIncomplete ? FLAG_INCOMPLETE : 0);
}

function sizeOf(header: Uint32Array): number {
  const [, , flags = 0, rows = 0, clobbers = 0, undoBytes = 0] = header;
  const rowBytes = 28 + ((flags & FLAG_HASHES) === 0 ? 0 : 4);
  return HEADER_BYTES + 8 * SCALARS + rows * rowBytes + 8 * CLOBBER_FIELDS * clobbers + undoBytes;
}

function readClobbers(fields: Float64Array): Clobber[] {
  const clobbers: Clobber[] = [];
  for (let at = 0; at < fields.length; at += CLOBBER_FIELDS) {
    const [sequence = 0, queue = 0, descriptor = 0, address = 0, lengthBytes = 0] = fields.subarray(at);
    for (const field of fields.subarray(at, at + CLOBBER_FIELDS)) check(isCount(field), "has a clobber out of range");
    check(queue < LEDGER_QUEUES && descriptor <= 0xffff, "has a clobber out of range");
    clobbers.push({ sequence, queue, descriptor, address, lengthBytes });
  }
  return clobbers;
}

/** What the rest of the audit takes for granted. */
function checkRecord(record: LedgerRecord): void {
  const { rows, firstSequence, memoryBytes, framesCompleted } = record;
  check(isCount(memoryBytes) && isCount(firstSequence) && isCount(firstSequence + rows), "has counts out of range");
  for (const mark of [record.pausedAt, record.stoppedAt]) {
    check(mark === NONE || (isCount(mark) && mark <= firstSequence + rows), "has a mark outside its rows");
  }
  check(record.isIncomplete || record.pausedAt === NONE || record.pausedAt >= firstSequence, "lacks writes after P");
  const framesInRows = new Float64Array(LEDGER_QUEUES);
  for (let row = 0; row < rows; row++) {
    checkRow(record, row);
    const tag = record.tags[row] ?? 0;
    const isEnd = tagPurpose(tag) === DmaPurpose.rxWriteBack && factEndOfPacket(record.facts[row] ?? 0);
    if (isEnd) framesInRows[tagQueue(tag)] = (framesInRows[tagQueue(tag)] ?? 0) + 1;
  }
  for (let queue = 0; queue < LEDGER_QUEUES; queue++) {
    const completed = framesCompleted[queue] ?? 0;
    check(isCount(completed) && completed >= (framesInRows[queue] ?? 0), "counts fewer frames than its rows show");
  }
}

function checkRow(record: LedgerRecord, row: number): void {
  const address = record.addresses[row] ?? NONE;
  const length = record.lengths[row] ?? 0;
  const tag = record.tags[row] ?? 0;
  const undoOffset = record.undoOffsets[row] ?? NONE;
  check(isCount(address) && address + length <= ADDRESS_MAX, "has an address out of range");
  check(tag < 1 << 25 && tagPurpose(tag) <= DmaPurpose.message, "has a tag that no device writes");
  const isPlaced = undoOffset === NONE || (isCount(undoOffset) && undoOffset + length <= record.undo.length);
  check(isPlaced, "has a pre-image outside its arena");
  const isMemory = address + length <= record.memoryBytes;
  check(isMemory || undoOffset === NONE, "has a pre-image of what is not memory");
  const isAfterPause = record.pausedAt !== NONE && record.firstSequence + row >= record.pausedAt;
  check(!isAfterPause || !isMemory || undoOffset !== NONE || record.isIncomplete, "lacks a pre-image after P");
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

function check(condition: boolean, what: string): asserts condition {
  if (condition) return;
  throw new OperationError({
    code: "ledger-invalid",
    message: `The ledger ${what}.`,
    advice: "Audit with the same version of the program on both sides, and check how the ledger was carried.",
  });
}
