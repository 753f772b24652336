// Connections over Node's own sockets, for where there is no native code: messages only, and no descriptors.
import { chmodSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import {
  MESSAGE_BYTES_MAX,
  QUEUED_BYTES_MAX,
  type ChannelListener,
  type ListenOptions,
  type MessageChannel,
  type ReceivedMessage,
} from "./channel.ts";
import { MessageAssembler } from "./framing.ts";
import { checkSocketPath, clearSocketPath, removeSocketFile, socketFileAt, type SocketFile } from "./socket-file.ts";

/**
 * Listens at `path`, replacing the socket of a dead server. Descriptors that a client sends are dropped by the kernel.
 * Throws OperationError `socket-in-use`, `socket-path-taken`, `socket-path-too-long`, and what the system refuses.
 */
export async function listenOnStream(options: ListenOptions): Promise<ChannelListener> {
  await clearSocketPath(options.path);
  const server = createServer((socket) => options.onConnection(new StreamChannel(socket, options)));
  // A connection that cannot be taken (no descriptor is free) is that client's trouble.
  server.on("error", () => undefined);
  const file = await bindPrivately(server, options.path);
  return {
    close: () =>
      new Promise((resolve) => {
        removeSocketFile(options.path, file);
        // Resolves without waiting for the connections that are open, which stay so.
        server.close();
        resolve();
      }),
  };
}

/**
 * Node makes the socket's file with the mode that the process's umask leaves. So it is made in a directory that nobody
 * else can enter, gets its mode, and only then its place. Gives the file.
 */
export async function bindPrivately(server: Server, socketPath: string): Promise<SocketFile | undefined> {
  const directory = mkdtempSync(path.join(path.dirname(socketPath), ".vf-"));
  try {
    const first = path.join(directory, "s");
    checkSocketPath(first);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(first, () => {
        server.off("error", reject);
        resolve();
      });
    });
    chmodSync(first, 0o600);
    const file = socketFileAt(first);
    renameSync(first, socketPath);
    return file;
  } catch (error) {
    server.close();
    throw error;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

class StreamChannel implements MessageChannel {
  readonly carriesDescriptors = false;
  onMessage: (message: ReceivedMessage) => void = () => undefined;
  onClosed: (problem: string | undefined) => void = () => undefined;

  readonly #socket: Socket;
  readonly #assembler: MessageAssembler;
  readonly #queuedBytesMax: number;
  #problem: string | undefined;

  constructor(socket: Socket, options: ListenOptions) {
    this.#socket = socket;
    this.#queuedBytesMax = options.queuedBytesMax ?? QUEUED_BYTES_MAX;
    this.#assembler = new MessageAssembler({
      messageBytesMax: options.messageBytesMax ?? MESSAGE_BYTES_MAX,
      descriptorsMax: 0,
      onMessage: (message) => this.onMessage(message),
      onDropped: () => undefined,
    });
    socket.on("data", (chunk: Buffer) => {
      const problem = this.#assembler.push(chunk, []);
      if (problem !== undefined) this.#end(problem);
    });
    socket.on("end", () => this.#end(undefined));
    // A reset is a client that went away; "close" follows.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#assembler.stop();
      this.onClosed(this.#problem);
    });
  }

  send(message: Uint8Array): void {
    if (this.#socket.destroyed) return;
    const waitingBytes = this.#socket.writableLength + message.length;
    if (waitingBytes > this.#queuedBytesMax) {
      this.#end(`it left ${waitingBytes} bytes unread that were sent to it`);
    } else {
      // Node keeps what it cannot send at once, and the caller may write into its message again.
      this.#socket.write(message.slice());
    }
  }

  closeDescriptors(): void {}

  close(): void {
    this.#end(undefined);
  }

  #end(problem: string | undefined): void {
    if (this.#socket.destroyed) return;
    this.#problem = problem;
    this.#assembler.stop();
    this.#socket.destroy();
  }
}
