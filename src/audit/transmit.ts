// The transmit side of the cut: which completions the image must show, which descriptors must be untouched, what is sent twice.
import { DmaPurpose, tagIndex, tagPurpose, tagQueue } from "../iommu/dma-port.ts";
import type { TransmitContextState } from "../nic/datapath-ports.ts";
import {
  DESCRIPTOR_BYTES,
  TXD_CMD_DEXT,
  TXD_CMD_EOP,
  TXD_CMD_RS,
  TXD_DTYP_CONTEXT,
  TXD_DTYP_DATA,
  TXD_DTYP_MASK,
  TXD_IDX_MASK,
  TXD_IDX_SHIFT,
} from "../nic/descriptors.ts";
import { VFTDH } from "../nic/registers.ts";
import type { WritesAfterPause } from "./expected-image.ts";
import { hex8, type Finding } from "./findings.ts";
import type { LedgerRecord } from "./ledger-record.ts";
import { distance, type TransmitRing } from "./rings.ts";
import type { TransmitCut } from "./verdict.ts";
import type { VfView } from "./vf-view.ts";

export interface TransmitInput {
  readonly record: LedgerRecord;
  readonly writes: WritesAfterPause;
  readonly vfAtPause: VfView;
  readonly vfAtSourceEnd: VfView;
  readonly vfAtResume: VfView;
}

export interface FoundTransmitCut {
  readonly ring: TransmitRing;
  readonly summary: TransmitCut;
  /** Descriptors whose completion the destination's device still owes. */
  readonly owed: ReadonlySet<number>;
  /** Rows after P that the image must show: the completions of descriptors before the head. */
  readonly carriedRows: readonly number[];
  /** Their descriptors. */
  readonly carriedSlots: readonly number[];
  readonly findings: readonly Finding[];
}

type Words = readonly [number, number, number, number];

export function findTransmitCut(ring: TransmitRing, input: TransmitInput): FoundTransmitCut {
  return new TransmitSearch(ring, input).run();
}

class TransmitSearch {
  readonly #ring: TransmitRing;
  readonly #input: TransmitInput;
  readonly #headAtResume: number;
  readonly #headAtSourceEnd: number;
  /** Descriptors that the head moved over after P: all, or none if the head is nowhere in the posted ones. */
  readonly #fetched: number;
  readonly #findings: Finding[] = [];

