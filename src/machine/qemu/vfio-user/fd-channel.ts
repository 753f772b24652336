// Connections over recvmsg(2), which brings file descriptors along: the client's memory and its eventfds.
import {
  DESCRIPTORS_MAX,
  MESSAGE_BYTES_MAX,
  QUEUED_BYTES_MAX,
  type ChannelListener,
  type ListenOptions,
  type MessageChannel,
  type ReceivedMessage,
} from "./channel.ts";
import { errno, errnoName, type DescriptorSockets, type Watch } from "./descriptor-sockets.ts";
import { MessageAssembler } from "./framing.ts";
import { SendQueue } from "./send-queue.ts";
import { clearSocketPath, removeSocketFile, socketFileAt } from "./socket-file.ts";

/** Bytes taken from a connection before everyone else in the process has their turn. */
const RECEIVE_BYTES = 0x1_0000;
/** How long a process that is out of descriptors takes no new clients. */
const OUT_OF_DESCRIPTORS_MS = 100;

/**
 * `socket-path-too-long`, and what `DescriptorSockets.listen` throws.
 */
export async function listenWithDescriptors(
  sockets: DescriptorSockets,
  options: ListenOptions,
): Promise<ChannelListener> {
  const { path } = options;
  await clearSocketPath(path);
  const socket = sockets.listen(path);
  const file = socketFileAt(path);
  const acceptor = new Acceptor(sockets, socket, (connection) => {
    options.onConnection(new DescriptorChannel(sockets, connection, options));
  });
  return {
    close() {
      acceptor.close();
      removeSocketFile(path, file);
      return Promise.resolve();
    },
  };
}

/** Takes connections from a listening socket, and closes it. */
class Acceptor {
  readonly #sockets: DescriptorSockets;
  readonly #socket: number;
  readonly #onConnection: (connection: number) => void;
  #watch: Watch | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(sockets: DescriptorSockets, socket: number, onConnection: (connection: number) => void) {
    this.#sockets = sockets;
    this.#socket = socket;
    this.#onConnection = onConnection;
    this.#wait();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    this.#watch?.close();
    this.#sockets.closeDescriptor(this.#socket);
  }

  #wait(): void {
    this.#watch = this.#sockets.watch(this.#socket, () => setImmediate(() => this.#acceptAll()));
  }

  #acceptAll(): void {
    while (!this.#isClosed) {
      const connection = this.#sockets.accept(this.#socket);
      if (connection >= 0) this.#onConnection(connection);
      else if (connection === -errno.EAGAIN) return;
      else if (connection === -errno.EMFILE || connection === -errno.ENFILE) return this.#pause();
      // Every other errno is that connection's, which is gone (accept(2), "Error handling").
    }
  }

  /** The client goes on waiting; watching would only say so again and again. */
  #pause(): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#retry = setTimeout(() => this.#wait(), OUT_OF_DESCRIPTORS_MS);
  }
}

/**
 * One connection. The socket is in the event loop's own epoll set, so waiting takes no thread of libuv's pool, however
 * many servers a process has. A client that accesses registers waits for each answer; keeping the event loop awake for
 * its next message (0.2 ms, 1 ms) was tried and made the answers later, by the time that the client's own threads and the
 * scheduler then lacked: waking up costs less.
 */
class DescriptorChannel implements MessageChannel {
  readonly carriesDescriptors = true;
  onMessage: (message: ReceivedMessage) => void = (message) => this.closeDescriptors(message.descriptors);
  onClosed: (problem: string | undefined) => void = () => undefined;

  readonly #sockets: DescriptorSockets;
  readonly #socket: number;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  readonly #receive: ReturnType<DescriptorSockets["receiver"]>;
  readonly #assembler: MessageAssembler;
  readonly #queue = new SendQueue();
  readonly #queuedBytesMax: number;
  readonly #watch: Watch;
  #isTurnDue = false;
  #isClosed = false;

