// Fuzzing of anything that consumes a stream of bytes: whatever comes, it takes it or fails with a typed error.
//
// Verified for each input: nothing but an OperationError is thrown, every step ends in time, and no more is held, nor more
// memory taken at the end of any step, than the bounds allow. Verified of all inputs together: what they took is given
// back. Not verified: that a mutated stream is refused (many mutations are harmless), and endless loops that never
// yield; those a watchdog outside must notice (campaign.ts).
import { OperationError } from "../../src/base/errors.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { liveBytes, MemoryWatch, type Memory } from "./memory-watch.ts";
import { mutate, type Mutation } from "./mutate.ts";

export interface FuzzConsumer {
  /** Takes the next bytes; throws or rejects with the OperationError that ended the stream. */
  push(chunk: Uint8Array): void | Promise<void>;
  /** The stream is over; throws or rejects like push when it was not complete. */
  end(): void | Promise<void>;
  /** Bytes held for what has not arrived whole. */
  readonly heldBytes?: number;
}

export interface MemoryBounds {
  /** Most memory that one input may take: the consumer and all it makes, once so many bytes were pushed. */
  readonly takenMax: (pushedBytes: number) => Memory;
  /** Most that may be left of all inputs, beyond what the first of them left. */
  readonly keptBytesMax: number;
}

export interface FuzzOptions {
  readonly seed: number;
  /** How streams are mutated; as the wire's frames unless said otherwise. */
  readonly mutate?: Mutation;
  readonly inputs: number;
  /** Number of the first input; one input is played again with `firstInput` and `inputs: 1`. */
  readonly firstInput?: number;
  /** Most bytes a consumer may hold after so many were pushed. */
  readonly heldBytesMax?: (pushedBytes: number) => number;
  readonly memory?: MemoryBounds;
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
  /** Only where there are bounds for it. */
  readonly memory?: { readonly takenMax: Memory; readonly keptBytes: number };
}

/** What a consumer did wrong, with all it takes to play it again. */
export class FuzzFailure extends Error {
  override readonly name = "FuzzFailure";
}

const chunkBytesChoices = [1, 7, 24, 25, 200, 1500, 65_536];
const taken = "taken";

/** Inputs after which what is kept begins to count: by then all code has run once and been compiled. */
const INPUTS_TO_WARM_UP = 500;
/** How often what is kept is looked at. */
const INPUTS_BETWEEN_LOOKS = 5000;

/** Feeds mutations of valid streams to fresh consumers. Throws a FuzzFailure at the first that breaks a promise. */
export async function fuzzConsumer(
  makeConsumer: () => FuzzConsumer,
  validStreams: readonly Uint8Array[],
  options: FuzzOptions,
): Promise<FuzzReport> {
  const outcomes = new Map<string, number>();
  const first = options.firstInput ?? 0;
  const kept = options.memory && new KeptMemory(options.memory.keptBytesMax);
  let bytes = 0;
  let heldBytesMax = 0;
  let takenMax: Memory = nothing;
  for (let input = first; input < first + options.inputs; input++) {
    options.onInput?.(input);
    const random = randomOf(options.seed, input);
    const mutated = (options.mutate ?? mutate)(random, validStreams);
    const fed = await feed(makeConsumer, mutated.bytes, random, options).catch((cause: unknown) => {
      const steps = mutated.steps.join(", ") || "nothing";
      throw new FuzzFailure(`seed ${options.seed} input ${input} (${steps}): ${String(cause)}`, { cause });
    });
    outcomes.set(fed.outcome, (outcomes.get(fed.outcome) ?? 0) + 1);
    heldBytesMax = Math.max(heldBytesMax, fed.heldBytesMax);
    takenMax = larger(takenMax, fed.takenMax);
    bytes += mutated.bytes.length;
    kept?.inputDone(input - first + 1);
  }
  const memory = kept && { takenMax, keptBytes: kept.look() };
  return { inputs: options.inputs, bytes, outcomes, heldBytesMax, ...(memory === undefined ? {} : { memory }) };
}

/** Watches that what all inputs leave behind does not add up. */
class KeptMemory {
  readonly #keptBytesMax: number;
  #startBytes: number | undefined;
  #inputs = 0;

