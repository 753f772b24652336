// A WebAssembly binary taken apart into sections, as far as wrapping functions and adding globals needs, and put together again.
import { unsigned, WasmFormatError, WasmReader } from "./leb128.ts";

const preambleBytes = 8;

/** Section ids of the core specification, section 5.5.2. */
const SectionId = { custom: 0, type: 1, import: 2, function: 3, global: 6, export: 7, code: 10 } as const;

export const ValueType = { i32: 0x7f } as const;

export interface FunctionType {
  readonly parameters: readonly number[];
  readonly results: readonly number[];
}

interface Section {
  readonly id: number;
  body: Uint8Array;
}

/** Joins byte sequences into one. */
export function joined(parts: readonly ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * The parsed module. Function indices count imports first, as in the binary. Throws WasmFormatError for anything that
 * is not a well-formed module with the sections that a Rust toolchain writes.
 */
export class WasmModule {
  readonly #preamble: Uint8Array;
  readonly #sections: Section[] = [];
  readonly #types: FunctionType[];
  readonly #typeOfFunction: number[];
  readonly #bodies: Uint8Array[];
  readonly #functionNames: (readonly [name: string, index: number])[] = [];
  readonly #importedFunctions: number;
  readonly #importedGlobals: number;
  readonly #globals: Uint8Array[] = [];
  readonly #exports: Uint8Array[] = [];
  #globalCount: number;

  constructor(bytes: Uint8Array) {
    const reader = new WasmReader(bytes);
    this.#preamble = reader.view(preambleBytes);
    if (String.fromCharCode(...this.#preamble) !== "\0asm\u0001\0\0\0") throw new WasmFormatError("not a wasm binary");
    while (!reader.atEnd) this.#sections.push({ id: reader.byte(), body: reader.sized() });
    this.#types = readVector(this.#section(SectionId.type), readType);
    const imports = readVector(this.#section(SectionId.import), readImport);
    this.#importedFunctions = imports.filter((kind) => kind === 0).length;
    this.#importedGlobals = imports.filter((kind) => kind === 3).length;
    this.#typeOfFunction = readVector(this.#section(SectionId.function), (r) => r.u32());
    this.#bodies = readVector(this.#section(SectionId.code), (r) => r.sized());
    if (this.#bodies.length !== this.#typeOfFunction.length) throw new WasmFormatError("functions without bodies");
    this.#globalCount = new WasmReader(this.#section(SectionId.global).body).u32();
    this.#readNames();
  }

  /** Index of the only function whose name in the name section `matches` accepts, or undefined for none or several. */
  functionNamed(matches: (name: string) => boolean): number | undefined {
    const found = this.#functionNames.filter(([name]) => matches(name));
    const [only] = found;
    return found.length === 1 && only !== undefined ? only[1] : undefined;
  }

  typeOf(functionIndex: number): FunctionType | undefined {
    const typeIndex = this.#typeOfFunction[functionIndex - this.#importedFunctions];
    return typeIndex === undefined ? undefined : this.#types[typeIndex];
  }

  /**
   * Moves the function's body to a new function and puts another body in its place. Every caller, whether by call,
   * table or export, goes through the new body; `wrapper` gets the index under which the old one can be called.
   */
  wrap(functionIndex: number, wrapper: (original: number) => Uint8Array): void {
    const local = functionIndex - this.#importedFunctions;
    const body = this.#bodies[local];
    const type = this.#typeOfFunction[local];
    if (body === undefined || type === undefined) throw new WasmFormatError(`function ${functionIndex} has no body`);
    const moved = this.#importedFunctions + this.#bodies.length;
    this.#bodies.push(body);
    this.#typeOfFunction.push(type);
    this.#bodies[local] = wrapper(moved);
  }

  /** Adds a mutable i32 global, zero at first, and exports it. Returns its index. */
  addExportedGlobal(name: string): number {
    const index = this.#importedGlobals + this.#globalCount++;
    this.#globals.push(Uint8Array.of(ValueType.i32, 1, 0x41, 0, 0x0b));
    const text = new TextEncoder().encode(name);
    this.#exports.push(joined([unsigned(text.length), text, [3], unsigned(index)]));
    return index;
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    this.#section(SectionId.function).body = vector(this.#typeOfFunction.map(unsigned));
    this.#section(SectionId.code).body = vector(this.#bodies.map((body) => joined([unsigned(body.length), body])));
    this.#append(SectionId.global, this.#globals);
    this.#append(SectionId.export, this.#exports);
    const sections = this.#sections.map(({ id, body }) => joined([[id], unsigned(body.length), body]));
    return joined([this.#preamble, ...sections]);
  }

  #append(id: number, items: Uint8Array[]): void {
    const section = this.#section(id);
    const reader = new WasmReader(section.body);
    const count = reader.u32();
    section.body = joined([unsigned(count + items.length), section.body.subarray(reader.offset), ...items]);
    items.length = 0;
  }

  #section(id: number): Section {
    const section = this.#sections.find((candidate) => candidate.id === id);
    if (section === undefined) throw new WasmFormatError(`no section ${id}`);
    return section;
  }

  /** The function names of the name section (specification appendix, "Name Section": subsection 1). */
  #readNames(): void {
    for (const section of this.#sections) {
      if (section.id !== SectionId.custom) continue;
      const reader = new WasmReader(section.body);
      if (reader.text() !== "name") continue;
      while (!reader.atEnd) {
        const id = reader.byte();
        const subsection = new WasmReader(reader.sized());
        if (id !== 1) continue;
        for (let left = subsection.u32(); left > 0; left--) {
          const index = subsection.u32();
          this.#functionNames.push([subsection.text(), index]);
        }
      }
    }
  }
}

function vector(items: readonly ArrayLike<number>[]): Uint8Array {
  return joined([unsigned(items.length), ...items]);
}

function readVector<Item>(section: Section, read: (reader: WasmReader) => Item): Item[] {
  const reader = new WasmReader(section.body);
  const items: Item[] = [];
  for (let left = reader.u32(); left > 0; left--) items.push(read(reader));
  return items;
}

function readType(reader: WasmReader): FunctionType {
  if (reader.byte() !== 0x60) throw new WasmFormatError("a type that is not a function type");
  return { parameters: [...reader.sized()], results: [...reader.sized()] };
}

/** Returns the kind of an import: 0 function, 1 table, 2 memory, 3 global. */
function readImport(reader: WasmReader): number {
  reader.sized();
  reader.sized();
  const kind = reader.byte();
  if (kind === 1) reader.byte();
  if (kind === 0) reader.u32();
  else if (kind === 3) reader.view(2);
  else if (kind === 1 || kind === 2) {
    const hasMaximum = (reader.byte() & 1) !== 0;
    reader.u32();
    if (hasMaximum) reader.u32();
  } else throw new WasmFormatError(`import kind ${kind}`);
  return kind;
}
