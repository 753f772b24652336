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
 * connection, and so does a peer that leaves what is sent to it unread.
 */
export interface MessageChannel {
  readonly carriesDescriptors: boolean;
  onMessage: (message: ReceivedMessage) => void;
  /**
   * Called once, from the event loop and never from within a call of ours, also after our own `close()`. `problem` says
   * what the peer did wrong, and is undefined when it just went away or when we closed.
   */
  onClosed: (problem: string | undefined) => void;
  /** Sends a whole message, header included; the bytes are copied if the socket is full. Nothing once it is closed. */
  send(message: Uint8Array): void;
  closeDescriptors(descriptors: readonly number[]): void;
  /** No message is handed out afterwards. */
  close(): void;
}

export interface ListenOptions {
  /** Where the socket's file is to be; its mode is 0600 as long as it is there. */
  readonly path: string;
  /** A client connected. Set the channel's listeners before this returns. */
  readonly onConnection: (channel: MessageChannel) => void;
  /** The longest message, header included; `MESSAGE_BYTES_MAX` unless told otherwise. */
  readonly messageBytesMax?: number;
  /** Bytes that may wait for a client that does not read; beyond them it is cut off. 4 MiB unless told otherwise. */
  readonly queuedBytesMax?: number;
}

export interface ChannelListener {
  /** Takes no more clients and removes the socket's file. Connections that are open stay open. */
  close(): Promise<void>;
}

/**
 * A mebibyte of data, which is what the protocol assumes of a peer that names no max_data_xfer_size (docs/vfio-user.rst,
 * "Version Data Format"), and a page for the headers before it.
 */
export const MESSAGE_BYTES_MAX = 0x10_0000 + 0x1000;
/** Descriptors in one message, which we announce as max_msg_fds: as many as libvfio-user takes (SERVER_MAX_FDS, lib/tran.c). */
export const DESCRIPTORS_MAX = 8;
export const QUEUED_BYTES_MAX = 0x40_0000;
