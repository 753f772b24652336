// Fuzzing of anything that consumes a stream of bytes: whatever comes, it takes it or fails with a typed error.
//
// Verified for each input: nothing but an OperationError is thrown, every step ends in time, and no more is held than
// the bound allows. Not verified: that a mutated stream is refused (many mutations are harmless), and endless loops
// that never yield; those a watchdog outside must notice (wire.ts).
import { OperationError } from "../../src/base/errors.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { mutate } from "./mutate.ts";

export interface FuzzConsumer {
  /** Takes the next bytes; throws or rejects with the OperationError that ended the stream. */
  push(chunk: Uint8Array): void | Promise<void>;
  /** The stream is over; throws or rejects like push when it was not complete. */
  end(): void | Promise<void>;
  /** Bytes held for what has not arrived whole. */
  readonly heldBytes?: number;
}

export interface FuzzOptions {
  readonly seed: number;
  readonly inputs: number;
  /** Number of the first input; one input is played again with `firstInput` and `inputs: 1`. */
  readonly firstInput?: number;
  /** Most bytes a consumer may hold after so many were pushed. */
  readonly heldBytesMax?: (pushedBytes: number) => number;
  /** Most time one push or end may take. */
  readonly stepMsMax?: number;
  readonly onInput?: (input: number) => void;
}

export interface FuzzReport {
  readonly inputs: number;
  readonly bytes: number;
  /** How often each error code came, and `taken` for streams without an error. */
  readonly outcomes: ReadonlyMap<string, number>;
  readonly heldBytesMax: number;
}

/** What a consumer did wrong, with all it takes to play it again. */
export class FuzzFailure extends Error {
  override readonly name = "FuzzFailure";
}

const chunkBytesChoices = [1, 7, 24, 25, 200, 1500, 65_536];
const taken = "taken";

/** Feeds mutations of valid streams to fresh consumers. Throws a FuzzFailure at the first that breaks a promise. */
export async function fuzzConsumer(
  makeConsumer: () => FuzzConsumer,
  validStreams: readonly Uint8Array[],
  options: FuzzOptions,
): Promise<FuzzReport> {
  const outcomes = new Map<string, number>();
  const first = options.firstInput ?? 0;
  let bytes = 0;
  let heldBytesMax = 0;
  for (let input = first; input < first + options.inputs; input++) {
    options.onInput?.(input);
    const random = randomOf(options.seed, input);
    const mutated = mutate(random, validStreams);
    const fed = await feed(makeConsumer(), mutated.bytes, random, options).catch((cause: unknown) => {
      const steps = mutated.steps.join(", ") || "nothing";
      throw new FuzzFailure(`seed ${options.seed} input ${input} (${steps}): ${String(cause)}`, { cause });
    });
    outcomes.set(fed.outcome, (outcomes.get(fed.outcome) ?? 0) + 1);
    heldBytesMax = Math.max(heldBytesMax, fed.heldBytesMax);
    bytes += mutated.bytes.length;
  }
  return { inputs: options.inputs, bytes, outcomes, heldBytesMax };
}

/** The choices of one input. Neighbouring seeds give neighbouring first numbers, so the first is thrown away. */
function randomOf(seed: number, input: number): SeededRandom {
  const random = new SeededRandom(Math.imul(seed, 0x9e37_79b1) ^ Math.imul(input + 1, 0x85eb_ca77));
  random.u32();
  return random;
}

async function feed(
  consumer: FuzzConsumer,
  bytes: Uint8Array,
  random: SeededRandom,
  options: FuzzOptions,
): Promise<{ outcome: string; heldBytesMax: number }> {
  // Long streams byte by byte would cost much and say little.
  const choices = chunkBytesChoices.filter((choice) => bytes.length / choice < 500);
  const chunkBytesMax = choices[random.below(choices.length)] ?? bytes.length;
  let heldBytesMax = 0;
  try {
    for (let at = 0; at < bytes.length;) {
      const chunk = bytes.slice(at, at + 1 + random.below(chunkBytesMax));
      at += chunk.length;
      await inTime(consumer.push(chunk), options);
      // The chunk is not the consumer's any more.
      chunk.fill(0xa5);
      heldBytesMax = Math.max(heldBytesMax, checkedHeldBytes(consumer, at, options));
    }
    await inTime(consumer.end(), options);
    return { outcome: taken, heldBytesMax };
  } catch (thrown) {
    if (thrown instanceof OperationError) return { outcome: thrown.code, heldBytesMax };
    throw thrown;
  }
}

function checkedHeldBytes(consumer: FuzzConsumer, pushedBytes: number, options: FuzzOptions): number {
  const held = consumer.heldBytes ?? 0;
  const bound = options.heldBytesMax?.(pushedBytes) ?? Number.POSITIVE_INFINITY;
  if (held > bound) throw new Error(`${held} bytes are held after ${pushedBytes}, where ${bound} are allowed`);
  return held;
}

/** Waits for a step only if there is something to wait for, and not for ever. */
async function inTime(step: void | Promise<void>, options: FuzzOptions): Promise<void> {
  if (step === undefined) return;
  const { promise, reject } = Promise.withResolvers<never>();
  const stepMsMax = options.stepMsMax ?? 5000;
  const timer = setTimeout(() => reject(new Error(`a step took more than ${stepMsMax} ms`)), stepMsMax);
  try {
    await Promise.race([step, promise]);
  } finally {
    clearTimeout(timer);
  }
}
