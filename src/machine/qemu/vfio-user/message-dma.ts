// The DMA port without shared memory: writes are messages, and reads are asked for now and answered later.
import { assert } from "../../../base/assert.ts";
import { isAddress } from "../../../base/numbers.ts";
import { DmaStatus, type DmaPort } from "../../../iommu/dma-port.ts";
import { DmaAccess, type FaultLog } from "../../../iommu/fault-log.ts";
import type { DmaRequester } from "./dma-requester.ts";

/** Each unit of the VF waits for one read at a time; the rest is for reads that were forgotten and not yet answered. */
const READS_MAX = 16;
/** A transmit descriptor has 64 KiB at most. */
const READ_BYTES_MAX = 0x10_0000;
/** Pieces are whole multiples of it, so that no descriptor of a ring is torn. */
const DESCRIPTOR_BYTES = 16;

export interface MessageDmaOptions {
  readonly requester: DmaRequester;
  /** Takes the reads that the client refused. */
  readonly faults: FaultLog;
  /**
   * What one message may carry now (max_data_xfer_size of this client), 0 while there is no client; longer accesses are
   * split. A client that takes less than a descriptor in one message is as none.
   */
  readonly transferBytesMax: () => number;
}

class Read {
  readonly iova: number;
  readonly bytes: Uint8Array;
  /** The client it was asked of. */
  readonly life: number;
  /** Messages that are not answered. */
  unanswered = 0;
  isRefused = false;
  isForgotten = false;

  constructor(iova: number, lengthBytes: number, life: number) {
    this.iova = iova;
    this.bytes = new Uint8Array(lengthBytes);
    this.life = life;
  }

  get key(): string {
    return keyOf(this.iova, this.bytes.length);
  }
}

const keyOf = (iova: number, lengthBytes: number): string => `${iova}+${lengthBytes}`;

/**
 * A read answers `later` and asks the client. When the answer is there `onAnswer` is called, and the same read asked for
 * again is served from it, once. What the client refused, or what there is no client for, is a fault, once, in the fault
 * log; a write that goes nowhere leaves no trace, as on a bus.
 *
 * Everything goes over one stream, in order: a buffer before its descriptor, both before the message of their interrupt,
 * and the answer to a read after all writes before it. This is also what keeps a client that is slow to read from being
 * overrun: no more than a handful of descriptors' buffers are written before the next descriptors must be read.
 *
 * At most 16 reads and a mebibyte of them are held. Beyond that the oldest answer that nobody came for makes room; if none
 * does, the read is not asked for, and whoever wants it is woken when there is room.
 */
export class MessageDma implements DmaPort {
  /**
   * Whoever waits is to ask again: Vf82599.wake. May be called from within an access, or from within the VF; so it
   * must not make the VF work at once.
   */
  onAnswer: () => void = () => {};
  readonly #requester: DmaRequester;
  readonly #faults: FaultLog;
  readonly #transferBytesMax: () => number;
  /** Reads that may still be asked for again, oldest first. */
  readonly #reads = new Map<string, Read>();
  /** Those, and forgotten ones that the client has not answered. */
  #heldReads = 0;
  #heldBytes = 0;
  /** Somebody was turned away. */
  #isRoomWanted = false;
  /** Clients so far. */
  #life = 0;

  constructor(options: MessageDmaOptions) {
    this.#requester = options.requester;
    this.#faults = options.faults;
    this.#transferBytesMax = options.transferBytesMax;
  }

  /** Reads that the client has not answered, or that nobody has come for. */
  get heldReads(): number {
    return this.#heldReads;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    assert((iova & 3) === 0, `a word access is aligned to 4 bytes, and ${iova} is not`);
    return this.readBytes(iova, new Uint8Array(target.buffer, target.byteOffset, count * 4), 0, count * 4);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    const read = this.#reads.get(keyOf(iova, length));
    if (read === undefined) return this.#ask(iova, length);
    if (read.unanswered > 0) return DmaStatus.later;
    this.#drop(read);
    if (read.isRefused) return this.#fault(iova, length, DmaAccess.read);
    target.set(read.bytes, targetOffset);
    return DmaStatus.ok;
  }

