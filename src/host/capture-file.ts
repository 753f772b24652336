// A capture of the fabric's frames in a pcapng file, written behind the traffic's back and never in its way.
import { open, type FileHandle } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { captureHeader, packetBlock, statisticsBlock, type CapturedInterface } from "../network/pcapng.ts";

export interface CaptureOptions {
  readonly path: string;
  readonly interfaces: readonly CapturedInterface[];
  readonly clock: Clock;
  /** Bytes that may wait for a slow disk before packets are left out, which is counted. */
  readonly bufferBytesMax?: number;
}

export interface CapturedFrame {
  readonly interfaceIndex: number;
  readonly direction: "in" | "out";
  readonly bytes: Uint8Array;
  readonly comment?: string;
}

export interface CaptureSummary {
  readonly packets: number;
  readonly bytes: number;
  /** Packets left out since the disk was too slow. They are in the file's interface statistics too. */
  readonly leftOut: number;
}

const BUFFER_BYTES_MAX = 16 << 20;

export class CaptureFile {
  readonly #options: CaptureOptions;
  readonly #file: FileHandle;
  /** Milliseconds from the clock's origin to the Unix epoch's. */
  readonly #epochMs: number;
  readonly #received: number[];
  readonly #leftOut: number[];
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #bytes = 0;
  #writing: Promise<void> | undefined;
  #failure: OperationError | undefined;

  /** Creates the file, or empties it. Rejects with OperationError `capture-failed`. */
  static async create(options: CaptureOptions): Promise<CaptureFile> {
    try {
      return new CaptureFile(options, await open(options.path, "w"));
    } catch (error) {
      throw captureFailed(options.path, error);
    }
  }

  private constructor(options: CaptureOptions, file: FileHandle) {
    this.#options = options;
    this.#file = file;
    this.#epochMs = Date.now() - options.clock.nowMs();
    this.#received = options.interfaces.map(() => 0);
    this.#leftOut = options.interfaces.map(() => 0);
    this.#write(captureHeader("Underway", options.interfaces));
  }

  /** Records a frame; its bytes are copied. */
  frame(frame: CapturedFrame): void {
    const { interfaceIndex: index } = frame;
    this.#received[index] = (this.#received[index] ?? 0) + 1;
    if (this.#waitingBytes > (this.#options.bufferBytesMax ?? BUFFER_BYTES_MAX) || this.#failure !== undefined) {
      this.#leftOut[index] = (this.#leftOut[index] ?? 0) + 1;
      return;
    }
    this.#write(packetBlock({ ...frame, timeMs: this.#nowMs() }));
  }

  /** Writes what is left and the statistics. Rejects with OperationError `capture-failed` when any write had failed. */
  async close(): Promise<CaptureSummary> {
    const timeMs = this.#nowMs();
    for (const [interfaceIndex, received] of this.#received.entries()) {
      this.#write(statisticsBlock({ interfaceIndex, timeMs, received, dropped: this.#leftOut[interfaceIndex] ?? 0 }));
    }
    await this.#writing;
    await this.#file.close();
    if (this.#failure !== undefined) throw this.#failure;
    const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);
    const leftOut = sum(this.#leftOut);
    return { packets: sum(this.#received) - leftOut, bytes: this.#bytes, leftOut };
  }

  #nowMs(): number {
    return this.#epochMs + this.#options.clock.nowMs();
  }

  #write(block: Uint8Array): void {
    this.#waiting.push(block);
    this.#waitingBytes += block.length;
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    // Blocks of this turn of the event loop go out together.
    await Promise.resolve();
    while (this.#waiting.length > 0 && this.#failure === undefined) {
      const blocks = this.#waiting;
      this.#waiting = [];
      try {
        await writeAll(this.#file, blocks);
      } catch (error) {
        this.#failure = captureFailed(this.#options.path, error);
      }
      for (const block of blocks) {
        this.#waitingBytes -= block.length;
        this.#bytes += block.length;
      }
    }
    this.#writing = undefined;
  }
}

async function writeAll(file: FileHandle, blocks: readonly Uint8Array[]): Promise<void> {
  const bytes = Buffer.concat(blocks);
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten;
}

function captureFailed(path: string, cause: unknown): OperationError {
  return new OperationError({
    code: "capture-failed",
    message: `cannot write the capture ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
    advice: "Give a path in a folder that exists and may be written to, on a disk with room.",
    facts: { path },
    cause,
  });
}