  constructor(ring: TransmitRing, input: TransmitInput) {
    this.#ring = ring;
    this.#input = input;
    this.#headAtResume = input.vfAtResume.register(VFTDH(ring.queue));
    this.#headAtSourceEnd = input.vfAtSourceEnd.register(VFTDH(ring.queue));
    const moved = distance(ring, ring.head, this.#headAtResume % ring.length);
    this.#fetched = moved <= distance(ring, ring.head, ring.tail) ? moved : 0;
  }

  run(): FoundTransmitCut {
    const ring = this.#ring;
    const owed = this.#owedCompletions();
    const carriedRows = this.#carriedRows(owed);
    this.#checkHead();
    this.#checkCompletions(owed, carriedRows);
    this.#checkContexts();
    this.#checkHeadWriteBack();
    const summary: TransmitCut = {
      queue: ring.queue,
      ringDescriptors: ring.length,
      headAtPause: ring.head,
      headAtResume: this.#headAtResume,
      headAtSourceEnd: this.#headAtSourceEnd,
      tail: ring.tail,
      framesSentTwice: this.#framesEndingBetween(this.#fetched, this.#sentBySource()),
    };
    const carriedSlots = carriedRows.map((row) => tagIndex(this.#input.record.tags[row] ?? 0) % ring.length);
    return { ring, summary, owed, carriedRows, carriedSlots, findings: this.#findings };
  }

  /** The descriptor as it was at P. */
  #words(slot: number): Words {
    const address = this.#ring.slots[slot] ?? -1;
    if (address < 0) return [0, 0, 0, 0];
    const view = new DataView(this.#input.writes.atPause.slice(address, DESCRIPTOR_BYTES).buffer);
    const word = (index: number): number => view.getUint32(index * 4, true);
    return [word(0), word(1), word(2), word(3)];
  }

  #slotAfterHead(count: number): number {
    return (this.#ring.head + count) % this.#ring.length;
  }

  #owedCompletions(): Set<number> {
    const ring = this.#ring;
    const reported = this.#input.vfAtResume.transmit(ring.queue)?.reported ?? this.#headAtResume;
    const owed = new Set<number>();
    if (reported >= ring.length || this.#headAtResume >= ring.length) return owed;
    for (let back = distance(ring, reported, this.#headAtResume); back > 0; back--) {
      const slot = (this.#headAtResume - back + ring.length) % ring.length;
      if (asksForCompletion(this.#words(slot))) owed.add(slot);
    }
    return owed;
  }

  /** Completions after P of descriptors before the head, unless they are still owed. */
  #carriedRows(owed: ReadonlySet<number>): number[] {
    const { record, writes } = this.#input;
    const ring = this.#ring;
    const posted = distance(ring, ring.head, ring.tail);
    const carried: number[] = [];
    for (let row = writes.firstRow; row < record.rows; row++) {
      const tag = record.tags[row] ?? 0;
      if (tagQueue(tag) !== ring.queue) continue;
      if (tagPurpose(tag) === DmaPurpose.txWriteBack) {
        const place = distance(ring, ring.head, tagIndex(tag) % ring.length);
        if (owed.has(tagIndex(tag))) continue;
        if (place >= posted || place < this.#fetched) carried.push(row);
      } else if (this.#isHeadWriteBack(row)) {
        const place = distance(ring, ring.head, firstWord(writes.written(row)) % ring.length);
        if (place > posted || place <= this.#fetched) carried.push(row);
      }
    }
    return carried;
  }

  /** The row wrote the head to where the driver had asked for it. */
  #isHeadWriteBack(row: number): boolean {
    const { addresses, tags } = this.#input.record;
    const isHead = tagPurpose(tags[row] ?? 0) === DmaPurpose.txHeadWriteBack;
    return isHead && addresses[row] === this.#ring.headWriteBackAddress;
  }

  #checkHead(): void {
    const ring = this.#ring;
    const { queue } = ring;
    const isInPosted = this.#headAtResume < ring.length && this.#slotAfterHead(this.#fetched) === this.#headAtResume;
    if (!isInPosted) {
      const sentence = `transmit queue ${queue} resumes at ${this.#headAtResume}, before the head ${ring.head} it had at the pause`;
      this.#report("tx-head-behind", sentence, this.#headAtResume);
    } else if (this.#fetched > this.#sentBySource()) {
      const lost = this.#framesEndingBetween(this.#sentBySource(), this.#fetched);
      const sentence = `transmit queue ${queue} resumes at ${this.#headAtResume}, the source's device got to ${this.#headAtSourceEnd}: ${lost} frames are never sent`;
      this.#report("tx-head-ahead", sentence, this.#headAtSourceEnd);
    }
    if (this.#fetched === 0) return;
    const last = this.#slotAfterHead(this.#fetched - 1);
    const [, , command] = this.#words(last);
    if (isKind(command, TXD_DTYP_DATA) && (command & TXD_CMD_EOP) === 0) {
      const sentence = `transmit queue ${queue} resumes inside a frame: descriptor ${last} before the head is not its last`;
      this.#report("half-frame-sent", sentence, last);
    }
  }

  /** Every RS descriptor that was fetched since P has its completion in the ledger, or is still owed it. */
  #checkCompletions(owed: ReadonlySet<number>, carriedRows: readonly number[]): void {
    const { record, writes } = this.#input;
    const ring = this.#ring;
    const completed = new Set<number>();
    let headWritten = 0;
    for (const row of carriedRows) {
      const tag = record.tags[row] ?? 0;
      if (tagPurpose(tag) === DmaPurpose.txWriteBack) completed.add(tagIndex(tag));
      else headWritten = distance(ring, ring.head, firstWord(writes.written(row)) % ring.length);
    }
    for (let place = 0; place < this.#fetched; place++) {
      const slot = this.#slotAfterHead(place);
      if (!asksForCompletion(this.#words(slot)) || owed.has(slot) || completed.has(slot)) continue;
      if (ring.headWriteBackAddress >= 0 && place < headWritten) continue;
      const sentence = `transmit queue ${ring.queue}: descriptor ${slot} lies before the head, and the device never completed it`;
      this.#report("lost-completion", sentence, slot);
    }
  }

  #checkContexts(): void {
    const { vfAtPause, vfAtResume } = this.#input;
    const { queue } = this.#ring;
    const expected = vfAtPause.transmit(queue)?.contexts.map(contextText);
    const actual = vfAtResume.transmit(queue)?.contexts.map(contextText);
    if (expected === undefined || actual === undefined) return;
    let isInsideFrame = false;
    for (let place = 0; place < this.#fetched; place++) {
      // The second word is for FCoE and IPsec.
      const [vlanMacipLens, , typeTucmdMlhl, mssL4lenIdx] = this.#words(this.#slotAfterHead(place));
      if (!isKind(typeTucmdMlhl, TXD_DTYP_CONTEXT)) isInsideFrame = (typeTucmdMlhl & TXD_CMD_EOP) === 0;
      else if (!isInsideFrame) {
        const slot = (mssL4lenIdx >>> TXD_IDX_SHIFT) & TXD_IDX_MASK;
        expected[slot] = contextText({ valid: true, vlanMacipLens, typeTucmdMlhl, mssL4lenIdx });
      }
    }
    for (const [index, text] of expected.entries()) {
      if (text === actual[index]) continue;
      this.#findings.push({
        hazard: "context-slot",
        sentence: `transmit queue ${queue}: context slot ${index} is ${actual[index]}, the descriptors before the head make it ${text}`,
        address: VFTDH(queue),
        lengthBytes: 0,
        isNotMemory: true,
        queue,
        expectedHex: text,
        actualHex: actual[index] ?? "",
      });
    }
  }

  /** A device that writes its head where the driver did not ask for it writes into somebody else's memory. */
  #checkHeadWriteBack(): void {
    const { record, writes } = this.#input;
    const ring = this.#ring;
    for (let row = writes.firstRow; row < record.rows; row++) {
      const tag = record.tags[row] ?? 0;
      const address = record.addresses[row] ?? 0;
      if (tagPurpose(tag) !== DmaPurpose.txHeadWriteBack || tagQueue(tag) !== ring.queue) continue;
      if (address === ring.headWriteBackAddress) continue;
      const sentence = `transmit queue ${ring.queue} wrote its head to an address that the driver had not given at the pause`;
      this.#findings.push({ hazard: "stale-head-writeback", sentence, address, lengthBytes: 4, queue: ring.queue });
    }
  }

  #sentBySource(): number {
    return distance(this.#ring, this.#ring.head, this.#headAtSourceEnd % this.#ring.length);
  }

  /** Frames whose last descriptor lies in [from, to), counted from the head at P. */
  #framesEndingBetween(from: number, to: number): number {
    let frames = 0;
    for (let place = from; place < to; place++) {
      const [, , command] = this.#words(this.#slotAfterHead(place));
      if (!isKind(command, TXD_DTYP_CONTEXT) && (command & TXD_CMD_EOP) !== 0) frames++;
    }
    return frames;
  }

  #report(hazard: Finding["hazard"], sentence: string, slot: number): void {
    const { queue, slots } = this.#ring;
    this.#findings.push({
      hazard,
      sentence,
      address: Math.max(0, slots[slot] ?? 0),
      lengthBytes: 0,
      queue,
      descriptor: slot,
    });
  }
}

const firstWord = (bytes: Uint8Array | undefined): number =>
  (bytes?.[0] ?? 0) | ((bytes?.[1] ?? 0) << 8) | ((bytes?.[2] ?? 0) << 16) | ((bytes?.[3] ?? 0) * 0x100_0000);

const isKind = (command: number, kind: number): boolean =>
  (command & TXD_CMD_DEXT) !== 0 && (command & TXD_DTYP_MASK) === kind;

const asksForCompletion = ([, , command]: Words): boolean =>
  !isKind(command, TXD_DTYP_CONTEXT) && (command & TXD_CMD_RS) !== 0;

function contextText(context: TransmitContextState): string {
  if (!context.valid) return "empty";
  return [context.vlanMacipLens, context.typeTucmdMlhl, context.mssL4lenIdx].map(hex8).join(" ");
}
