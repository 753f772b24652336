// A vfio-user connection as the server sees it: whole messages in and out, and the file descriptors that came along.

/** One message as it came: the 16-byte header's fields (libvfio-user, docs/vfio-user.rst, "Header") and what follows it. */
export interface ReceivedMessage {
  readonly id: number;
  readonly command: number;
  /** Bits 3:0: 0 a command, 1 a reply; 0x10 no reply is wanted; 0x20 the reply is an error. */
  readonly flags: number;
  /** An errno, in an error reply. */
  readonly error: number;
  /** Good until the listener returns. */
  readonly payload: Uint8Array;
  /** Descriptors that came with it. Whoever takes the message closes them, or has them closed by `closeDescriptors`. */
  readonly descriptors: readonly number[];
}

/**
 * Two implementations: one over recvmsg(2), which takes descriptors, and one over Node's own sockets, which cannot.
 * Neither ever blocks. A message that breaks the framing (shorter than its header, longer than agreed) ends the
 * connection.
 */
export interface MessageChannel {
  readonly carriesDescriptors: boolean;
  onMessage: (message: ReceivedMessage) => void;
  /** Called once; `problem` says what the peer did wrong, and is undefined when it just went away. */
  onClosed: (problem: string | undefined) => void;
  /** Sends a whole message, header included; the bytes are copied if the socket is full. */
  send(message: Uint8Array): void;
  closeDescriptors(descriptors: readonly number[]): void;
  close(): void;
}
