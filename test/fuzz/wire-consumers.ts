// What is fuzzed of the wire: the bare decoder, a destination's conversation and a source's, each with valid streams.
import { OperationError } from "../../src/base/errors.ts";
import { FrameDecoder } from "../../src/migration/wire/decode.ts";
import { FrameEncoder } from "../../src/migration/wire/encode.ts";
import { memoryTransportPair } from "../../src/migration/wire/memory-transport.ts";
import { outcomes, type Message } from "../../src/migration/wire/protocol.ts";
import {
  offerOf,
  scriptOf,
  talkAsDestination,
  talkAsSource,
  type Script,
  type ScriptedDestination,
} from "../wire/scripted-ends.ts";
import type { FuzzTarget } from "./campaign.ts";
import type { FuzzConsumer } from "./fuzz-consumer.ts";
import { PushedTransport, recordingTransport } from "./transports.ts";

/** Decodes without regard to what is legal, and holds every accepted message to its one encoding. */
class DecoderConsumer implements FuzzConsumer {
  readonly #encoder = new FrameEncoder();
  readonly #decoder: FrameDecoder;
  #pushed = new Uint8Array(0);
  #accepted = 0;

  constructor() {
    this.#decoder = new FrameDecoder({ admit: () => {}, onMessage: (message) => this.#take(message) });
  }

  get heldBytes(): number {
    return this.#decoder.heldBytes;
  }

  push(chunk: Uint8Array): void {
    this.#pushed = Buffer.concat([this.#pushed, chunk]);
    this.#decoder.push(chunk);
  }

  end(): void {
    this.#decoder.end();
  }

  #take(message: Message): void {
    const frame = this.#encoder.encode(message);
    const came = this.#pushed.subarray(this.#accepted, this.#accepted + frame.length);
    if (!Buffer.from(frame).equals(came)) throw new Error(`a ${message.kind} was accepted in a second encoding`);
    this.#accepted += frame.length;
  }
}

/** Everything a destination does on the wire. */
class DestinationConsumer implements FuzzConsumer {
  readonly #transport = new PushedTransport();
  readonly #destination: ScriptedDestination;

  constructor() {
    this.#destination = talkAsDestination(this.#transport);
  }

  get heldBytes(): number {
    return this.#destination.conversation.heldBytes;
  }

  push(chunk: Uint8Array): void {
    this.#transport.handlers?.onData(chunk);
    this.#throwIfFailed();
  }

  end(): void {
    this.#transport.handlers?.onClose(undefined);
    this.#throwIfFailed();
  }

  #throwIfFailed(): void {
    const error = this.#destination.ended?.error;
    if (error !== undefined) throw error;
  }
}

const sourceScript: Script = {
  ...scriptOf(3),
  pageCount: 4,
  pageBytes: 64,
  rounds: 1,
  machineStateBytes: 9,
  vfStateBytes: 5,
};

/** Everything a source does on the wire. It talks between the pushes, so each waits for it. */
class SourceConsumer implements FuzzConsumer {
  readonly #transport = new PushedTransport();
  #error: OperationError | undefined;
  readonly #done: Promise<void>;

  constructor() {
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    const { error } = await talkAsSource(this.#transport, { ...sourceScript, asksFirst: true });
    this.#error = error;
  }

  async push(chunk: Uint8Array): Promise<void> {
    await settled();
    this.#transport.handlers?.onData(chunk);
    await settled();
    if (this.#error !== undefined) throw this.#error;
  }

  async end(): Promise<void> {
    await settled();
    this.#transport.handlers?.onClose(undefined);
    await this.#done;
    if (this.#error !== undefined) throw this.#error;
  }
}

function settled(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/** What each side of one scripted conversation sent. */
async function recorded(script: Script): Promise<{ source: Uint8Array; destination: Uint8Array }> {
  const { first, second } = memoryTransportPair();
  const fromSource: Uint8Array[] = [];
  const fromDestination: Uint8Array[] = [];
  const { result } = talkAsDestination(recordingTransport(second, fromSource));
  await talkAsSource(recordingTransport(first, fromDestination), script);
  await result;
  return { source: Buffer.concat(fromSource), destination: Buffer.concat(fromDestination) };
}

/** Messages that a scripted conversation without failures does not contain. */
function rareMessages(): Uint8Array {
  const encoder = new FrameEncoder();
  const { migrationId } = offerOf(sourceScript);
  const messages: Message[] = [
    { kind: "abort", code: "cancelled", message: "The migration was cancelled." },
    {
      kind: "error",
      code: "no-room",
      message: "No room.",
      advice: "Make room.",
      facts: { bytes: 1, who: "x", sure: true },
    },
    ...outcomes.map((outcome): Message => ({ kind: "outcome", migrationId, outcome })),
  ];
  return Buffer.concat(messages.map((message) => encoder.encode(message)));
}

export const wireTargetNames = ["decoder", "destination", "source"] as const;
export type WireTargetName = (typeof wireTargetNames)[number];

/** The targets with valid streams that depend on the seed. */
export async function wireTargets(seed: number): Promise<Record<WireTargetName, FuzzTarget>> {
  const streams = await Promise.all(Array.from({ length: 12 }, (_, i) => recorded(scriptOf(seed + i))));
  const forSource = (await recorded({ ...sourceScript, asksFirst: true })).destination;
  const fromSources = streams.map((stream) => stream.source);
  const fromDestinations = streams.map((stream) => stream.destination);
  return {
    decoder: {
      make: () => new DecoderConsumer(),
      streams: [...fromSources, ...fromDestinations, rareMessages()],
      share: 0.4,
    },
    destination: { make: () => new DestinationConsumer(), streams: fromSources, share: 0.5 },
    source: { make: () => new SourceConsumer(), streams: [forSource], share: 0.1 },
  };
}

/** What a conversation may hold: a header, and twice what has come of a payload, but at least a small buffer. */
export function wireHeldBytesMax(pushedBytes: number): number {
  return 24 + Math.max(4096, 2 * pushedBytes);
}
