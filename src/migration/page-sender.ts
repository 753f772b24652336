// Turns pages into messages: tells zero pages from others, and reads each page at the moment it is asked for.
import { assert } from "../base/assert.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import { isZeroPage } from "../memory/zero-page.ts";
import type { PageTarget } from "./switchover.ts";
import type { Conversation } from "./wire/conversation.ts";
import type { PagesEncoder } from "./wire/encode.ts";
import { pagesPerFrameMax, rangesPerFrameMax } from "./wire/frame.ts";

/**
 * A page's bytes are copied out of guest memory when `memoryPage` is called, not when the message leaves: between the
 * two the device may write, and the order of reading is what a strategy is about. Zero pages leave before the others,
 * so a page is added once between two calls of `flush`.
 */
export class PageSender implements PageTarget {
  /** Pages of the current round that went with bytes. */
  pages = 0;
  /** Pages of the current round that went as zero. */
  zeroPages = 0;
  /** Page bytes of the current round, without headers. */
  bytes = 0;

  readonly #conversation: Conversation;
  readonly #memory: GuestMemory;
  readonly #pageBytes: number;
  readonly #sealed: PagesEncoder[] = [];
  #open: PagesEncoder | undefined;
  readonly #zeroRanges = new Uint32Array(rangesPerFrameMax * 2);
  #zeroRangeCount = 0;
  #round = 0;

  constructor(conversation: Conversation, memory: GuestMemory) {
    this.#conversation = conversation;
    this.#memory = memory;
    this.#pageBytes = memory.pages.sizeBytes;
  }

  beginRound(round: number): void {
    this.#round = round;
    this.pages = 0;
    this.zeroPages = 0;
    this.bytes = 0;
  }

  /** There is enough to send: call `flush` before adding much more. */
  get isFull(): boolean {
    return this.#sealed.length > 0 || this.#zeroRangeCount >= rangesPerFrameMax - 1;
  }

  memoryPage(page: number): void {
    if (isZeroPage(this.#memory, page)) this.#addZero(page);
    else this.#add(page, this.#memory.bytes(), page * this.#pageBytes);
  }

  givenPage(page: number, bytes: Uint8Array): void {
    assert(bytes.length === this.#pageBytes, "a given page has the size of a page");
    this.#add(page, bytes, 0);
  }

  #add(page: number, source: Uint8Array, start: number): void {
    if (this.#open?.takes(page) === false) this.#seal();
    this.#open ??= this.#conversation.pagesEncoder({ round: this.#round, pageBytes: this.#pageBytes });
    this.#open.add(page, source, start);
    this.pages++;
    this.bytes += this.#pageBytes;
    if (this.#open.count === pagesPerFrameMax) this.#seal();
  }

  #addZero(page: number): void {
    this.zeroPages++;
    const last = this.#zeroRangeCount * 2 - 2;
    if (last >= 0 && (this.#zeroRanges[last] ?? 0) + (this.#zeroRanges[last + 1] ?? 0) === page) {
      this.#zeroRanges[last + 1] = (this.#zeroRanges[last + 1] ?? 0) + 1;
      return;
    }
    assert(this.#zeroRangeCount < rangesPerFrameMax, "flush was due and not called");
    this.#zeroRanges[last + 2] = page;
    this.#zeroRanges[last + 3] = 1;
    this.#zeroRangeCount++;
  }

  #seal(): void {
    if (this.#open !== undefined) this.#sealed.push(this.#open);
    this.#open = undefined;
  }

  /** Hands everything to the conversation and waits while the link is full. */
  async flush(): Promise<void> {
    this.#seal();
    if (this.#zeroRangeCount > 0) {
      const ranges = this.#zeroRanges.slice(0, this.#zeroRangeCount * 2);
      this.#zeroRangeCount = 0;
      await this.#conversation.send({ kind: "zero-pages", round: this.#round, ranges });
    }
    for (let frame = this.#sealed.shift(); frame !== undefined; frame = this.#sealed.shift()) {
      await this.#conversation.sendPages(frame);
    }
  }
}
