// What is fuzzed of QEMU's migration: who reads the stream of a source, and who hears what a destination says.
import { OperationError } from "../../src/base/errors.ts";
import { SeededRandom } from "../../src/base/random.ts";
import {
  encodeStream,
  GUEST_PAGES,
  guestRam,
  smallStream,
  type RamRecord,
  type StreamDescription,
} from "../../src/machine/qemu/migration-stream.fixture.ts";
import { MigrationStream } from "../../src/machine/qemu/migration-stream.ts";
import { ReturnPathReader, returnPathShut } from "../../src/machine/qemu/return-path.ts";
import type { FuzzTarget } from "./campaign.ts";
import type { FuzzConsumer, MemoryBounds } from "./fuzz-consumer.ts";
import { byteMutations, interestingWords, pick, spliced, type ByteMutation, type Mutated } from "./mutate.ts";

export const qemuTargetNames = ["migration-stream", "return-path"] as const;
type TargetName = (typeof qemuTargetNames)[number];

function incomplete(): OperationError<"incomplete"> {
  return new OperationError({ code: "incomplete", message: "The stream has not ended.", advice: "Send the rest." });
}

function reader(): MigrationStream {
  return new MigrationStream({
    isGuestRam: ({ name }) => name === guestRam.name,
    onDirtyPage: (page) => {
      if (!(page >= 0 && page < GUEST_PAGES)) throw new Error(`page ${page} is none of the guest's`);
    },
  });
}

/** Reads a stream, and holds what is left of one that was taken to being a stream itself, with nothing more to leave out. */
class StreamConsumer implements FuzzConsumer {
  readonly #stream = reader();

  push(chunk: Uint8Array): void {
    this.#stream.push(chunk.slice());
  }

  end(): void {
    if (!this.#stream.isComplete) throw incomplete();
    const state = this.#stream.machineState();
    const again = reader();
    again.push(state);
    if (!again.isComplete) throw new Error("what is left of the stream does not end");
    if (Buffer.compare(again.machineState(), state) !== 0)
      throw new Error("something is left out only the second time");
  }
}

class ReturnPathConsumer implements FuzzConsumer {
  readonly #reader = new ReturnPathReader();

  push(chunk: Uint8Array): void {
    this.#reader.push(chunk);
  }

  end(): void {
    if (this.#reader.shut === undefined) throw incomplete();
  }
}

function bigEndian(word: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, word);
  return bytes;
}

const mutations: Readonly<Record<string, ByteMutation>> = {
  ...byteMutations,
  "set a word": (random, bytes, at) => spliced(bytes, at, 4, bigEndian(pick(random, interestingWords))),
  "repeat a long piece": (random, bytes, at) => spliced(bytes, at, 0, bytes.slice(at, at + 1 + random.below(9000))),
};
const names = Object.keys(mutations);

/** What is not content of pages stands at the two ends, for the most part. */
function place(random: SeededRandom, length: number): number {
  if (random.chance(0.5)) return random.below(Math.min(length, 300));
  return random.chance(0.5) ? random.below(length) : length - 1 - random.below(Math.min(length, 100));
}

/** Damage and lies anywhere, and pieces of the other streams. */
function mutateBytes(random: SeededRandom, streams: readonly Uint8Array[]): Mutated {
  const steps: string[] = [];
  let bytes: Uint8Array = Uint8Array.from(pick(random, streams));
  for (let left = random.below(4); left > 0 && bytes.length > 0; left--) {
    const at = place(random, bytes.length);
    if (random.chance(0.2)) {
      const donor = pick(random, streams);
      const from = random.below(donor.length);
      steps.push("splice in a piece of another stream");
      bytes = spliced(bytes, at, random.below(60), donor.subarray(from, from + random.below(5000)));
      continue;
    }
    const name = pick(random, names);
    steps.push(name);
    bytes = mutations[name]?.(random, bytes, at) ?? bytes;
  }
  return { bytes: Uint8Array.from(bytes), steps };
}

function anyStream(random: SeededRandom): StreamDescription {
  const blocks = [guestRam, ...smallStream.blocks.slice(1)];
  const records = (): RamRecord[] =>
    Array.from({ length: random.below(5) }, () => {
      const { name, usedBytes } = pick(random, blocks);
      return { block: name, page: random.below(usedBytes / 4096), fill: random.chance(0.8) ? 0 : random.below(256) };
    });
  return {
    ...smallStream,
    blocks,
    sent: Array.from({ length: random.below(4) }, () => ({ kind: "ram", records: records() })),
    last: records(),
    devices: Uint8Array.from({ length: random.below(200) }, () => random.u32()),
  };
}

function returnPath(random: SeededRandom): Uint8Array {
  const other = (): Uint8Array => {
    const payload = new Uint8Array(random.below(20));
    return Buffer.concat([bigEndian((2 + random.below(9)) * 0x1_0000 + payload.length), payload]);
  };
  return Buffer.concat([...Array.from({ length: random.below(5) }, other), returnPathShut(random.below(2))]);
}

export function qemuTargets(seed: number): Record<TargetName, FuzzTarget> {
  const random = new SeededRandom(seed);
  const many = <T>(make: () => T): T[] => Array.from({ length: 60 }, make);
  return {
    "migration-stream": {
      make: () => new StreamConsumer(),
      streams: [encodeStream(smallStream), ...many(() => encodeStream(anyStream(random)))],
      mutate: mutateBytes,
      share: 0.8,
    },
    "return-path": {
      make: () => new ReturnPathConsumer(),
      streams: many(() => returnPath(random)),
      mutate: mutateBytes,
      share: 0.2,
    },
  };
}

/** Little more than what was pushed, some copies of it that are garbage by then, and some of what is only announced: never. */
export const qemuMemory: MemoryBounds = {
  takenMax: (pushedBytes) => ({ bufferBytes: (256 << 10) + 12 * pushedBytes, heapBytes: (8 << 20) + 64 * pushedBytes }),
  keptBytesMax: 4 << 20,
};
