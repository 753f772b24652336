// The ledger: ground truth of every write the device did to guest memory, kept by the bench and never seen by the engine.
import { assert } from "../base/assert.ts";
import { DmaPurpose, tagIndex, tagPurpose, tagQueue, type DmaObserver } from "../iommu/dma-port.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import {
  factEndOfPacket,
  LEDGER_QUEUES,
  NONE,
  packFact,
  slotKey,
  type Clobber,
  type LedgerRecord,
} from "./ledger-record.ts";

export interface LedgerOptions {
  /** Rows kept, a power of two. Beyond it the oldest are folded away: their frames are counted, their places are not. */
  readonly writesMax?: number;
  /** Room for pre-images. Beyond it those of writes before P are forgotten. */
  readonly undoBytesMax?: number;
  /**
   * Keeps a hash of every write, and looks at each buffer again when its write-back comes: finds CPU writes into
   * buffers that the device owned (`dummy-write-race`). Costs two passes over every byte received.
   */
  readonly hashContents?: boolean;
}

const WRITES_MAX_DEFAULT = 1 << 20;
const UNDO_BYTES_MAX_DEFAULT = 64 * 1024 * 1024;
const CLOBBERS_MAX = 256;

/**
 * Memory is bounded by `writesMax` rows of 32 bytes (36 with hashes) and `undoBytesMax` bytes; the columns are rings,
 * allocated at once and touched as they fill. What is folded away is which frame lies where: bytes of such a frame that
 * arrive stale are still found, but are put down to the CPU. Rows and pre-images from P on are never folded: if they do
 * not fit, the ledger says so and no verdict is given. After P the driver posts nothing, so the rings bound them.
 */
export class Ledger implements DmaObserver {
  readonly #memory: GuestMemory;
  readonly #hashContents: boolean;
  readonly #mask: number;
  readonly #addresses: Float64Array;
  readonly #lengths: Uint32Array;
  readonly #tags: Uint32Array;
  readonly #facts: Uint32Array;
  readonly #undoOffsets: Float64Array;
  readonly #hashes: Uint32Array;
  readonly #framesCompleted = new Float64Array(LEDGER_QUEUES);
  readonly #undoBytesMax: number;
  #undo = new Uint8Array(0);
  /** Pre-image bytes ever kept, gaps included: the place of the next one, modulo the room. */
  #undoHead = 0;
  /** #undoHead when the vCPUs paused. */
  #undoAtPause = 0;
  #isUndoing = false;
  #isIncomplete = false;
  #written = 0;
  #pausedAt = NONE;
  #stoppedAt = NONE;
  /** The write that was announced by `before` and has not happened yet, and the place of its pre-image. */
  #announcedAddress = NONE;
  #announcedOffset = NONE;
  /** With hashContents: rows of buffer writes not yet covered by a write-back, by queue and descriptor. */
  readonly #waiting = new Map<number, number[]>();
  readonly #clobbers: Clobber[] = [];

  constructor(memory: GuestMemory, options: LedgerOptions = {}) {
    const rows = options.writesMax ?? WRITES_MAX_DEFAULT;
    assert(rows > 0 && (rows & (rows - 1)) === 0, `writesMax ${rows} is not a power of two`);
    this.#memory = memory;
    this.#hashContents = options.hashContents ?? false;
    this.#mask = rows - 1;
    this.#addresses = new Float64Array(rows);
    this.#lengths = new Uint32Array(rows);
    this.#tags = new Uint32Array(rows);
    this.#facts = new Uint32Array(rows);
    this.#undoOffsets = new Float64Array(rows);
    this.#hashes = new Uint32Array(this.#hashContents ? rows : 0);
    this.#undoBytesMax = options.undoBytesMax ?? UNDO_BYTES_MAX_DEFAULT;
  }

  /** Writes seen so far, which is the sequence number of the next one. */
  get sequence(): number {
    return this.#written;
  }

  /** Frames completed on all queues. */
  get framesCompleted(): number {
    return this.#framesCompleted.reduce((sum, frames) => sum + frames, 0);
  }

