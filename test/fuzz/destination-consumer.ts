// What is fuzzed of a destination: all of it, with a machine and a VF that load what comes and run when told to.
//
// How much the wire holds of what has not arrived whole is wire-consumers.ts's business.
import { OperationError } from "../../src/base/errors.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { ManualClock } from "../../src/base/clock.ts";
import { ModelHost, toyOptions } from "../../src/machine/model/host.ts";
import { modelThreads } from "../../src/machine/model/machine.ts";
import { MODEL_STATE_VERSION } from "../../src/machine/model/state.ts";
import { Destination, type DestinationOutcome, type PreparedVm } from "../../src/migration/destination.ts";
import { headerBytes, headerOffsets, messageNumbers, statePrefixBytes } from "../../src/migration/wire/frame.ts";
import type { Offer } from "../../src/migration/wire/protocol.ts";
import { queryOutcome } from "../../src/migration/outcome-query.ts";
import { strategies } from "../../src/strategy/strategies.ts";
import { Scene } from "../engine/move.ts";
import type { FuzzTarget } from "./campaign.ts";
import type { FuzzConsumer, MemoryBounds } from "./fuzz-consumer.ts";
import { FrameBoundaries } from "./frame-boundaries.ts";
import { framesOf, resealHeader, resealPayload } from "./mutate.ts";
import { PushedTransport, recordingTransport } from "./transports.ts";

const guest = {
  ...toyOptions,
  memoryBytes: 4096,
  receiveDescriptors: 8,
  transmitDescriptors: 8,
  socketFrames: 4,
  applicationPages: 1,
} as const;

/** Steps that a guest which was taken in gets, and its device between them. */
const STEPS = 200;

/** Messages that a destination answers after work of its own: what follows them waits for the answer. */
const awaited: ReadonlySet<number> = new Set([
  messageNumbers.offer,
  messageNumbers.go,
  messageNumbers["query-outcome"],
]);

class DestinationConsumer implements FuzzConsumer {
  readonly #transport = new PushedTransport();
  readonly #boundaries = new FrameBoundaries();
  readonly #served: Promise<DestinationOutcome>;
  #host: ModelHost | undefined;
  #outcome: DestinationOutcome | undefined;

  constructor() {
    const destination = new Destination({
      clock: new ManualClock(0),
      machineStateVersion: MODEL_STATE_VERSION,
      prepare: (offer) => this.#prepare(offer),
      onEvent: () => {},
      everySecond: () => () => {},
    });
    this.#served = destination.serve(this.#transport);
    void this.#served.then((outcome) => (this.#outcome = outcome));
  }

  #prepare(offer: Offer): Promise<PreparedVm> {
    const { memoryBytes, pageBytes } = guest;
    if (offer.memoryBytes !== memoryBytes || offer.pageBytes !== pageBytes) {
      const error = { code: "refused", message: "A guest of another size.", advice: "Offer the right one." };
      return Promise.reject(new OperationError(error));
    }
    const host = new ModelHost(guest);
    this.#host = host;
    return Promise.resolve({ machine: host.machine, vf: host.vf, discard: () => host.machine.close() });
  }

  async push(chunk: Uint8Array): Promise<void> {
    for (const { bytes, endsMessage } of this.#boundaries.split(chunk)) {
      this.#transport.handlers?.onData(bytes);
      if (endsMessage !== undefined && awaited.has(endsMessage)) await reactionsRun();
    }
    await reactionsRun();
    this.#throwIfDiscarded();
  }

  async end(): Promise<void> {
    this.#transport.handlers?.onClose(undefined);
    this.#outcome = await this.#served;
    this.#throwIfDiscarded();
    if (this.#outcome.kind === "running") this.#run();
  }

  #throwIfDiscarded(): void {
    if (this.#outcome?.kind === "discarded") throw this.#outcome.error;
  }

  /** Whatever the guest has become, it is the only one that can be hurt. */
  #run(): void {
    const host = this.#host;
    if (host === undefined) throw new Error("a guest runs that was never prepared");
    for (let step = 0; step < STEPS; step++) {
      for (const thread of modelThreads) host.machine.step(thread);
      host.vf.step();
      if (step % 20 === 0) host.offer({ flow: 0, sequence: step }, 60);
    }
  }
}

