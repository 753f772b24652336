// The image that the destination's CPU may expect, E: memory at P, plus what each queue's device wrote up to its cut.
import { assert } from "../base/assert.ts";
import { rowAt, type LedgerRecord } from "./ledger-record.ts";
import { PageOverlay } from "./page-overlay.ts";

/**
 * The source keeps all of its memory, and after P only the device changed it. So memory at P is the final memory with
 * the writes after P taken back, newest first, and any cut is that plus the writes before the cut, oldest first.
 * Only the pages that the device touched after P are ever copied.
 */
export class WritesAfterPause {
  /** First row of the record at or after P. */
  readonly firstRow: number;
  /** Memory at P. */
  readonly atPause: PageOverlay;
  readonly #record: LedgerRecord;
  /** What each row wrote, at the place in here that its pre-image has in the record's arena. */
  readonly #written: Uint8Array;

  /** `finalMemory` is the source's at the end, when its device writes no more. It is not changed. */
  constructor(record: LedgerRecord, finalMemory: Uint8Array, pageShift: number) {
    assert(record.pausedAt >= 0 && !record.isIncomplete, "a ledger without P, or without what happened since");
    this.#record = record;
    this.#written = new Uint8Array(record.undo.length);
    this.firstRow = rowAt(record, record.pausedAt);
    this.atPause = new PageOverlay(finalMemory, pageShift);
    for (let row = record.rows - 1; row >= this.firstRow; row--) this.#takeBack(row);
  }

  /** What the row wrote; undefined for writes that did not go to memory or came before P. */
  written(row: number): Uint8Array | undefined {
    const offset = this.#record.undoOffsets[row] ?? -1;
    if (row < this.firstRow || offset < 0) return undefined;
    return this.#written.subarray(offset, offset + (this.#record.lengths[row] ?? 0));
  }

  /** Memory at P with the chosen writes done again. */
  memoryWith(includes: (row: number) => boolean): PageOverlay {
    const memory = this.atPause.fork();
    for (let row = this.firstRow; row < this.#record.rows; row++) {
      const bytes = this.written(row);
      if (bytes !== undefined && includes(row)) memory.write(this.#record.addresses[row] ?? 0, bytes, 0, bytes.length);
    }
    return memory;
  }

  #takeBack(row: number): void {
    const offset = this.#record.undoOffsets[row] ?? -1;
    if (offset < 0) return;
    const address = this.#record.addresses[row] ?? 0;
    const length = this.#record.lengths[row] ?? 0;
    this.atPause.read(address, this.#written, offset, length);
    this.atPause.write(address, this.#record.undo, offset, length);
  }
}
