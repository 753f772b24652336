// The binary form of a device's state: a tree of numbers, short strings, typed arrays and lists of these.
import { OperationError } from "../../base/errors.ts";

/*
 * v86's devices give their state as nested lists with typed arrays in the leaves. The tree is written with a tag before
 * each value; of a typed array only the runs of blocks that are not zero are written, which makes a screen or a sector
 * buffer that nobody uses cost nothing. All integers are little-endian.
 *
 * Bytes that come from elsewhere are not trusted: decoding checks every length against what is left, and `conform`
 * holds the result against the state of this machine's own devices, so that what a device gets has the shape of what it
 * gave: the same lists, arrays of the same type and length, and finite numbers where it has numbers.
 */

export type StateLeaf = undefined | null | boolean | number | string;
export type StateArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;
export type StateTree = StateLeaf | StateArray | readonly StateTree[];

const arrayTypes = [
  Uint8Array,
  Int8Array,
  Uint16Array,
  Int16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
] as const;

const Tag = { undefined: 0, null: 1, false: 2, true: 3, int32: 4, float64: 5, text: 6, list: 7, array: 8 } as const;

/** Blocks of this many zero bytes are left out. */
const blockBytes = 64;
const depthMax = 16;
const endOfRuns = 0xffff_ffff;

export function stateInvalid(message: string): OperationError<"machine-state-invalid"> {
  return new OperationError({
    code: "machine-state-invalid",
    message: `the machine's state cannot be loaded: ${message}`,
    advice: "both sides must run the same version with the same memory size; start the migration again",
  });
}

export const isStateArray = (value: unknown): value is StateArray => arrayTypes.some((type) => value instanceof type);

/** Appends values to a buffer that grows. */
class TreeWriter {
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  tree(value: StateTree): void {
    if (value === undefined) this.#byte(Tag.undefined);
    else if (value === null) this.#byte(Tag.null);
    else if (typeof value === "boolean") this.#byte(value ? Tag.true : Tag.false);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") {
      this.#byte(Tag.text);
      const text = new TextEncoder().encode(value);
      this.#u32(text.length);
      this.#raw(text);
    } else if (isStateArray(value)) this.#array(value);
    else {
      this.#byte(Tag.list);
      this.#u32(value.length);
      // By index: a list with holes has undefined there.
      for (let i = 0; i < value.length; i++) this.tree(value[i]);
    }
  }

  finished(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #number(value: number): void {
    if ((value | 0) === value && !Object.is(value, -0)) {
      this.#byte(Tag.int32);
      this.#u32(value >>> 0);
    } else {
      this.#byte(Tag.float64);
      this.#room(8);
      this.#view.setFloat64(this.#length, value, true);
      this.#length += 8;
    }
  }

  #array(value: StateArray): void {
    this.#byte(Tag.array);
    this.#byte(arrayTypes.findIndex((type) => value instanceof type));
    this.#u32(value.length);
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    for (let start = 0; (start = skipZeroBlocks(bytes, start)) < bytes.length;) {
      let end = start;
      while (end < bytes.length && !isZeroBlock(bytes, end)) end += blockBytes;
      end = Math.min(end, bytes.length);
      this.#u32(start);
      this.#u32(end - start);
      this.#raw(bytes.subarray(start, end));
      start = end;
    }
    this.#u32(endOfRuns);
  }

  #byte(value: number): void {
    this.#room(1);
    this.#bytes[this.#length++] = value;
  }

  #u32(value: number): void {
    this.#room(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  #raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function isZeroBlock(bytes: Uint8Array, start: number): boolean {
  const end = Math.min(start + blockBytes, bytes.length);
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** The start of the first block at or after `start` that is not zero, or the length. */
function skipZeroBlocks(bytes: Uint8Array, start: number): number {
  let at = start;
  const isAligned = bytes.byteOffset % 4 === 0 && at % 4 === 0;
  if (isAligned) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    let word = at >>> 2;
    while (word < words.length && words[word] === 0) word++;
    at = Math.max(at, word * 4 - ((word * 4 - start) % blockBytes));
  }
  while (at < bytes.length && isZeroBlock(bytes, at)) at += blockBytes;
  return Math.min(at, bytes.length);
}

