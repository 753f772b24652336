// A switch port with a socket: a host plugs in by connecting, one at a time, and its link is up while it stays.
import { createServer, type Server } from "node:net";
import type { Duplex } from "node:stream";
import { OperationError } from "../base/errors.ts";
import type { SwitchPort } from "../network/switch-port.ts";
import type { EthernetSwitch } from "../network/switch.ts";
import { StreamCable, type StreamCableOptions } from "./stream-cable.ts";

/** Sees what goes over a cable; the bytes are good until it returns. */
export interface CableWatch {
  sent(frame: Uint8Array): void;
  received(frame: Uint8Array): void;
  unplugged(): void;
}

export interface CablePortOptions {
  readonly fabric: EthernetSwitch;
  readonly name: string;
  readonly filter?: (frame: Uint8Array) => boolean;
  /** What goes over the cable in place of a frame. */
  readonly trim?: (frame: Uint8Array) => Uint8Array;
  readonly watch?: CableWatch;
  /** Frames came in: the fabric has work to do. */
  readonly onBatchEnd: () => void;
  readonly onPlugged: () => void;
  readonly onUnplugged: (error: OperationError | undefined) => void;
}

/** Longest path that fits a Unix socket address, its final zero left out. */
const SOCKET_PATH_BYTES_MAX = 107;

export class CablePort {
  readonly port: SwitchPort;
  readonly #options: CablePortOptions;
  #server: Server | undefined;
  #cable: StreamCable | undefined;
  #isEnabled = true;
  turnedAway = 0;
  garbled = 0;

  constructor(options: CablePortOptions) {
    this.#options = options;
    const { filter } = options;
    const sink = { accept: (frame: Uint8Array) => this.#accept(options.trim?.(frame) ?? frame) };
    this.port = options.fabric.addPort({ name: options.name, sink, ...(filter === undefined ? {} : { filter }) });
  }

  get isPlugged(): boolean {
    return this.#cable !== undefined;
  }

  /** Administrative state; the link is up when this is true and a cable is in. */
  setEnabled(enabled: boolean): void {
    this.#isEnabled = enabled;
    this.port.setUp(enabled && this.isPlugged);
  }

  /** How a cable for this port reports to it. */
  cableOptions(): StreamCableOptions {
    return {
      onFrame: (frame) => {
        this.#options.watch?.received(frame);
        this.port.receive(frame);
      },
      onBatchEnd: this.#options.onBatchEnd,
      onWritten: (frames, bytes) => this.port.noteSent(frames, bytes),
      onClosed: ({ unsentFrames, error }) => {
        this.port.noteUnplugged(unsentFrames);
        this.#cable = undefined;
        this.port.setUp(false);
        this.#options.watch?.unplugged();
        if (error?.code === "cable-garbled") this.garbled++;
        this.#options.onUnplugged(error);
      },
    };
  }

  /** Puts a cable made with `cableOptions` in. */
  plug(cable: StreamCable): void {
    if (cable.isClosed) return;
    this.#cable = cable;
    this.port.setUp(this.#isEnabled);
    this.#options.onPlugged();
  }

  /** Lets hosts plug in at a socket. Rejects with OperationError `socket-path-unusable`. */
  listen(socketPath: string): Promise<void> {
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
      return Promise.reject(pathUnusable(socketPath, `it is longer than ${SOCKET_PATH_BYTES_MAX} bytes`));
    }
    const server = createServer((socket) => this.#connected(socket));
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("error", (error) => reject(pathUnusable(socketPath, error.message)));
      server.listen(socketPath, resolve);
    });
  }

  /** Pulls the cable and takes the socket away, its file too. */
  close(): void {
    this.#server?.close();
    this.#cable?.close();
  }

  #accept(frame: Uint8Array): "queued" | "refused" {
    if (this.#cable?.send(frame) !== true) return "refused";
    this.#options.watch?.sent(frame);
    return "queued";
  }

  #connected(socket: Duplex): void {
    if (this.isPlugged) {
      this.turnedAway++;
      socket.on("error", () => {}).destroy();
      return;
    }
    this.plug(new StreamCable(socket, this.cableOptions()));
  }
}

function pathUnusable(socketPath: string, why: string): OperationError {
  return new OperationError({
    code: "socket-path-unusable",
    message: `cannot listen at ${socketPath}: ${why}`,
    advice: "Choose a folder with a short path that exists, may be written to, and that no other run uses.",
    facts: { socketPath, why },
  });
}
