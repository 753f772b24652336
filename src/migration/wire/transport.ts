// The seam below the protocol: a transport carries bytes both ways, in order, until it ends.
import type { OperationError } from "../../base/errors.ts";

export interface TransportHandlers {
  /** Bytes arrived. The chunk is the transport's: it is good only until the handler returns. */
  onData(chunk: Uint8Array): void;
  /**
   * The transport has ended, and nothing follows. Called exactly once. Without an error both sides closed in good order
   * or the peer ended its stream; with one the link broke (`peer-closed` and the like).
   */
  onClose(error: OperationError | undefined): void;
}

/**
 * A byte stream to the peer. TCP and memory are two; TLS is a third that wraps a socket the same way, and several
 * connections are several transports.
 *
 * Who owns the bytes that are sent: the transport, from the call of `send` until the promise it returned has resolved.
 * Where it returns undefined it has written or copied them already, and they are the caller's again. So a buffer is
 * reused after the promise, never before.
 */
export interface Transport {
  /** Begins to deliver. Called once; no data is lost that came before. */
  start(handlers: TransportHandlers): void;
  /**
   * Queues bytes behind all earlier ones. A promise says that the way is full: who has much to send waits for it.
   * It never rejects: when the link breaks it resolves, and `onClose` tells why. After the end `send` does nothing.
   */
  send(bytes: Uint8Array): Promise<void> | undefined;
  /**
   * Sends what is queued, then ends the stream. What still arrives is thrown away, read all the same: closing a socket
   * with unread bytes resets the connection and may take our last frame with it.
   */
  close(): void;
  /** Bytes handed to `send` so far. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}
