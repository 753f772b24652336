// Numbers for values: equal values get equal numbers, which is all a search needs to know of them.

/** Values of one kind, numbered from 0 in the order they came. */
export class Interner<Value> {
  readonly #numbers = new Map<string, number>();
  readonly #values: Value[] = [];

  /** `make` is called for a key that is new. */
  intern(key: string, make: () => Value): number {
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#values.length;
    this.#numbers.set(key, number);
    this.#values.push(make());
    return number;
  }

  value(number: number): Value {
    return this.#values[number] as Value;
  }

  get size(): number {
    return this.#values.length;
  }
}

const latin1 = new TextDecoder("latin1");

/** Bytes as a string, for a key: every byte has a character of its own. */
export function bytesKey(bytes: Uint8Array): string {
  return latin1.decode(bytes);
}

/** Numbers below 2^32, as a key. */
export function numbersKey(numbers: ArrayLike<number>): string {
  let key = "";
  for (let i = 0; i < numbers.length; i++) {
    const number = numbers[i] ?? 0;
    key += number < 0xffff ? String.fromCharCode(number) : String.fromCharCode(0xffff, number >>> 16, number & 0xffff);
  }
  return key;
}
