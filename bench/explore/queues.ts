// The source of the common model: queues that share a guest's memory and nothing else, each a shipping VF's.
import { assert } from "../../src/base/assert.ts";
import { bytesKey, Interner } from "../../src/explore/interner.ts";
import { BufferMemory } from "../../src/memory/guest-memory.ts";
import { PAGE_BYTES, Queue } from "./queue.ts";

export interface ModelSize {
  readonly queues: number;
  readonly packets: number;
}

/**
 * What one queue does is done once by its VF and remembered: its states are numbers from 0, and the contents that a page
 * of it has over time are numbered as they come. The device's own order is the only one there is inside a queue, so its
 * states are a row. A state of all queues is their states as the digits of one number.
 */
export class Queues {
  readonly size: ModelSize;
  readonly memory: BufferMemory;
  readonly queues: readonly Queue[];
  /** Pages from one queue's first to the next one's: a power of two, so that an image keeps them in a part of its own. */
  readonly stride: number;
  /** log2(stride). */
  readonly level: number;
  /** States of one queue. */
  readonly states: number;
  /** Contents that each page of a queue has over time: the ring's, then the buffers'. */
  readonly contents: readonly number[];
  readonly startBytes: Uint8Array;
  /** By queue, page in the queue, and number of the content. */
  readonly #bytes: Uint8Array[][][] = [];
  /** By state and page in the queue: the number of the content; the same for every queue. */
  readonly #contentAt: Uint8Array;

  constructor(size: ModelSize) {
    this.size = size;
    this.level = Math.ceil(Math.log2(size.packets + 1));
    this.stride = 1 << this.level;
    const pageCount = 2 ** Math.ceil(Math.log2(this.stride * size.queues));
    this.memory = new BufferMemory(pageCount * PAGE_BYTES, { pageBytes: PAGE_BYTES });
    this.queues = Array.from({ length: size.queues }, (_, queue) => {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, queue + 1);
      return new Queue(this.memory, { firstPage: queue * this.stride, packets: size.packets, mac });
    });
    this.startBytes = this.memory.bytes().slice();
    const rows = this.queues.map((queue) => this.#watch(queue));
    const [row = []] = rows;
    assert(
      rows.every((other) => String(other) === String(row)),
      "the queues differ in nothing but their place",
    );
    this.states = row.length;
    this.#contentAt = Uint8Array.from(row.flat());
    this.contents = (this.#bytes[0] ?? []).map((contents) => contents.length);
    this.restart();
  }

  /** Lets a queue run to its end; the numbers of its pages' contents, state by state. */
  #watch(queue: Queue): number[][] {
    const pages = queue.pages.map(() => new Interner<Uint8Array>());
    const look = (): number[] =>
      queue.pages.map((page, i) => {
        const bytes = this.pageBytes(page).slice();
        return pages[i]?.intern(bytesKey(bytes), () => bytes) ?? 0;
      });
    const before = [queue.mappedPages(), queue.ringPages()];
    const states = [look()];
    while (queue.step()) states.push(look());
    const after = [queue.mappedPages(), queue.ringPages()];
    assert(String(after) === String(before), "what a queue maps does not change while its driver stands still");
    this.#bytes.push(pages.map((contents) => Array.from({ length: contents.size }, (_, i) => contents.value(i))));
    return states;
  }

  /** Memory and devices as they were at the start. */
  restart(): void {
    this.memory.bytes().set(this.startBytes);
    for (const queue of this.queues) queue.restart();
  }

  get pageCount(): number {
    return this.memory.pages.count;
  }

  pageBytes(page: number): Uint8Array {
    return this.memory.bytes().subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
  }

  stateOf(source: number, queue: number): number {
    return Math.floor(source / this.states ** queue) % this.states;
  }

  /** The number of a page's content while its queue is in a state. */
  contentAt(state: number, pageInQueue: number): number {
    return this.#contentAt[state * (this.size.packets + 1) + pageInQueue] as number;
  }

  bytesOf(page: number, content: number): Uint8Array {
    return this.#bytes[page >>> this.level]?.[page & (this.stride - 1)]?.[content] as Uint8Array;
  }

  mappedPages(): readonly number[] {
    return this.queues.flatMap((queue) => queue.mappedPages());
  }

  ringPages(): readonly number[] {
    return this.queues.flatMap((queue) => queue.ringPages());
  }
}
