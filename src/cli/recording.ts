// A recording: the event stream of one run as lines of JSON, after a header that says what was asked for.
import { createWriteStream, type WriteStream } from "node:fs";
import { once } from "node:events";
import { OperationError } from "../base/errors.ts";
import type { MigrateOptions, SidedEvent } from "../host/report.ts";
import type { MoveRequest } from "../host/vf-server/requests.ts";

/** Versions of the file's shape: the header and one SidedEvent per line. Numbers that are not finite are null. */
export const RECORDING_FORMAT_VERSION = 1;

export interface RecordingHeader {
  readonly format: "underway-recording";
  readonly formatVersion: typeof RECORDING_FORMAT_VERSION;
  readonly program: string;
  /** What `migrate`, or `sidecar`, was asked for. */
  readonly options: MigrateOptions | MoveRequest;
}

/** A sink of the event stream that ends in a file. A disk that fills up does not stop a migration. */
export class Recording {
  readonly #file: string;
  readonly #stream: WriteStream;
  #error: Error | undefined;

  private constructor(file: string, stream: WriteStream) {
    this.#file = file;
    this.#stream = stream;
    stream.on("error", (error) => {
      this.#error = error;
    });
  }

  /** Begins a new file, or empties an old one. Throws OperationError `recording-failed`. */
  static async open(file: string, options: RecordingHeader["options"], program: string): Promise<Recording> {
    const stream = createWriteStream(file);
    try {
      await once(stream, "open");
    } catch (error) {
      throw recordingFailed(file, error);
    }
    const recording = new Recording(file, stream);
    recording.#line({ format: "underway-recording", formatVersion: RECORDING_FORMAT_VERSION, program, options });
    return recording;
  }

  event(event: SidedEvent): void {
    this.#line(event);
  }

  #line(value: RecordingHeader | SidedEvent): void {
    this.#stream.write(`${JSON.stringify(value)}\n`);
  }

  /** Resolves when everything is written; with the OperationError `recording-failed` if it was not. */
  async close(): Promise<OperationError | undefined> {
    await new Promise<void>((resolve) => {
      this.#stream.once("close", resolve);
      if (this.#stream.closed) resolve();
      this.#stream.end();
    });
    return this.#error === undefined ? undefined : recordingFailed(this.#file, this.#error);
  }
}

function recordingFailed(file: string, cause: unknown): OperationError<"recording-failed"> {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new OperationError({
    code: "recording-failed",
    message: `The recording could not be written to ${file}.`,
    advice: "Name a file in a folder that exists, that you may write to, and that has room.",
    facts: { file, reason },
    cause,
  });
}