  /**
   * Keeps pre-images from here on. Not later than P; earlier is better, since older contents are what lets the audit
   * say that wrong bytes are old bytes.
   */
  beginUndo(): void {
    if (this.#isUndoing) return;
    this.#isUndoing = true;
    this.#undo = new Uint8Array(this.#undoBytesMax);
  }

  /** The vCPUs have paused, now or a while ago: this is P. */
  markVcpusPaused(): void {
    this.beginUndo();
    this.#pausedAt = this.#written;
    this.#undoAtPause = this.#undoHead;
    this.#isIncomplete = false;
  }

  /** Source and device run again, after a move that failed: there is no P any more. */
  markVcpusResumed(): void {
    this.#pausedAt = NONE;
    this.#stoppedAt = NONE;
    this.#isIncomplete = false;
  }

  /** The device was just declared stopped, with nothing left in flight: any write from here on is a late one. */
  markDeviceStopped(): void {
    this.#stoppedAt = this.#written;
  }

  before(address: number, length: number): void {
    if (!this.#isUndoing) return;
    this.#announcedAddress = address;
    this.#announcedOffset = this.#isMemory(address, length) ? this.#keepPreImage(address, length) : NONE;
  }

  after(address: number, length: number, tag: number): void {
    const slot = this.#written & this.#mask;
    this.#addresses[slot] = address;
    this.#lengths[slot] = length;
    this.#tags[slot] = tag;
    this.#facts[slot] = 0;
    this.#undoOffsets[slot] = this.#announcedAddress === address ? this.#announcedOffset : NONE;
    if (this.#pausedAt !== NONE) {
      const isFull = this.#written - this.#pausedAt > this.#mask;
      const lacksPreImage = this.#undoOffsets[slot] === NONE && this.#isMemory(address, length);
      if (isFull || lacksPreImage) this.#isIncomplete = true;
    }
    this.#announcedAddress = NONE;
    const purpose = tagPurpose(tag);
    if (purpose === DmaPurpose.rxWriteBack) this.#noteWriteBack(slot, address, length, tag);
    if (this.#hashContents) this.#watch(slot, address, length, tag, purpose);
    this.#written++;
  }

  /** A copy of everything known, rows oldest first. */
  record(): LedgerRecord {
    const rows = Math.min(this.#written, this.#mask + 1);
    const firstSequence = this.#written - rows;
    const undoStart = Math.max(0, this.#undoHead - this.#undo.length);
    return {
      memoryBytes: this.#memory.sizeBytes,
      firstSequence,
      rows,
      addresses: this.#unroll(this.#addresses, new Float64Array(rows)),
      lengths: this.#unroll(this.#lengths, new Uint32Array(rows)),
      tags: this.#unroll(this.#tags, new Uint32Array(rows)),
      facts: this.#unroll(this.#facts, new Uint32Array(rows)),
      hashes: this.#unroll(this.#hashes, new Uint32Array(this.#hashContents ? rows : 0)),
      undoOffsets: this.#unroll(this.#undoOffsets, new Float64Array(rows)).map((offset) =>
        offset < undoStart ? NONE : offset - undoStart,
      ),
      undo: this.#unrollUndo(undoStart),
      pausedAt: this.#pausedAt,
      stoppedAt: this.#stoppedAt,
      framesCompleted: this.#framesCompleted.slice(),
      clobbers: [...this.#clobbers],
      isIncomplete: this.#isIncomplete,
    };
  }

  #noteWriteBack(slot: number, address: number, length: number, tag: number): void {
    if (length !== 16 || !this.#isMemory(address, length)) return;
    const words = this.#memory.words();
    const at = address >>> 2;
    const fact = packFact(words[at + 2] ?? 0, (words[at + 3] ?? 0) & 0xffff);
    this.#facts[slot] = fact;
    if (!factEndOfPacket(fact)) return;
    const queue = tagQueue(tag);
    this.#framesCompleted[queue] = (this.#framesCompleted[queue] ?? 0) + 1;
  }

  /** Copies memory into the undo ring and returns the place. A pre-image is never split: what does not fit at the end starts over. */
  #keepPreImage(address: number, length: number): number {
    const room = this.#undo.length;
    if (length > room) return NONE;
    const place = this.#undoHead % room;
    if (place + length > room) this.#undoHead += room - place;
    const offset = this.#undoHead;
    this.#undo.set(this.#memory.bytes().subarray(address, address + length), offset % room);
    this.#undoHead += length;
    if (this.#pausedAt !== NONE && this.#undoHead - this.#undoAtPause > room) this.#isIncomplete = true;
    return offset;
  }

  #isMemory(address: number, length: number): boolean {
    return address + length <= this.#memory.sizeBytes;
  }

  #watch(slot: number, address: number, length: number, tag: number, purpose: DmaPurpose): void {
    if (!this.#isMemory(address, length)) return;
    this.#hashes[slot] = hashBytes(this.#memory.bytes(), address, length);
    const key = slotKey(tag);
    if (purpose === DmaPurpose.rxBuffer) {
      const waiting = this.#waiting.get(key);
      if (waiting === undefined) this.#waiting.set(key, [this.#written]);
      else waiting.push(this.#written);
    } else if (purpose === DmaPurpose.rxWriteBack) {
      for (const sequence of this.#waiting.get(key) ?? []) this.#lookAgain(sequence, tag);
      this.#waiting.delete(key);
    }
  }

  #lookAgain(sequence: number, tag: number): void {
    if (this.#written - sequence > this.#mask || this.#clobbers.length >= CLOBBERS_MAX) return;
    const slot = sequence & this.#mask;
    const address = this.#addresses[slot] ?? 0;
    const lengthBytes = this.#lengths[slot] ?? 0;
    if (hashBytes(this.#memory.bytes(), address, lengthBytes) === this.#hashes[slot]) return;
    const found = { sequence: this.#written, queue: tagQueue(tag), descriptor: tagIndex(tag), address, lengthBytes };
    this.#clobbers.push(found);
  }

  #unroll<Column extends Float64Array | Uint32Array>(ring: Column, target: Column): Column {
    const count = target.length;
    if (count === 0) return target;
    const start = (this.#written - count) & this.#mask;
    const first = Math.min(count, ring.length - start);
    target.set(ring.subarray(start, start + first), 0);
    target.set(ring.subarray(0, count - first), first);
    return target;
  }

  #unrollUndo(start: number): Uint8Array {
    const target = new Uint8Array(this.#undoHead - start);
    if (target.length === 0) return target;
    const place = start % this.#undo.length;
    const first = Math.min(target.length, this.#undo.length - place);
    target.set(this.#undo.subarray(place, place + first), 0);
    target.set(this.#undo.subarray(0, target.length - first), first);
    return target;
  }
}

/** A 32-bit hash of bytes (FNV-1a over bytes): for recognising contents, not against an adversary. */
export function hashBytes(bytes: Uint8Array, address: number, length: number): number {
  let hash = 0x811c_9dc5;
  for (let i = address; i < address + length; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x0100_0193);
  return hash >>> 0;
}
