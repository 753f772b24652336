// QEMU's migration streams for tests, written from a plain description, and any such description.
import fc from "fast-check";
import { ramWord, RamFlag, RAM_PAGE_BYTES, SectionType } from "./stream-words.ts";

export interface RamRecord {
  readonly block: string;
  readonly page: number;
  /** What fills the page: zero records are sent for 0. */
  readonly fill: number;
}

/** Sent beside RAM, or a section of RAM. */
export type Sent =
  | { readonly kind: "command"; readonly number: number; readonly payload: Uint8Array }
  | { readonly kind: "ram"; readonly records: readonly RamRecord[] };

export interface StreamDescription {
  readonly machine: string;
  readonly capabilities: readonly string[];
  readonly uuid?: Uint8Array;
  readonly blocks: readonly { readonly name: string; readonly usedBytes: number }[];
  readonly commands: readonly (Sent & { kind: "command" })[];
  /** After RAM has begun; the last section of RAM follows, with `last` in it. */
  readonly sent: readonly Sent[];
  readonly last: readonly RamRecord[];
  readonly devices: Uint8Array;
  readonly text: string;
}

export const GUEST_PAGES = 8;
export const guestRam = { name: "ram", usedBytes: GUEST_PAGES * RAM_PAGE_BYTES };

/** A small one, in which there is everything. */
export const smallStream: StreamDescription = {
  machine: "pc-q35-11.1",
  capabilities: ["x-ignore-shared"],
  uuid: new Uint8Array(16).fill(7),
  blocks: [guestRam, { name: "0000:00:01.0/vga.vram", usedBytes: 3 * RAM_PAGE_BYTES }],
  commands: [{ kind: "command", number: 1, payload: new Uint8Array(0) }],
  sent: [
    {
      kind: "ram",
      records: [
        { block: "ram", page: 0, fill: 0 },
        { block: "ram", page: 1, fill: 1 },
        { block: "0000:00:01.0/vga.vram", page: 1, fill: 8 },
        { block: "0000:00:01.0/vga.vram", page: 2, fill: 9 },
      ],
    },
    { kind: "command", number: 3, payload: Uint8Array.of(0, 0, 0, 1) },
  ],
  last: [
    { block: "ram", page: 7, fill: 3 },
    { block: "0000:00:01.0/vga.vram", page: 2, fill: 0 },
  ],
  devices: Uint8Array.of(4, 0, 0, 0, 9, 0x7d),
  text: '{"page_size":4096,"devices":[{"name":"timer"}]}',
};

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff);
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function u64(value: number): Uint8Array {
  return Buffer.concat([u32(Math.floor(value / 2 ** 32)), u32(value % 2 ** 32)]);
}

function short(text: string): Uint8Array {
  const bytes = Buffer.from(text, "latin1");
  return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
}

const RAM_SECTION = u32(2);
const footer = Buffer.concat([Uint8Array.of(SectionType.footer), RAM_SECTION]);
const endOfSection = ramWord(0, RamFlag.endOfSection);

function subsection(name: string, content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(SectionType.subsection), short(name), u32(1), content]);
}

/** Writes a stream as QEMU does (migration/savevm.c, migration/ram.c), which names a block only where it changes. */
export class StreamWriter {
  #parts: Uint8Array[] = [];
  readonly #namesEach: boolean;
  #block: string | undefined;

  /** `namesEach`: every record names its block. */
  constructor(namesEach = false) {
    this.#namesEach = namesEach;
  }

  /** What was written since it was last asked for. */
  taken(): Uint8Array {
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    return bytes;
  }

  head(description: StreamDescription): this {
    const { machine, capabilities, uuid, blocks, commands } = description;
    this.#add(Buffer.from("QEVM"), u32(3));
    this.#add(Uint8Array.of(SectionType.configuration), u32(machine.length), Buffer.from(machine, "latin1"));
    if (capabilities.length > 0) {
      const names = capabilities.map(short);
      this.#add(subsection("configuration/capabilities", Buffer.concat([u32(names.length), ...names])));
    }
    if (uuid !== undefined) this.#add(subsection("configuration/uuid", uuid));
    for (const one of commands) this.command(one);
    this.#add(Uint8Array.of(SectionType.start), RAM_SECTION, short("ram"), u32(0), u32(4));
    const totalBytes = blocks.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
    this.#add(u64(totalBytes + RamFlag.blockList));
    for (const { name, usedBytes } of blocks) this.#add(short(name), u64(usedBytes));
    this.#add(endOfSection, footer);
    return this;
  }

