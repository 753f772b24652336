// Both ends of a connection for tests: a server that keeps what it gets, and a client that sends bytes and descriptors.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import type { ChannelListener, ListenOptions, MessageChannel } from "./channel.ts";
import { errno, type DescriptorSockets } from "./descriptor-sockets.ts";
import { keep, type TestMessage } from "./messages.fixture.ts";

/** A directory for sockets that is gone with the test. */
export function socketDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), "underway-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Lets everything happen until the condition holds; a test that waits in vain is ended by its time limit. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** One connection of a server, and what came of it. */
export interface Served {
  readonly channel: MessageChannel;
  readonly messages: TestMessage[];
  /** For each message the descriptors that came with it. */
  readonly descriptors: (readonly number[])[];
  /** What `onClosed` was called with, each time. */
  readonly ends: (string | undefined)[];
}

export type Listen = (options: ListenOptions) => Promise<ChannelListener>;

/** A server in `directory`, whose connections are kept in the order they came. It closes with the test. */
export async function serve(
  t: TestContext,
  listen: Listen,
  options: Partial<ListenOptions> = {},
): Promise<{ readonly path: string; readonly served: Served[]; readonly listener: ChannelListener }> {
  const socketPath = options.path ?? path.join(socketDirectory(t), "vf.sock");
  const served: Served[] = [];
  const listener = await listen({
    ...options,
    path: socketPath,
    onConnection(channel) {
      const connection: Served = { channel, messages: [], descriptors: [], ends: [] };
      channel.onMessage = (message) => {
        connection.messages.push(keep(message));
        connection.descriptors.push(message.descriptors);
      };
      channel.onClosed = (problem) => connection.ends.push(problem);
      served.push(connection);
      options.onConnection?.(channel);
    },
  });
  t.after(async () => {
    await listener.close();
    for (const { channel } of served) channel.close();
  });
  return { path: socketPath, served, listener };
}

/** The native calls, which are on the floor above. */
type ClientSockets = DescriptorSockets & { connect(path: string): number };

/** A client whose sends are one sendmsg(2) each, and which reads what it is told to. */
export class TestClient {
  readonly #sockets: ClientSockets;
  readonly #socket: number;
  readonly #buffer = new Uint8Array(0x1_0000);
  readonly #receive: ReturnType<DescriptorSockets["receiver"]>;

  constructor(sockets: ClientSockets, socketPath: string) {
    this.#sockets = sockets;
    this.#socket = sockets.connect(socketPath);
    this.#receive = sockets.receiver(this.#socket, this.#buffer, 1);
  }

  /** Sends all of it; the descriptors go with the first byte. Waits while the socket is full. */
  async send(bytes: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    let [sent, withThem] = [0, descriptors];
    while (sent < bytes.length) {
      const result = this.#sockets.send(this.#socket, bytes.subarray(sent), withThem);
      if (result >= 0) [sent, withThem] = [sent + result, []];
      else if (result !== -errno.EAGAIN) return;
      else await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The next bytes that the server sent; none when it has closed the connection. */
  async receive(): Promise<Uint8Array> {
    for (;;) {
      const { result } = this.#receive();
      if (result >= 0) return this.#buffer.slice(0, result);
      if (result !== -errno.EAGAIN) return new Uint8Array(0);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  close(): void {
    this.#sockets.closeDescriptor(this.#socket);
  }
}
