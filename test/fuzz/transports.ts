// Transports for fuzzing: one whose far end is the fuzzer, and one that keeps what came through it.
import type { Transport, TransportHandlers } from "../../src/migration/wire/transport.ts";

/** A transport whose far end is the fuzzer: what is sent goes nowhere, what arrives is pushed by hand. */
export class PushedTransport implements Transport {
  bytesSent = 0;
  bytesReceived = 0;
  handlers: TransportHandlers | undefined;

  start(handlers: TransportHandlers): void {
    this.handlers = handlers;
  }

  send(bytes: Uint8Array): undefined {
    this.bytesSent += bytes.length;
  }

  close(): void {}
}

/** The same transport; every chunk that arrives is also added to `heard`. */
export function recordingTransport(transport: Transport, heard: Uint8Array[]): Transport {
  return {
    send: (bytes) => transport.send(bytes),
    close: () => transport.close(),
    start: (handlers) =>
      transport.start({
        onData: (chunk) => {
          heard.push(chunk.slice());
          handlers.onData(chunk);
        },
        onClose: (error) => handlers.onClose(error),
      }),
    get bytesSent() {
      return transport.bytesSent;
    },
    get bytesReceived() {
      return transport.bytesReceived;
    },
  };
}
