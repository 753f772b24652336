// LEB128 integers of the WebAssembly binary format (core specification, section 5.2.2), at most 32 bits.

/** Malformed bytes; the caller turns it into its own outcome. */
export class WasmFormatError extends Error {
  override readonly name = "WasmFormatError";
}

/** Reads a binary front to back. Reading past the end throws WasmFormatError. */
export class WasmReader {
  readonly #bytes: Uint8Array;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.offset = offset;
  }

  get atEnd(): boolean {
    return this.offset >= this.#bytes.length;
  }

  byte(): number {
    const value = this.#bytes[this.offset];
    if (value === undefined) throw new WasmFormatError(`the binary ends at byte ${this.offset}`);
    this.offset++;
    return value;
  }

  /** Unsigned 32-bit integer. */
  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      if (shift === 28 && byte > 0x0f) throw new WasmFormatError(`integer too large at byte ${this.offset - 1}`);
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  /** A view of the next `length` bytes. */
  view(length: number): Uint8Array {
    if (length > this.#bytes.length - this.offset) throw new WasmFormatError(`the binary ends at byte ${this.offset}`);
    this.offset += length;
    return this.#bytes.subarray(this.offset - length, this.offset);
  }

  /** A vector of bytes: length, then bytes. */
  sized(): Uint8Array {
    return this.view(this.u32());
  }

  text(): string {
    return new TextDecoder().decode(this.sized());
  }
}

/** Unsigned LEB128. */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
  return bytes;
}

/** Signed LEB128 of a 32-bit integer, as the operand of `i32.const`. */
export function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const isLast = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0);
    bytes.push(isLast ? low : low | 0x80);
    if (isLast) return bytes;
  }
}
