// QEMU's outgoing migration stream, read as two things: which pages of RAM the CPU wrote, and the machine's state.
import { OperationError } from "../../base/errors.ts";
import { ByteQueue } from "./byte-queue.ts";

// Section types (QEMU, migration/savevm.h).
const EOF = 0x00;
const SECTION_START = 0x01;
const SECTION_PART = 0x02;
const SECTION_END = 0x03;
const SUBSECTION = 0x05;
const DESCRIPTION = 0x06;
const CONFIGURATION = 0x07;
const COMMAND = 0x08;
const FOOTER = 0x7e;

const MAGIC = 0x51_45_56_4d;
const VERSION = 3;

/** Flags in the low bits of a RAM record's address (QEMU, migration/ram.c). */
const RamFlag = { zero: 0x02, blockList: 0x04, page: 0x08, endOfSection: 0x10, sameBlock: 0x20 } as const;
const RAM_PAGE_BYTES = 4096;
const RAM_FLAGS = RAM_PAGE_BYTES - 1;

/** A stream that goes on like this is not one of ours; the devices of a large machine take some megabytes. */
const STATE_BYTES_MAX = 256 << 20;

export interface RamBlock {
  readonly name: string;
  readonly usedBytes: number;
}

export interface MigrationStreamOptions {
  /** Tells the guest's RAM, which others move, from blocks that are part of the machine (firmware, video memory). */
  readonly isGuestRam: (block: RamBlock) => boolean;
  /** The CPU wrote this page of guest RAM, by number in its block, at some time before its record came. */
  readonly onDirtyPage: (page: number) => void;
}

/** Content of the pages of one block that travels with the machine; undefined stands for zeros. */
type CarriedPages = Map<number, Uint8Array | undefined>;

/**
 * QEMU sends a page's number and bytes after it has cleared the page's dirty bit. Here the bytes of guest RAM are thrown
 * away: whoever moves the RAM reads the page itself, later than QEMU did, so it gets bytes at least as new; a write after
 * that is in QEMU's log again. What is left, with the RAM sections of the other blocks put together into one, is a stream
 * that a QEMU takes which has its RAM by other means.
 *
 * Only capabilities that keep the plain form may be on: no multifd, XBZRLE, compression, postcopy or mapped-ram.
 */
export class MigrationStream {
  readonly #options: MigrationStreamOptions;
  readonly #input = new ByteQueue();
  readonly #parser: Generator<number, void, Uint8Array>;
  readonly #blocks = new Map<string, RamBlock>();
  readonly #carried = new Map<string, CarriedPages>();
  /** Everything that is not content of RAM, up to the end of RAM; then RAM's last section; then the devices. */
  readonly #head: Uint8Array[] = [];
  readonly #tail: Uint8Array[] = [];
  #tailBytes = 0;
  #ramSection: Uint8Array | undefined;
  #block: RamBlock | undefined;
  #wanted = 0;
  #skipping = 0;
  #isInTail = false;
  #isComplete = false;

  constructor(options: MigrationStreamOptions) {
    this.#options = options;
    this.#parser = this.#parse();
    this.#advance(undefined);
  }

  /** The stream's last byte has come. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Every page of RAM has come for the last time; what follows is the state of the devices. */
  get isRamComplete(): boolean {
    return this.#isInTail;
  }