/** Enough turns for every promise of a destination that has something to react to. */
async function reactionsRun(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await Promise.resolve();
}

/** What sources said in moves that went well, one of each strategy, and in one that asked for an outcome first. */
async function recorded(seed: number): Promise<Uint8Array[]> {
  const streams: Uint8Array[] = [];
  for (const strategy of strategies) {
    const heard: Uint8Array[] = [];
    const scene = await Scene.begin(seed, guest, 300);
    const serve = scene.service.serve.bind(scene.service);
    scene.service.serve = (transport) => serve(recordingTransport(transport, heard));
    await scene.move({ strategy, limits: { roundsMax: 2 } });
    streams.push(Buffer.concat(heard));
  }
  streams.push(await recordedQuery(seed));
  return streams;
}

async function recordedQuery(seed: number): Promise<Uint8Array> {
  const heard: Uint8Array[] = [];
  const scene = await Scene.begin(seed, guest, 0);
  const serve = scene.service.serve.bind(scene.service);
  scene.service.serve = (transport) => serve(recordingTransport(transport, heard));
  const { transport } = scene.connect();
  await scene.world.until(queryOutcome(transport, scene.id(1)));
  await scene.world.settle();
  return Buffer.concat(heard);
}

const hostileNumbers = ["0", "1", "2", "7", "15", "16", "63", "64", "255", "4095", "4096", "65535", "4294967295", "-1"];

/** The stream with some numbers in its states changed, and every length and checksum right: what a liar would send. */
function withHostileStates(stream: Uint8Array, random: SeededRandom): Uint8Array {
  const frames = framesOf(stream);
  for (const frame of frames) {
    const type = frame[headerOffsets.type];
    if (type !== messageNumbers["vf-state"] && type !== messageNumbers["machine-state"]) continue;
    const start = headerBytes + statePrefixBytes;
    let text = Buffer.from(frame.subarray(start)).toString("latin1");
    const numbers = [...text.matchAll(/-?\d+/g)];
    for (let left = 1 + random.below(3); left > 0; left--) {
      const { index, 0: number } = numbers[random.below(numbers.length)] ?? { index: 0, 0: "" };
      const other = hostileNumbers[random.below(hostileNumbers.length)] ?? "0";
      // Blanks may stand before a number, so that no length changes.
      if (other.length > number.length) continue;
      text = text.slice(0, index) + other.padStart(number.length) + text.slice(index + number.length);
    }
    frame.set(Buffer.from(text, "latin1"), start);
    resealPayload(frame);
    resealHeader(frame);
  }
  return Buffer.concat(frames);
}

export async function destinationTargets(seed: number): Promise<{ destination: FuzzTarget }> {
  const random = new SeededRandom(seed);
  const honest = await recorded(seed);
  const lies = Array.from({ length: 200 }, (_, index) => {
    return withHostileStates(honest[index % strategies.length] ?? new Uint8Array(0), random);
  });
  return { destination: { make: () => new DestinationConsumer(), streams: [...honest, ...lies], share: 1 } };
}

/**
 * A destination whose guest is as small as this one takes some 530 KB of buffers for its machine and its VF, whatever
 * comes, and for the rest and 200 steps of both some 5 MB of heap, nearly all of it garbage; twice that while no code
 * is compiled yet. Of all of them nothing is left but compiled code. What is only announced would take more: a part
 * of a state may be 1 MiB (statePartBytesMax), a number in it 2^32 - 1.
 */
export const destinationMemory: MemoryBounds = {
  takenMax: (pushedBytes) => ({ bufferBytes: (768 << 10) + 8 * pushedBytes, heapBytes: (16 << 20) + 32 * pushedBytes }),
  keptBytesMax: 4 << 20,
};
