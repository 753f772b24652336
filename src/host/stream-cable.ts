// One end of a cable: frames over a stream socket, written in batches, with a bounded backlog.
import type { Duplex } from "node:stream";
import { OperationError } from "../base/errors.ts";
import { FRAME_PREFIX_BYTES, StreamDecoder, writeStreamFrame } from "../network/stream-framing.ts";

export interface StreamCableOptions {
  /** A frame came in. The bytes are good until it returns. */
  readonly onFrame: (frame: Uint8Array) => void;
  /** All frames of one read have been handed to `onFrame`. */
  readonly onBatchEnd?: () => void;
  /** Frames that `send` took have been handed to the operating system. */
  readonly onWritten?: (frames: number, bytes: number) => void;
  /** The cable is out, once: by `close`, by the other end, or for the error given. `unsentFrames` were taken but never written. */
  readonly onClosed: (end: { readonly unsentFrames: number; readonly error: OperationError | undefined }) => void;
  /** Bytes taken but not yet written beyond which `send` refuses. The default is the 82599's packet buffer, 512 KiB. */
  readonly backlogBytesMax?: number;
}

/**
 * Size of a batch, and of the largest write. Linux hands a write of up to 32 KiB to a Unix socket's reader as one
 * piece. That matters: passt loses track of the stream when a read ends within the four bytes of a prefix (tap.c,
 * tap_handler_passt), so a write must hold whole frames and must not be split; hence also only one write at a time,
 * since Node joins those that wait.
 */
const BATCH_BYTES = 32_768;
const BACKLOG_BYTES_MAX = 512 * 1024;
const SPARE_BATCHES_MAX = 8;

interface Batch {
  readonly buffer: Uint8Array;
  usedBytes: number;
  frames: number;
  frameBytes: number;
}

/** Frames taken in one turn of the event loop leave in one write at its end, or earlier when a batch is full. */
export class StreamCable {
  readonly #socket: Duplex;
  readonly #options: StreamCableOptions;
  readonly #backlogBytesMax: number;
  readonly #waiting: Batch[] = [];
  readonly #spare: Batch[] = [];
  #filling: Batch = newBatch();
  #inFlight: Batch | undefined;
  #backlogBytes = 0;
  #backlogFrames = 0;
  #isFlushScheduled = false;
  #isClosed = false;
  #error: OperationError | undefined;

  constructor(socket: Duplex, options: StreamCableOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#backlogBytesMax = options.backlogBytesMax ?? BACKLOG_BYTES_MAX;
    const decoder = new StreamDecoder({ onFrame: options.onFrame });
    socket.on("data", (chunk: Uint8Array) => {
      if (this.#isClosed) return;
      // A Buffer's slice() is a view, not a copy; whoever copies frames must be able to rely on Uint8Array's.
      const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
      if (!decoder.push(bytes)) this.#error = framingError(decoder.failure?.announcedBytes ?? 0);
      options.onBatchEnd?.();
      if (this.#error !== undefined) this.close();
    });
    socket.on("error", (cause) => {
      this.#error ??= new OperationError({
        code: "cable-broken",
        message: `the cable broke: ${cause.message}`,
        advice: "Look whether the process at its other end is still running.",
        cause,
      });
    });
    socket.on("end", () => this.close());
    socket.on("close", () => this.close());
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Frames taken and not yet handed to the operating system. */
  get backlogFrames(): number {
    return this.#backlogFrames;
  }

  /** Takes a frame, copying it. False when the cable is out, the backlog is full or the frame does not fit a batch. */
  send(frame: Uint8Array): boolean {
    const bytes = FRAME_PREFIX_BYTES + frame.length;
    if (this.#isClosed || bytes > BATCH_BYTES || this.#backlogBytes + bytes > this.#backlogBytesMax) return false;
    if (this.#filling.usedBytes + bytes > BATCH_BYTES) this.#endBatch();
    const batch = this.#filling;
    batch.usedBytes = writeStreamFrame(batch.buffer, batch.usedBytes, frame);
    batch.frames++;
    batch.frameBytes += frame.length;
    this.#backlogBytes += bytes;
    this.#backlogFrames++;
    if (!this.#isFlushScheduled) {
      this.#isFlushScheduled = true;
      queueMicrotask(() => {
        this.#isFlushScheduled = false;
        this.#writeNext();
      });
    }
    return true;
  }

  /** Pulls the cable: what is not written yet is lost. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    this.#options.onClosed({ unsentFrames: this.#backlogFrames, error: this.#error });
  }

  #endBatch(): void {
    this.#waiting.push(this.#filling);
    this.#filling = this.#spare.pop() ?? newBatch();
    this.#writeNext();
  }

  #writeNext(): void {
    if (this.#inFlight !== undefined || this.#isClosed) return;
    let batch = this.#waiting.shift();
    if (batch === undefined) {
      if (this.#filling.frames === 0) return;
      batch = this.#filling;
      this.#filling = this.#spare.pop() ?? newBatch();
    }
    this.#inFlight = batch;
    this.#socket.write(batch.buffer.subarray(0, batch.usedBytes), (error) => this.#written(batch, error));
  }

  #written(batch: Batch, error: Error | null | undefined): void {
    this.#inFlight = undefined;
    if (this.#isClosed || (error !== null && error !== undefined)) return;
    this.#backlogBytes -= batch.usedBytes;
    this.#backlogFrames -= batch.frames;
    this.#options.onWritten?.(batch.frames, batch.frameBytes);
    batch.usedBytes = 0;
    batch.frames = 0;
    batch.frameBytes = 0;
    if (this.#spare.length < SPARE_BATCHES_MAX) this.#spare.push(batch);
    this.#writeNext();
  }
}

function newBatch(): Batch {
  return { buffer: Buffer.allocUnsafeSlow(BATCH_BYTES), usedBytes: 0, frames: 0, frameBytes: 0 };
}

function framingError(announcedBytes: number): OperationError {
  return new OperationError({
    code: "cable-garbled",
    message: `the other end of a cable announced a frame of ${announcedBytes} bytes`,
    advice: "Look whether it speaks the framing of QEMU's stream netdev: a 4-byte big-endian length before each frame.",
    facts: { announcedBytes },
  });
}