  constructor(keptBytesMax: number) {
    this.#keptBytesMax = keptBytesMax;
  }

  inputDone(inputs: number): void {
    this.#inputs = inputs;
    if (inputs === INPUTS_TO_WARM_UP) this.#startBytes = liveBytes();
    else if (inputs % INPUTS_BETWEEN_LOOKS === 0) this.look();
  }

  /** Bytes kept of all inputs after the first ones. Throws a FuzzFailure if they are too many. */
  look(): number {
    if (this.#startBytes === undefined) return 0;
    const bytes = liveBytes() - this.#startBytes;
    if (bytes <= this.#keptBytesMax) return bytes;
    throw new FuzzFailure(
      `${bytes} bytes are kept after ${this.#inputs} inputs, where ${this.#keptBytesMax} are allowed`,
    );
  }
}

/** The choices of one input. Neighbouring seeds give neighbouring first numbers, so the first is thrown away. */
function randomOf(seed: number, input: number): SeededRandom {
  const random = new SeededRandom(Math.imul(seed, 0x9e37_79b1) ^ Math.imul(input + 1, 0x85eb_ca77));
  random.u32();
  return random;
}

interface Fed {
  readonly outcome: string;
  readonly heldBytesMax: number;
  readonly takenMax: Memory;
}

async function feed(
  makeConsumer: () => FuzzConsumer,
  bytes: Uint8Array,
  random: SeededRandom,
  options: FuzzOptions,
): Promise<Fed> {
  // Long streams byte by byte would cost much and say little.
  const choices = chunkBytesChoices.filter((choice) => bytes.length / choice < 500);
  const chunkBytesMax = choices[random.below(choices.length)] ?? bytes.length;
  const bounds = new Bounds(options);
  const consumer = makeConsumer();
  const over = (outcome: string): Fed => {
    bounds.check(consumer, bytes.length);
    return { outcome, heldBytesMax: bounds.heldBytesMax, takenMax: bounds.takenMax };
  };
  try {
    for (let at = 0; at < bytes.length;) {
      const chunk = bytes.slice(at, at + 1 + random.below(chunkBytesMax));
      at += chunk.length;
      await inTime(consumer.push(chunk), options);
      // The chunk is not the consumer's any more.
      chunk.fill(0xa5);
      bounds.check(consumer, at);
    }
    await inTime(consumer.end(), options);
  } catch (thrown) {
    if (thrown instanceof OperationError) return over(thrown.code);
    throw thrown;
  }
  return over(taken);
}

/** What one input may hold and take, and the most that it did. */
class Bounds {
  readonly #options: FuzzOptions;
  readonly #memory: MemoryWatch | undefined;
  heldBytesMax = 0;
  takenMax: Memory = nothing;

  constructor(options: FuzzOptions) {
    this.#options = options;
    this.#memory = options.memory && new MemoryWatch();
  }

  /** Throws if a bound is broken. */
  check(consumer: FuzzConsumer, pushedBytes: number): void {
    const { heldBytesMax, memory } = this.#options;
    const held = consumer.heldBytes ?? 0;
    within(heldBytesMax?.(pushedBytes), held, `bytes are held after ${pushedBytes}`);
    this.heldBytesMax = Math.max(this.heldBytesMax, held);
    if (this.#memory === undefined) return;
    const now = this.#memory.taken;
    const bounds = memory?.takenMax(pushedBytes);
    within(bounds?.bufferBytes, now.bufferBytes, `bytes of buffers are taken after ${pushedBytes}`);
    within(bounds?.heapBytes, now.heapBytes, `bytes of heap are taken after ${pushedBytes}`);
    this.takenMax = larger(this.takenMax, now);
  }
}

const nothing: Memory = { bufferBytes: 0, heapBytes: 0 };

const larger = (a: Memory, b: Memory): Memory => ({
  bufferBytes: Math.max(a.bufferBytes, b.bufferBytes),
  heapBytes: Math.max(a.heapBytes, b.heapBytes),
});

function within(bound: number | undefined, bytes: number, what: string): void {
  if (bound !== undefined && bytes > bound) throw new Error(`${bytes} ${what}, where ${bound} are allowed`);
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
