// Seeded randomness: the same seed gives the same run. Never used where secrecy matters.
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

export class SeededRandom {
  readonly seed: number;
  readonly #generator: ReturnType<typeof xoroshiro128plus>;

  constructor(seed: number) {
    this.seed = seed | 0;
    this.#generator = xoroshiro128plus(this.seed);
    // Neighbouring seeds give neighbouring first numbers.
    for (let i = 0; i < 8; i++) this.#generator.next();
  }

  /** Uniform integer in [0, bound). */
  below(bound: number): number {
    return uniformInt(this.#generator, 0, bound - 1);
  }

  /** Uniform 32-bit unsigned integer. */
  u32(): number {
    return this.#generator.next() >>> 0;
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.u32() < probability * 0x1_0000_0000;
  }

  fill(bytes: Uint8Array): Uint8Array {
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.u32();
    return bytes;
  }
}