  command({ number, payload }: Sent & { kind: "command" }): this {
    this.#add(Uint8Array.of(SectionType.command), u16(number), u16(payload.length), payload);
    return this;
  }

  ram(type: number, records: readonly RamRecord[]): this {
    this.#add(Uint8Array.of(type), RAM_SECTION);
    for (const { block, page, fill } of records) {
      const isSame = block === this.#block && !this.#namesEach;
      const flags = (fill === 0 ? RamFlag.zero : RamFlag.page) | (isSame ? RamFlag.sameBlock : 0);
      this.#add(ramWord(page, flags));
      if (!isSame) this.#add(short(block));
      this.#add(new Uint8Array(fill === 0 ? 1 : RAM_PAGE_BYTES).fill(fill));
      this.#block = block;
    }
    this.#add(endOfSection, footer);
    return this;
  }

  /** The last section of RAM, the devices and their description. */
  end({ last, devices, text }: StreamDescription): this {
    this.ram(SectionType.last, last);
    this.#add(devices, Uint8Array.of(SectionType.end, SectionType.description), u32(text.length), Buffer.from(text));
    return this;
  }

  #add(...parts: readonly Uint8Array[]): void {
    this.#parts.push(...parts);
  }
}

/** A whole stream at once; see StreamWriter. */
export function encodeStream(description: StreamDescription, namesEach = false): Uint8Array {
  const writer = new StreamWriter(namesEach).head(description);
  for (const one of description.sent) {
    if (one.kind === "command") writer.command(one);
    else writer.ram(SectionType.part, one.records);
  }
  return writer.end(description).taken();
}

/** All records of RAM, in the order they are sent. */
export function recordsOf({ sent, last }: StreamDescription): RamRecord[] {
  return [...sent.flatMap((one) => (one.kind === "ram" ? one.records : [])), ...last];
}

/** Any stream of a guest of GUEST_PAGES pages in the block `ram`; records come again and in any order. */
export function anyStream(): fc.Arbitrary<StreamDescription> {
  const name = fc.string({ maxLength: 20 }).map((text) => Buffer.from(text).toString("latin1"));
  const others = fc.uniqueArray(fc.tuple(name, fc.integer({ min: 1, max: 3 })), {
    maxLength: 3,
    selector: ([block]) => block,
  });
  return others
    .map((blocks) =>
      blocks
        .filter(([block]) => block !== "ram")
        .map(([block, pages]) => ({ name: block, usedBytes: pages * RAM_PAGE_BYTES })),
    )
    .chain((blocks) => {
      const all = [guestRam, ...blocks];
      const record = fc.constantFrom(...all).chain(({ name: block, usedBytes }) =>
        fc.record({
          block: fc.constant(block),
          page: fc.integer({ min: 0, max: usedBytes / RAM_PAGE_BYTES - 1 }),
          fill: fc.constantFrom(0, 0, 1, 0x7b, 0x7d, 0xff),
        }),
      );
      const records = fc.array(record, { maxLength: 6 });
      const order = fc.record({
        kind: fc.constant("command" as const),
        number: fc.integer({ min: 0, max: 12 }),
        payload: fc.uint8Array({ maxLength: 12 }),
      });
      return fc.record(
        {
          machine: name,
          capabilities: fc.array(name, { maxLength: 3 }),
          uuid: fc.uint8Array({ minLength: 16, maxLength: 16 }),
          blocks: fc.shuffledSubarray(all, { minLength: all.length }),
          commands: fc.array(order, { maxLength: 3 }),
          sent: fc.array(fc.oneof(order, fc.record({ kind: fc.constant("ram" as const), records })), { maxLength: 4 }),
          last: records,
          devices: fc.uint8Array({ maxLength: 60 }),
          text: fc.jsonValue().map((value) => JSON.stringify({ value }).replaceAll(/[^ -~]/g, "?")),
        },
        {
          requiredKeys: ["machine", "capabilities", "blocks", "commands", "sent", "last", "devices", "text"],
          noNullPrototype: true,
        },
      );
    });
}
