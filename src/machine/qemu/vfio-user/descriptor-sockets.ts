// What the system must do for connections that carry file descriptors; the native calls have it.
import { getSystemErrorName } from "node:util";

/** Numbers of errno(3) that mean something here; the same on x86-64 and arm64. */
export const errno = { EAGAIN: 11, ENFILE: 23, EMFILE: 24, EPIPE: 32, ECONNRESET: 104 } as const;

/** The name that errno(3) has for a number. */
export function errnoName(code: number): string {
  return getSystemErrorName(-code);
}

/** Looks at one descriptor whenever the event loop does; `close` it before the descriptor. */
export interface Watch {
  /** From now on also (or no longer) for room to write. */
  forRoom(isWanted: boolean): void;
  close(): void;
}

/** What one recvmsg(2) gave, besides the bytes: good until the next one. */
export interface Received {
  /** Bytes in the buffer, 0 when the peer has closed its end, a negated errno when the call failed. */
  readonly result: number;
  readonly descriptors: readonly number[];
  /** There were more descriptors than room for them, or than this process may have; the kernel closed those. */
  readonly isCutShort: boolean;
}

/**
 * Calls that fail in the ordinary course of things return a negated errno; the others throw OperationError
 * `system-call-failed`. Nothing here blocks. Whoever gets a descriptor closes it with `closeDescriptor`.
 */
export interface DescriptorSockets {
  /** A listening socket whose file never had another mode than 0600. The path must be free. */
  listen(path: string): number;
  /** The next connection, or a negated errno: EAGAIN when nobody waits. */
  accept(listener: number): number;
  /** Sends what fits. Gives the bytes taken, or a negated errno. Descriptors go with the first byte. */
  send(socket: number, bytes: Uint8Array, descriptors?: readonly number[]): number;
  /** Makes the receiving end of a socket: each call is one recvmsg(2) into `buffer`. */
  receiver(socket: number, buffer: Uint8Array, descriptorsMax: number): () => Received;
  /**
   * Calls the listener from the event loop when the descriptor has something to read (or room, or has failed). The
   * listener runs outside of Node's own callbacks: what it does must be little, and promises wait; see setImmediate.
   */
  watch(descriptor: number, listener: () => void): Watch;
  closeDescriptor(descriptor: number): void;
}