  writeWords(iova: number, source: Uint32Array, count: number, _tag: number): DmaStatus {
    assert((iova & 3) === 0, `a word access is aligned to 4 bytes, and ${iova} is not`);
    return this.#write(iova, new Uint8Array(source.buffer, source.byteOffset, count * 4));
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, _tag: number): DmaStatus {
    return this.#write(iova, source.subarray(sourceOffset, sourceOffset + length));
  }

  /** Answers that are still to come are ignored when they do. */
  forgetReads(): void {
    if (this.#reads.size === 0) return;
    for (const read of this.#reads.values()) {
      read.isForgotten = true;
      if (read.unanswered === 0) this.#release(read);
    }
    this.#reads.clear();
    this.onAnswer();
  }

  /** The client has gone: what was asked of it is not answered any more. */
  clientGone(): void {
    this.#life++;
    this.#heldReads = 0;
    this.#heldBytes = 0;
    this.forgetReads();
  }

  #ask(iova: number, length: number): DmaStatus {
    if (!isAddress(iova) || !isAddress(iova + length)) return this.#fault(iova, length, DmaAccess.read);
    if (!this.#makeRoom(length)) {
      this.#isRoomWanted = true;
      return DmaStatus.later;
    }
    const read = new Read(iova, length, this.#life);
    const pieceBytesMax = this.#pieceBytesMax();
    read.isRefused = pieceBytesMax === 0;
    for (let at = 0; at < length && !read.isRefused; at += pieceBytesMax) {
      this.#askPiece(read, at, Math.min(pieceBytesMax, length - at));
    }
    if (read.unanswered === 0) return this.#fault(iova, length, DmaAccess.read);
    this.#reads.set(read.key, read);
    this.#heldReads++;
    this.#heldBytes += length;
    return DmaStatus.later;
  }

  #askPiece(read: Read, at: number, pieceBytes: number): void {
    const isAsked = this.#requester.read(read.iova + at, pieceBytes, (bytes) => {
      if (bytes?.length === pieceBytes) read.bytes.set(bytes, at);
      else read.isRefused = true;
      read.unanswered--;
      if (read.unanswered === 0) this.#answered(read);
    });
    if (isAsked) read.unanswered++;
    else read.isRefused = true;
  }

  #pieceBytesMax(): number {
    const bytesMax = this.#transferBytesMax();
    return bytesMax - (bytesMax % DESCRIPTOR_BYTES);
  }

  #answered(read: Read): void {
    if (read.life !== this.#life) return;
    if (read.isForgotten) this.#release(read);
    if (!read.isForgotten || this.#isRoomWanted) {
      this.#isRoomWanted = false;
      this.onAnswer();
    }
  }

  #hasRoom(length: number): boolean {
    return this.#heldReads === 0 || (this.#heldReads < READS_MAX && this.#heldBytes + length <= READ_BYTES_MAX);
  }

  #makeRoom(length: number): boolean {
    for (const read of this.#reads.values()) {
      if (this.#hasRoom(length)) return true;
      if (read.unanswered === 0) this.#drop(read);
    }
    return this.#hasRoom(length);
  }

  #drop(read: Read): void {
    this.#reads.delete(read.key);
    this.#release(read);
  }

  #release(read: Read): void {
    if (read.life !== this.#life) return;
    this.#heldReads--;
    this.#heldBytes -= read.bytes.length;
  }

  #write(iova: number, bytes: Uint8Array): DmaStatus {
    if (!isAddress(iova) || !isAddress(iova + bytes.length)) return this.#fault(iova, bytes.length, DmaAccess.write);
    const pieceBytesMax = this.#pieceBytesMax();
    if (pieceBytesMax === 0) return DmaStatus.ok;
    for (let at = 0; at < bytes.length; at += pieceBytesMax) {
      this.#requester.write(iova + at, bytes.subarray(at, at + pieceBytesMax));
    }
    return DmaStatus.ok;
  }

  #fault(iova: number, length: number, access: DmaAccess): DmaStatus {
    this.#faults.record(iova, length, access, DmaStatus.unmapped);
    return DmaStatus.unmapped;
  }
}
