// QEMU's outgoing migration stream, read as two things: which pages of RAM the CPU wrote, and the machine's state.
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { ByteQueue } from "./byte-queue.ts";
import { CarriedRam } from "./carried-ram.ts";
import { GrowingBytes } from "./growing-bytes.ts";
import {
  address,
  MAGIC,
  RamFlag,
  RAM_FLAGS,
  RAM_PAGE_BYTES,
  SectionType,
  text,
  u16,
  u32,
  u64,
  unknownStream,
  VERSION,
} from "./stream-words.ts";

/** Beyond these a stream is not one of ours. The devices of a large machine take some megabytes, its firmware and video memory some tens. */
const STATE_BYTES_MAX = 256 << 20;
const HEAD_BYTES_MAX = 1 << 20;
const BLOCKS_MAX = 1024;
/** SectionType.end, the description's type and its length: what stands before its text. */
const DESCRIPTION_HEADER_BYTES = 6;
const CLOSING_BRACE = 0x7d;

export interface RamBlock {
  readonly name: string;
  readonly usedBytes: number;
}

export interface MigrationStreamOptions {
  /**
   * Tells the guest's RAM, which others move, from blocks that are part of the machine (firmware, video memory). True for
   * exactly one block.
   */
  readonly isGuestRam: (block: RamBlock) => boolean;
  /** The CPU wrote this page of guest RAM, by number in its block, at some time before its record came. */
  readonly onDirtyPage: (page: number) => void;
  /** Most bytes of the machine's own RAM, and of its devices. */
  readonly stateBytesMax?: number;
}

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
  readonly #stateBytesMax: number;
  readonly #input = new ByteQueue();
  readonly #parser: Generator<number, void, Uint8Array>;
  readonly #blocks = new Map<string, RamBlock>();
  readonly #carried: CarriedRam;
  /** Everything that is not content of RAM, up to the end of RAM; then RAM's last section; then the devices. */
  readonly #head = new GrowingBytes();
  readonly #tail = new GrowingBytes();
  /** Where the tail ends if what was last found in it is the description. */
  #descriptionEnd = -1;
  #problem: OperationError | undefined;
  #ramSection: Uint8Array | undefined;
  #block: RamBlock | undefined;
  #wanted = 0;
  #skipping = 0;
  #isInTail = false;

  constructor(options: MigrationStreamOptions) {
    this.#options = options;
    this.#stateBytesMax = options.stateBytesMax ?? STATE_BYTES_MAX;
    this.#carried = new CarriedRam(this.#stateBytesMax);
    this.#parser = this.#parse();
    this.#advance(undefined);
  }

  /** The stream's last byte has come. */
  get isComplete(): boolean {
    return this.#tail.length === this.#descriptionEnd && this.#tail.bytes().at(-1) === CLOSING_BRACE;
  }

  /** Every page of RAM has come for the last time; what follows is the state of the devices. */
  get isRamComplete(): boolean {
    return this.#isInTail;
  }

  /**
   * Takes what came, and keeps the piece itself: it must not change afterwards. Throws OperationError
   * `qemu-stream-unknown` for a form that is not the plain one, and from then on for whatever comes.
   */
  push(bytes: Uint8Array): void {
    if (this.#problem !== undefined) throw this.#problem;
    try {
      this.#take(bytes);
    } catch (thrown) {
      if (thrown instanceof OperationError) this.#problem = thrown;
      throw thrown;
    }
  }

  #take(bytes: Uint8Array): void {
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

  /** Once it is complete, the stream for the destination's QEMU: all of it but the guest's RAM. */
  machineState(): Uint8Array {
    assert(this.#ramSection !== undefined, "a complete stream has had its RAM");
    return Buffer.concat([this.#head.bytes(), this.#carried.lastSection(this.#ramSection), this.#tail.bytes()]);
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
      if (type === SectionType.configuration) yield* this.#configuration();
      else if (type === SectionType.subsection) yield* this.#subsection();
      else if (type === SectionType.command) yield* this.#command();
      else if (type === SectionType.start) yield* this.#sectionStart();
      else if (type === SectionType.part || type === SectionType.last) {
        yield* this.#ramSectionBody();
        if (type === SectionType.last) return;
      } else throw unknownStream(`a section of type ${type} before the end of RAM`);
    }
  }

  /** Sections of RAM are not kept as they are; the type of every other one is. */
  *#peekType(): Generator<number, number, Uint8Array> {
    const type = (yield 1)[0] as number;
    if (type !== SectionType.part && type !== SectionType.last) this.#head.append(Uint8Array.of(type));
    return type;
  }

  *#keep(length: number): Generator<number, Uint8Array, Uint8Array> {
    const bytes = copyOf(yield length);
    this.#head.append(bytes);
    if (this.#head.length > HEAD_BYTES_MAX) throw unknownStream(`more than ${HEAD_BYTES_MAX} bytes beside RAM`);
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
    if (this.#ramSection !== undefined) throw unknownStream("RAM that begins twice");
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
      left -= usedBytes;
      if (left < 0) throw unknownStream("blocks of RAM beyond their sum");
      if (this.#blocks.has(name)) throw unknownStream(`two blocks of RAM called ${name}`);
      if (this.#blocks.size === BLOCKS_MAX) throw unknownStream(`more than ${BLOCKS_MAX} blocks of RAM`);
      this.#blocks.set(name, { name, usedBytes });
    }
    const guestBlocks = [...this.#blocks.values()].filter((block) => this.#options.isGuestRam(block));
    if (guestBlocks.length !== 1) throw unknownStream(`${guestBlocks.length} blocks of RAM that may be the guest's`);
    const end = yield* this.#keep(8);
    if (u32(end, 4) !== RamFlag.endOfSection) throw unknownStream("something after the blocks of RAM");
  }

  *#ramSectionBody(): Generator<number, void, Uint8Array> {
    const id = copyOf(yield 4);
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
      if (!isGuestRam) this.#carried.set(block.name, page, undefined);
    } else if (isGuestRam) this.#skipping = RAM_PAGE_BYTES;
    else this.#carried.set(block.name, page, copyOf(yield RAM_PAGE_BYTES));
    return true;
  }

  *#blockNamed(): Generator<number, void, Uint8Array> {
    const length = (yield 1)[0] as number;
    const name = length === 0 ? "" : text(yield length);
    this.#block = this.#blocks.get(name);
  }

  *#footer(isKept: boolean): Generator<number, void, Uint8Array> {
    const footer = isKept ? yield* this.#keep(5) : yield 5;
    if (footer[0] !== SectionType.footer) throw unknownStream("a section without a footer");
  }

  // The devices: opaque, up to the description that ends the stream.

  #takeTail(): void {
    const from = Math.max(0, this.#tail.length - DESCRIPTION_HEADER_BYTES - 1);
    this.#tail.append(this.#input.takeAll());
    if (this.#tail.length > this.#stateBytesMax)
      throw unknownStream(`devices of more than ${this.#stateBytesMax} bytes`);
    this.#findDescription(from);
  }

  /** It is JSON, so it has no zero bytes: what looks like its beginning and comes last is its beginning. */
  #findDescription(from: number): void {
    const tail = Buffer.from(this.#tail.bytes().buffer, 0, this.#tail.length);
    const first = from + DESCRIPTION_HEADER_BYTES;
    for (let at = tail.indexOf('{"', first); at >= 0; at = tail.indexOf('{"', at + 1)) {
      const header = at - DESCRIPTION_HEADER_BYTES;
      if (tail[header] !== SectionType.end || tail[header + 1] !== SectionType.description) continue;
      this.#descriptionEnd = at + u32(tail, header + 2);
    }
  }
}

/** What a socket gives are Buffers, whose `slice` copies nothing and would keep all that came with a page. */
function copyOf(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes);
}
