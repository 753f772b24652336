// A host's side of its cable to the fabric: where the VF's frames go out and come in.
import { connect } from "node:net";
import { OperationError } from "../base/errors.ts";
import type { FrameSink } from "../nic/ports.ts";
import { StreamCable } from "./stream-cable.ts";

export interface CableCounters {
  /** Frames from the fabric, and those of them that came while nobody was listening. */
  readonly framesIn: number;
  readonly bytesIn: number;
  readonly unclaimed: number;
  /** Frames for the fabric: handed to the operating system, still waiting for that, and dropped. */
  readonly framesOut: number;
  readonly bytesOut: number;
  readonly queued: number;
  /** Refused because the fabric reads too slowly, or lost because the cable was pulled. */
  readonly dropped: number;
}

/** A cable that is plugged in. As a FrameSink it is the VF's uplink. */
export class Cable implements FrameSink {
  /** Takes each frame from the fabric; the bytes are good until it returns. The owner sets it. */
  onFrame: ((frame: Uint8Array) => void) | undefined;
  /** Resolves when the cable is out: with the error when it broke, with undefined when it was pulled. */
  readonly closed: Promise<OperationError | undefined>;
  readonly #stream: StreamCable;
  #counters = { framesIn: 0, bytesIn: 0, unclaimed: 0, framesOut: 0, bytesOut: 0, dropped: 0 };

  constructor(socket: ReturnType<typeof connect>) {
    const { promise, resolve } = Promise.withResolvers<OperationError | undefined>();
    this.closed = promise;
    this.#stream = new StreamCable(socket, {
      onFrame: (frame) => this.#take(frame),
      onWritten: (frames, bytes) => {
        this.#counters.framesOut += frames;
        this.#counters.bytesOut += bytes;
      },
      onClosed: ({ unsentFrames, error }) => {
        this.#counters.dropped += unsentFrames;
        resolve(error);
      },
    });
  }

  get counters(): CableCounters {
    return { ...this.#counters, queued: this.#stream.isClosed ? 0 : this.#stream.backlogFrames };
  }

  frame(bytes: Uint8Array): void {
    if (!this.#stream.send(bytes)) this.#counters.dropped++;
  }

  close(): void {
    this.#stream.close();
  }

  #take(frame: Uint8Array): void {
    this.#counters.framesIn++;
    this.#counters.bytesIn += frame.length;
    if (this.onFrame === undefined) this.#counters.unclaimed++;
    else this.onFrame(frame);
  }
}

/** Plugs a host into the fabric. Rejects with OperationError `fabric-unreachable`. */
export function plugCable(socketPath: string): Promise<Cable> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    const failed = (cause: Error): void => {
      reject(
        new OperationError({
          code: "fabric-unreachable",
          message: `cannot plug into the fabric at ${socketPath}: ${cause.message}`,
          advice: "Start the fabric first, and give the path of the socket that it made for this host.",
          facts: { socketPath },
          cause,
        }),
      );
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      socket.off("error", failed);
      resolve(new Cable(socket));
    });
  });
}