  constructor(sockets: DescriptorSockets, socket: number, options: ListenOptions) {
    this.#sockets = sockets;
    this.#socket = socket;
    this.#queuedBytesMax = options.queuedBytesMax ?? QUEUED_BYTES_MAX;
    this.#receive = sockets.receiver(socket, this.#buffer, DESCRIPTORS_MAX);
    this.#assembler = new MessageAssembler({
      messageBytesMax: options.messageBytesMax ?? MESSAGE_BYTES_MAX,
      descriptorsMax: DESCRIPTORS_MAX,
      onMessage: (message) => this.onMessage(message),
      onDropped: (descriptors) => this.closeDescriptors(descriptors),
    });
    this.#watch = sockets.watch(socket, () => this.#takeTurn());
  }

  send(message: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#queue.waitingBytes > 0) {
      this.#enqueue(message);
      return;
    }
    const taken = this.#sockets.send(this.#socket, message);
    if (taken === message.length) return;
    if (taken >= 0) this.#enqueue(message.subarray(taken));
    else if (taken === -errno.EAGAIN) this.#enqueue(message);
    else this.#endFor(taken);
  }

  closeDescriptors(descriptors: readonly number[]): void {
    for (const descriptor of descriptors) this.#sockets.closeDescriptor(descriptor);
  }

  close(): void {
    this.#end(undefined);
  }

  #enqueue(bytes: Uint8Array): void {
    if (this.#queue.waitingBytes + bytes.length > this.#queuedBytesMax) {
      this.#end(`it left ${this.#queue.waitingBytes + bytes.length} bytes unread that were sent to it`);
      return;
    }
    if (this.#queue.waitingBytes === 0) this.#watch.forRoom(true);
    this.#queue.add(bytes);
  }

  /**
   * Looks at the socket in a callback of Node's own, where promises and exceptions are as everywhere. And again when
   * something was there: the watch ends with the connection's other end, when the rest is yet to be read.
   */
  #takeTurn(): void {
    if (this.#isTurnDue || this.#isClosed) return;
    this.#isTurnDue = true;
    setImmediate(() => {
      this.#isTurnDue = false;
      if (this.#isClosed) return;
      this.#flush();
      if (this.#receiveSome()) this.#takeTurn();
    });
  }

  #flush(): void {
    if (this.#queue.waitingBytes === 0) return;
    const result = this.#queue.flush((bytes) => this.#sockets.send(this.#socket, bytes));
    if (result < 0 && result !== -errno.EAGAIN) this.#endFor(result);
    else if (this.#queue.waitingBytes === 0) this.#watch.forRoom(false);
  }

  /** Takes what one recvmsg(2) gives. False when there is nothing, or nothing any more. */
  #receiveSome(): boolean {
    const { result, descriptors, isCutShort } = this.#receive();
    if (result === -errno.EAGAIN) return false;
    if (result <= 0) {
      this.#endFor(result);
    } else if (isCutShort) {
      this.closeDescriptors(descriptors);
      this.#end(
        `it sent more descriptors with a message than the ${DESCRIPTORS_MAX} allowed, or than there is room for`,
      );
    } else {
      const problem = this.#assembler.push(this.#buffer.subarray(0, result), descriptors);
      if (problem !== undefined) this.#end(problem);
    }
    return !this.#isClosed;
  }

  /** Ends the connection for a call's result: 0 or a reset is a client that went away. */
  #endFor(result: number): void {
    const isGone = result === 0 || result === -errno.EPIPE || result === -errno.ECONNRESET;
    this.#end(isGone ? undefined : `its socket failed: ${errnoName(-result)}`);
  }

  #end(problem: string | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#assembler.stop();
    this.#queue.clear();
    this.#watch.close();
    this.#sockets.closeDescriptor(this.#socket);
    setImmediate(() => this.onClosed(problem));
  }
}