  /** Takes what came. Throws OperationError `qemu-stream-unknown` for a form that is not the plain one. */
  push(bytes: Uint8Array): void {
    this.#input.push(bytes);
    for (;;) {
      if (this.#skipping > 0) this.#skipping -= this.#input.skip(this.#skipping);
      if (this.#skipping > 0) return;
      if (this.#isInTail) {
        this.#takeTail();
        return;
      }
      const taken = this.#input.take(this.#wanted);
      if (taken === undefined) return;
      this.#advance(taken);
    }
  }

  /** The stream for the destination's QEMU: all of it but the guest's RAM. */
  machineState(): Uint8Array {
    return Buffer.concat([...this.#head, ...this.#ramEnd(), ...this.#tail]);
  }

  #advance(taken: Uint8Array | undefined): void {
    const next = taken === undefined ? this.#parser.next() : this.#parser.next(taken);
    if (next.done === true) this.#isInTail = true;
    else this.#wanted = next.value;
  }

  // The parser asks for bytes by yielding how many. Until RAM is complete, each section's length follows from its bytes.

  *#parse(): Generator<number, void, Uint8Array> {
    const start = yield* this.#keep(8);
    if (u32(start, 0) !== MAGIC || u32(start, 4) !== VERSION) throw unknownStream("it does not begin as one");
    for (;;) {
      const type = yield* this.#peekType();
      if (type === CONFIGURATION) yield* this.#configuration();
      else if (type === SUBSECTION) yield* this.#subsection();
      else if (type === COMMAND) yield* this.#command();
      else if (type === SECTION_START) yield* this.#sectionStart();
      else if (type === SECTION_PART || type === SECTION_END) {
        yield* this.#ramSectionBody();
        if (type === SECTION_END) return;
      } else throw unknownStream(`a section of type ${type} before the end of RAM`);
    }
  }

  /** Sections of RAM are not kept as they are; the type of every other one is. */
  *#peekType(): Generator<number, number, Uint8Array> {
    const type = (yield 1)[0] as number;
    if (type !== SECTION_PART && type !== SECTION_END) this.#head.push(Uint8Array.of(type));
    return type;
  }

  *#keep(length: number): Generator<number, Uint8Array, Uint8Array> {
    const bytes = (yield length).slice();
    this.#head.push(bytes);
    return bytes;
  }

  *#configuration(): Generator<number, void, Uint8Array> {
    const length = u32(yield* this.#keep(4), 0);
    if (length > 256) throw unknownStream(`a machine name of ${length} bytes`);
    yield* this.#keep(length);
  }

  /** Those of the configuration: each holds what its name says, and only these are there without other capabilities. */
  *#subsection(): Generator<number, void, Uint8Array> {
    const name = text(yield* this.#keepShort());
    yield* this.#keep(4);
    if (name === "configuration/target-page-bits") yield* this.#keep(4);
    else if (name === "configuration/uuid") yield* this.#keep(16);
    else if (name === "configuration/capabilities") {
      for (let left = u32(yield* this.#keep(4), 0); left > 0; left--) yield* this.#keepShort();
    } else throw unknownStream(`the subsection ${name}`);
  }

  /** A string with its length in a byte before it. */
  *#keepShort(): Generator<number, Uint8Array, Uint8Array> {
    const length = (yield* this.#keep(1))[0] as number;
    return length === 0 ? new Uint8Array(0) : yield* this.#keep(length);
  }

  *#command(): Generator<number, void, Uint8Array> {
    const length = u16(yield* this.#keep(4), 2);
    if (length > 0) yield* this.#keep(length);
  }

  *#sectionStart(): Generator<number, void, Uint8Array> {
    const id = yield* this.#keep(4);
    const name = text(yield* this.#keepShort());
    if (name !== "ram") throw unknownStream(`a section ${name} that is sent while the guest runs`);
    this.#ramSection = id;
    yield* this.#keep(8);
    yield* this.#blockList();
    yield* this.#footer(true);
  }

  *#blockList(): Generator<number, void, Uint8Array> {
    const total = yield* this.#keep(8);
    if ((u32(total, 4) & RAM_FLAGS) !== RamFlag.blockList) throw unknownStream("RAM does not begin with its blocks");
    for (let left = address(total); left > 0;) {
      const name = text(yield* this.#keepShort());
      const usedBytes = u64(yield* this.#keep(8), 0);
      this.#blocks.set(name, { name, usedBytes });
      left -= usedBytes;
      if (left < 0) throw unknownStream("blocks of RAM beyond their sum");
    }
    const end = yield* this.#keep(8);
    if (u32(end, 4) !== RamFlag.endOfSection) throw unknownStream("something after the blocks of RAM");
  }

  *#ramSectionBody(): Generator<number, void, Uint8Array> {
    const id = (yield 4).slice();
    if (this.#ramSection === undefined || u32(id, 0) !== u32(this.#ramSection, 0)) {
      throw unknownStream("a section that did not begin");
    }
    while (yield* this.#ramRecord());
    yield* this.#footer(false);
  }

  /** False at the end of the section. */
  *#ramRecord(): Generator<number, boolean, Uint8Array> {
    const record = yield 8;
    const flags = u32(record, 4) & RAM_FLAGS;
    const page = address(record) / RAM_PAGE_BYTES;
    if (flags === RamFlag.endOfSection) return false;
    const kind = flags & ~RamFlag.sameBlock;
    if (kind !== RamFlag.page && kind !== RamFlag.zero) throw unknownStream(`a record of RAM with flags ${flags}`);
    if ((flags & RamFlag.sameBlock) === 0) yield* this.#blockNamed();
    const block = this.#block;
    if (block === undefined || page * RAM_PAGE_BYTES >= block.usedBytes) throw unknownStream("a page of no block");
    const isGuestRam = this.#options.isGuestRam(block);
    if (isGuestRam) this.#options.onDirtyPage(page);
    if (kind === RamFlag.zero) {
      if (((yield 1)[0] as number) !== 0) throw unknownStream("a page filled with something else than zeros");
      if (!isGuestRam) this.#carry(block, page, undefined);
    } else if (isGuestRam) this.#skipping = RAM_PAGE_BYTES;
    else this.#carry(block, page, (yield RAM_PAGE_BYTES).slice());
    return true;
  }

  *#blockNamed(): Generator<number, void, Uint8Array> {
    const length = (yield 1)[0] as number;
    const name = length === 0 ? "" : text(yield length);
    this.#block = this.#blocks.get(name);
  }

  #carry(block: RamBlock, page: number, content: Uint8Array | undefined): void {
    let pages = this.#carried.get(block.name);
    if (pages === undefined) this.#carried.set(block.name, (pages = new Map()));
    pages.set(page, content);
  }