export function encodeTree(tree: StateTree): Uint8Array<ArrayBuffer> {
  const writer = new TreeWriter();
  writer.tree(tree);
  return writer.finished();
}

class TreeReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Bytes that arrays may still take: a few bytes of input could ask for gigabytes of zeros. */
  #arrayBytesLeft: number;
  #offset = 0;

  constructor(bytes: Uint8Array, arrayBytesMax: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#arrayBytesLeft = arrayBytesMax;
  }

  get atEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  tree(depth = 0): StateTree {
    if (depth > depthMax) throw stateInvalid("it is nested too deeply");
    const tag = this.#raw(1)[0] ?? -1;
    switch (tag) {
      case Tag.undefined:
        return undefined;
      case Tag.null:
        return null;
      case Tag.false:
        return false;
      case Tag.true:
        return true;
      case Tag.int32:
        return this.#u32() | 0;
      case Tag.float64:
        this.#raw(8);
        return this.#view.getFloat64(this.#offset - 8, true);
      case Tag.text:
        return new TextDecoder().decode(this.#raw(this.#u32()));
      case Tag.list:
        return this.#list(depth);
      case Tag.array:
        return this.#array();
      default:
        throw stateInvalid(`it has an unknown tag ${tag}`);
    }
  }

  #list(depth: number): StateTree[] {
    const length = this.#u32();
    if (length > this.#bytes.length - this.#offset) throw stateInvalid("a list is longer than the state");
    const list: StateTree[] = [];
    for (let i = 0; i < length; i++) list.push(this.tree(depth + 1));
    return list;
  }

  #array(): StateArray {
    const type = arrayTypes[this.#raw(1)[0] ?? arrayTypes.length];
    if (type === undefined) throw stateInvalid("it has an array of unknown type");
    const length = this.#u32();
    this.#arrayBytesLeft -= length * type.BYTES_PER_ELEMENT;
    if (this.#arrayBytesLeft < 0) throw stateInvalid("its arrays are larger than the machine's");
    const array = new type(length);
    const bytes = new Uint8Array(array.buffer);
    for (let start = this.#u32(); start !== endOfRuns; start = this.#u32()) {
      const count = this.#u32();
      if (start + count > bytes.length) throw stateInvalid("an array's contents are longer than the array");
      bytes.set(this.#raw(count), start);
    }
    return array;
  }

  #u32(): number {
    this.#raw(4);
    return this.#view.getUint32(this.#offset - 4, true);
  }

  #raw(count: number): Uint8Array {
    if (count > this.#bytes.length - this.#offset) throw stateInvalid("it is cut off");
    this.#offset += count;
    return this.#bytes.subarray(this.#offset - count, this.#offset);
  }
}

/** Throws OperationError `machine-state-invalid` for anything encodeTree did not write. */
export function decodeTree(bytes: Uint8Array, arrayBytesMax: number): StateTree {
  const reader = new TreeReader(bytes, arrayBytesMax);
  const tree = reader.tree();
  if (!reader.atEnd) throw stateInvalid("bytes follow its end");
  return tree;
}

/** Throws OperationError `machine-state-invalid` unless `tree` has the shape of `template`; `place` is for the message. */
export function conform(tree: StateTree, template: StateTree, place: string): void {
  if (isStateArray(template)) {
    const isSame =
      isStateArray(tree) && tree.length === template.length && tree.BYTES_PER_ELEMENT === template.BYTES_PER_ELEMENT;
    if (!isSame || tree.constructor !== template.constructor) throw stateInvalid(`${place} is another array`);
  } else if (typeof template === "object" && template !== null) {
    if (typeof tree !== "object" || tree === null || isStateArray(tree) || tree.length !== template.length) {
      throw stateInvalid(`${place} is another list`);
    }
    for (let i = 0; i < template.length; i++) conform(tree[i], template[i], `${place}.${i}`);
  } else if (typeof template === "string" || typeof tree === "string") {
    if (tree !== template) throw stateInvalid(`${place} is another name`);
  } else if (typeof tree === "object" && tree !== null) {
    throw stateInvalid(`${place} is a list`);
  } else if (typeof tree === "number" && !Number.isFinite(tree)) {
    throw stateInvalid(`${place} is not a number`);
  }
}
