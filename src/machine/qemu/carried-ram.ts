// Pages of RAM that are part of the machine (firmware, video memory), kept until they travel with its state.
import { RamFlag, ramWord, SectionType, unknownStream } from "./stream-words.ts";

/** What a page takes beside its bytes, about. */
const PAGE_ENTRY_BYTES = 128;

/** By number in their block, as they were last seen; undefined stands for zeros. */
type Pages = Map<number, Uint8Array | undefined>;

export class CarriedRam {
  readonly #blocks = new Map<string, Pages>();
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Throws OperationError `qemu-stream-unknown` when it is more than a machine has. */
  set(block: string, page: number, content: Uint8Array | undefined): void {
    let pages = this.#blocks.get(block);
    if (pages === undefined) this.#blocks.set(block, (pages = new Map()));
    if (!pages.has(page)) this.#bytes += PAGE_ENTRY_BYTES;
    this.#bytes += (content?.length ?? 0) - (pages.get(page)?.length ?? 0);
    pages.set(page, content);
    if (this.#bytes > this.#bytesMax) throw unknownStream("more RAM of the machine's own than any machine has");
  }

  /** The last section of RAM of a stream that has no other content of RAM; `id` is RAM's, as it came. */
  lastSection(id: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [Uint8Array.of(SectionType.last), id];
    for (const [name, pages] of this.#blocks) {
      for (const [page, content] of pages) {
        const kind = content === undefined ? RamFlag.zero : RamFlag.page;
        const block = Buffer.from(name, "latin1");
        parts.push(ramWord(page, kind), Uint8Array.of(block.length), block, content ?? Uint8Array.of(0));
      }
    }
    parts.push(ramWord(0, RamFlag.endOfSection), Uint8Array.of(SectionType.footer), id);
    return Buffer.concat(parts);
  }
}