  *#footer(isKept: boolean): Generator<number, void, Uint8Array> {
    const footer = isKept ? yield* this.#keep(5) : yield 5;
    if (footer[0] !== FOOTER) throw unknownStream("a section without a footer");
  }

  // The devices: opaque, up to the description that ends the stream.

  #takeTail(): void {
    const bytes = this.#input.takeAll();
    if (bytes.length === 0) return;
    this.#tail.push(bytes);
    this.#tailBytes += bytes.length;
    if (this.#tailBytes > STATE_BYTES_MAX) throw unknownStream(`devices of more than ${STATE_BYTES_MAX} bytes`);
    // The description is JSON: only a brace can be the end.
    if (bytes.at(-1) === 0x7d) this.#isComplete = this.#endsWithDescription();
  }

  #endsWithDescription(): boolean {
    const tail = Buffer.concat(this.#tail);
    this.#tail.splice(0, this.#tail.length, tail);
    for (let at = tail.indexOf('{"', 6); at >= 0; at = tail.indexOf('{"', at + 1)) {
      const isHere = tail[at - 6] === EOF && tail[at - 5] === DESCRIPTION && u32(tail, at - 4) === tail.length - at;
      if (isHere) return true;
    }
    return false;
  }

  /** One last section of RAM with the other blocks' pages as they were last seen. */
  #ramEnd(): Uint8Array[] {
    const id = this.#ramSection ?? new Uint8Array(4);
    const parts: Uint8Array[] = [Uint8Array.of(SECTION_END), id];
    for (const [name, pages] of this.#carried) {
      for (const [page, content] of pages) {
        const kind = content === undefined ? RamFlag.zero : RamFlag.page;
        parts.push(ramWord(page, kind), Uint8Array.of(name.length), Buffer.from(name), content ?? Uint8Array.of(0));
      }
    }
    parts.push(ramWord(0, RamFlag.endOfSection), Uint8Array.of(FOOTER), id);
    return parts;
  }
}

function ramWord(page: number, flags: number): Uint8Array {
  const word = Buffer.alloc(8);
  word.writeBigUInt64BE(BigInt(page) * BigInt(RAM_PAGE_BYTES) + BigInt(flags));
  return word;
}

function u16(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] as number) << 8) | (bytes[offset + 1] as number);
}

function u32(bytes: Uint8Array, offset: number): number {
  return u16(bytes, offset) * 0x1_0000 + u16(bytes, offset + 2);
}

function u64(bytes: Uint8Array, offset: number): number {
  return u32(bytes, offset) * 0x1_0000_0000 + u32(bytes, offset + 4);
}

/** What a record of RAM says beside its flags. */
function address(record: Uint8Array): number {
  return u64(record, 0) - (u32(record, 4) & RAM_FLAGS);
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

function unknownStream(what: string): OperationError<"qemu-stream-unknown"> {
  return new OperationError({
    code: "qemu-stream-unknown",
    message: `QEMU's migration stream is not of the form that is known here: ${what}.`,
    advice: "Switch off the migration capabilities that change it (multifd, xbzrle, postcopy-ram, mapped-ram).",
    facts: { what },
  });
}
