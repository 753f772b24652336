// The file descriptors that came with one message, and who takes which.

/** Whoever needs a descriptor takes it, and then closes it himself; what is left is closed when the message is done. */
export class Descriptors {
  readonly #descriptors: readonly number[];
  #taken = 0;

  constructor(descriptors: readonly number[]) {
    this.#descriptors = descriptors;
  }

  /** Not taken yet. */
  get count(): number {
    return this.#descriptors.length - this.#taken;
  }

  /** The next one, in the order they were sent. */
  take(): number | undefined {
    return this.#taken < this.#descriptors.length ? this.#descriptors[this.#taken++] : undefined;
  }

  get left(): readonly number[] {
    return this.#descriptors.slice(this.#taken);
  }
}
