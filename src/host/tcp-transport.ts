// TCP as a transport of the migration protocol; tls-transport.ts has the same with TLS around it.
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { assert } from "../base/assert.ts";
import type { OperationError } from "../base/errors.ts";
import type { Transport, TransportHandlers } from "../migration/wire/transport.ts";
import { tcpError, tcpErrorOf } from "./tcp-errors.ts";

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export const connectTimeoutMsDefault = 10_000;
/** How long a closed end still reads and throws away, for the peer to take our last frame and close as well. */
const lingerMs = 2000;

/** Half-open, since whoever has said its last word goes on reading; without Nagle's delay, since answers are small. */
export const socketOptions = { allowHalfOpen: true, noDelay: true, keepAlive: true } as const;

/** Connects to a peer that listens. Rejects with `peer-refused` or `peer-unreachable`. */
export async function connectTcp(address: TcpAddress, options: { timeoutMs?: number } = {}): Promise<Transport> {
  const socket = connect({ ...socketOptions, host: address.host, port: address.port });
  const timeoutMs = options.timeoutMs ?? connectTimeoutMsDefault;
  await untilConnected(socket, { event: "connect", address, timeoutMs, errorOf: tcpError });
  return new SocketTransport(socket, address);
}

/** Waits for the event that says it stands. Rejects with what `errorOf` makes of a failure, or with `peer-unreachable`. */
export function untilConnected(
  socket: Socket,
  parts: {
    readonly event: "connect" | "secureConnect";
    readonly address: TcpAddress;
    readonly timeoutMs: number;
    readonly errorOf: (error: Error, address: TcpAddress) => OperationError;
  },
): Promise<void> {
  const { event, address, timeoutMs, errorOf } = parts;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy();
      reject(tcpErrorOf("peer-unreachable", { ...address, systemCode: `no answer in ${timeoutMs} ms` }));
    }, timeoutMs);
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(errorOf(error, address));
    };
    socket.once("error", failed);
    socket.once(event, () => {
      clearTimeout(timer);
      socket.off("error", failed);
      resolve();
    });
  });
}

export interface TcpListener {
  /** Where it listens; with the port the system chose if none was asked for. */
  readonly address: TcpAddress;
  /** Takes no further connection; those that are open stay. */
  close(): void;
}

/** Listens and hands over each connection. Rejects with `address-in-use`, `address-unavailable` or `address-forbidden`. */
export function listenTcp(
  address: TcpAddress,
  onTransport: (transport: Transport, peer: TcpAddress) => void,
): Promise<TcpListener> {
  return new Promise((resolve, reject) => {
    const server = createServer({ ...socketOptions, pauseOnConnect: true }, (socket) => {
      const peer = { host: socket.remoteAddress ?? "unknown", port: socket.remotePort ?? 0 };
      onTransport(new SocketTransport(socket, peer), peer);
    });
    server.once("error", (error) => reject(tcpError(error, address)));
    server.listen({ host: address.host, port: address.port }, () => resolve(listenerOf(server)));
  });
}

export function listenerOf(server: Server): TcpListener {
  const { address, port } = server.address() as AddressInfo;
  return { address: { host: address, port }, close: () => void server.close() };
}

/** How a link says what became of it. */
export interface LinkErrors {
  readonly errorOf: (cause: unknown, peer: TcpAddress) => OperationError;
  /** What it means that the peer ends the link without ever having said a word; nothing in particular if left out. */
  readonly endedUnheard?: (peer: TcpAddress) => OperationError;
}

/** A transport over a socket that is connected, and that nobody has read from. */
export class SocketTransport implements Transport {
  bytesSent = 0;
  bytesReceived = 0;
  readonly #socket: Socket;
  readonly #endedUnheard: () => OperationError | undefined;
  #handlers: TransportHandlers | undefined;
  #error: OperationError | undefined;
  #closing = false;
  #closed = false;
  #reported = false;

  constructor(socket: Socket, peer: TcpAddress, errors: LinkErrors = { errorOf: tcpError }) {
    this.#socket = socket;
    this.#endedUnheard = () => errors.endedUnheard?.(peer);
    socket.pause();
    socket.on("error", (error) => {
      const known = errors.errorOf(error, peer);
      this.#error ??= (known.code === "peer-closed" ? this.#unheard() : undefined) ?? known;
    });
    socket.on("close", () => {
      this.#closed = true;
      this.#report(this.#error);
    });
  }

  start(handlers: TransportHandlers): void {
    assert(this.#handlers === undefined, "a transport is started once");
    this.#handlers = handlers;
    this.#socket.on("data", (chunk: Uint8Array) => this.#take(chunk));
    this.#socket.on("end", () => this.#peerEnded());
    this.#socket.resume();
    if (this.#closed) queueMicrotask(() => this.#report(this.#error));
  }

  send(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#closing || this.#closed || bytes.length === 0) return undefined;
    this.bytesSent += bytes.length;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.write(bytes, () => resolve());
    // The system often takes everything at once: nothing is left to wait for, and the bytes are the caller's again.
    return this.#socket.writableLength === 0 ? undefined : promise;
  }

  close(): void {
    if (this.#closing || this.#closed) return;
    this.#closing = true;
    this.#socket.end();
    this.#socket.resume();
    setTimeout(() => this.#socket.destroy(), lingerMs).unref();
  }

  #take(chunk: Uint8Array): void {
    if (this.#closing) return;
    this.bytesReceived += chunk.length;
    // A plain array: Buffer.slice gives a view where everybody expects a copy.
    this.#handlers?.onData(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  }

  /** The peer says nothing more, which ends any conversation; what we still have queued may yet reach it. */
  #peerEnded(): void {
    const why = this.#unheard();
    this.close();
    this.#report(why);
  }

  #unheard(): OperationError | undefined {
    return this.#closing || this.bytesReceived > 0 ? undefined : this.#endedUnheard();
  }

  #report(error: OperationError | undefined): void {
    if (this.#reported || this.#handlers === undefined) return;
    this.#reported = true;
    this.#handlers.onClose(this.#closing && error?.code === "peer-closed" ? undefined : error);
  }
}
