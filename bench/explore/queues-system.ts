// The common model as a system to be searched: any device's next write, or the copy of any page that is due.
import { assert } from "../../src/base/assert.ts";
import { Images } from "../../src/explore/images.ts";
import { PairTable } from "../../src/explore/pair-table.ts";
import { stepOf, type Steps, type System } from "../../src/explore/search-system.ts";
import { Copier, type CopyPlace } from "./copier.ts";
import { PAGE_BYTES } from "./queue.ts";
import type { Queues } from "./queues.ts";
import { strategyOf, type OrderName } from "./orders.ts";

/** In place of the content of a page that is still going to be sent. */
const NOT_SENT = 0xffff;
const UNKNOWN = 0xffff_ffff;

/** What a place means for the rows of remembered steps. */
interface Row {
  readonly pages: readonly number[];
  /** By the pages' order: where their entries begin in the row of an engine side, one for each content. */
  readonly offsets: readonly number[];
  readonly length: number;
}

/** A step of a device is its queue's number; the copy of a page, `queues` and above it the page, counted without gaps. */
export class QueuesSystem implements System {
  readonly queues: Queues;
  readonly copier: Copier;
  readonly images: Images;
  readonly startSource = 0;
  readonly startEngine: number;
  /** Place and image. */
  readonly engines = new PairTable();
  readonly #rows: Row[] = [];
  /** By engine side: where its row begins. */
  #rowAt = new Uint32Array(1024);
  #stepTo = new Uint32Array(1 << 16).fill(UNKNOWN);
  #used = 0;
  /** By queue: what its state counts in the number of a source. */
  readonly #weights: readonly number[];
  /** By source and queue. */
  readonly #states: Uint8Array;

  constructor(queues: Queues, order: OrderName) {
    const { states, size } = queues;
    this.queues = queues;
    const experiment = { strategy: strategyOf(order), roundsMax: 0, anyOrder: true };
    this.copier = new Copier({ ...experiment, assumptions: { atomicBytes: PAGE_BYTES } }, queues);
    this.images = new Images(queues.pageCount);
    this.#weights = Array.from({ length: size.queues }, (_, queue) => states ** queue);
    this.#states = Uint8Array.from({ length: states ** size.queues * size.queues }, (_, i) =>
      queues.stateOf(Math.floor(i / size.queues), i % size.queues),
    );
    const due = new Set([...queues.ringPages(), ...queues.mappedPages()]);
    const image = this.images.of(Array.from({ length: queues.pageCount }, (_, page) => (due.has(page) ? NOT_SENT : 0)));
    this.startEngine = this.engine(this.copier.start, image);
  }

  get bytes(): number {
    return this.engines.bytes + this.images.bytes + this.#rowAt.byteLength + this.#stepTo.byteLength;
  }

  get engineSides(): number {
    return this.engines.size;
  }

  engineOf(engine: number): number {
    return engine;
  }

  /** Nothing but the image. */
  endingOf(): number {
    return 0;
  }

  expand(source: number, engine: number, steps: Steps): boolean {
    const count = this.queues.size.queues;
    for (let queue = 0; queue < count; queue++) this.addDeviceStep(source, engine, queue, steps);
    const { pages } = this.rowOf(engine);
    for (let i = 0; i < pages.length; i++) this.addCopy(source, engine, i, steps);
    return pages.length === 0;
  }

  addDeviceStep(source: number, engine: number, queue: number, steps: Steps): void {
    if (this.stateOf(source, queue) + 1 === this.queues.states) return;
    steps.add(source + (this.#weights[queue] as number), engine, queue);
  }

  /** The copy of the i-th page that is left. */
  addCopy(source: number, engine: number, i: number, steps: Steps): void {
    const { queues } = this;
    const row = this.rowOf(engine);
    const page = row.pages[i] as number;
    const queue = page >>> queues.level;
    const pageInQueue = page & (queues.stride - 1);
    const content = queues.contentAt(this.stateOf(source, queue), pageInQueue);
    const at = (this.#rowAt[engine] as number) + (row.offsets[i] as number) + content;
    let next = this.#stepTo[at] as number;
    if (next === UNKNOWN) {
      next = this.#copy(engine, i, { page, content });
      this.#stepTo[at] = next;
    }
    steps.add(source, next, queues.size.queues + queue * (queues.size.packets + 1) + pageInQueue);
  }

  #copy(engine: number, i: number, { page, content }: { readonly page: number; readonly content: number }): number {
    const place = this.copier.after(this.engines.left(engine), i);
    return this.engine(place, this.images.with(this.engines.right(engine), page, content));
  }

  /** Whether the device will not write the page any more. */
  isSettled(source: number, page: number): boolean {
    const { queues } = this;
    const pageInQueue = page & (queues.stride - 1);
    const state = this.stateOf(source, page >>> queues.level);
    return queues.contentAt(state, pageInQueue) === queues.contentAt(queues.states - 1, pageInQueue);
  }

  /** Whether every page of a queue was sent. */
  isSent(engine: number, queue: number): boolean {
    const image = this.engines.right(engine);
    return this.queues.queues[queue]?.pages.every((page) => this.images.page(image, page) !== NOT_SENT) ?? true;
  }

  /** The state after a step that is possible. */
  next(source: number, engine: number, step: number, tried: Steps): readonly [number, number] {
    tried.clear();
    this.expand(source, engine, tried);
    const i = tried.packed.subarray(0, tried.count).findIndex((packed) => stepOf(packed) === step);
    assert(i >= 0, `step ${step} is possible`);
    return [tried.sources[i] as number, tried.engines[i] as number];
  }

  stateOf(source: number, queue: number): number {
    return this.#states[source * this.queues.size.queues + queue] as number;
  }

  rowOf(engine: number): Row {
    return this.#rows[this.engines.left(engine)] as Row;
  }

  /** The engine's side with its place and image; a new one gets a row for the steps to be remembered. */
  engine(place: number, image: number): number {
    const { size } = this.engines;
    const engine = this.engines.add(place, image);
    if (engine !== size) return engine;
    const row = (this.#rows[place] ??= this.#rowFor(this.copier.places[place] as CopyPlace));
    if (engine === this.#rowAt.length) this.#rowAt = larger(this.#rowAt);
    this.#rowAt[engine] = this.#used;
    this.#used += row.length;
    while (this.#used > this.#stepTo.length) this.#stepTo = larger(this.#stepTo);
    return engine;
  }

  #rowFor({ pages }: CopyPlace): Row {
    const { contents, stride } = this.queues;
    const offsets: number[] = [];
    let length = 0;
    for (const page of pages) {
      offsets.push(length);
      length += contents[page & (stride - 1)] as number;
    }
    return { pages, offsets, length };
  }
}

function larger(words: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const grown = new Uint32Array(words.length * 2).fill(UNKNOWN, words.length);
  grown.set(words);
  return grown;
}
