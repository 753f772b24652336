// The audit: holds the destination's image against the ledger and says consistent or corrupt, with the bytes.
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { DmaPurpose, tagPurpose } from "../iommu/dma-port.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import { VFRDH } from "../nic/registers.ts";
import { accountFrames, checkConservation } from "./account.ts";
import { ByteSet } from "./byte-set.ts";
import { differences } from "./compare.ts";
import { describe } from "./corruptions.ts";
import { findCut, type FoundCut } from "./cut.ts";
import { examine, type Evidence, type Examined } from "./evidence.ts";
import { WritesAfterPause } from "./expected-image.ts";
import { coalesce, type Finding } from "./findings.ts";
import { hazards, points, type Hazard, type Point } from "./hazards.ts";
import { checkInterrupts } from "./interrupts-check.ts";
import { attribute, NONE, type Attribution } from "./ledger-record.ts";
import type { PageOverlay } from "./page-overlay.ts";
import {
  checkDroppedRing,
  checkFrameInProgress,
  checkHead,
  driversSlots,
  excuseBuffers,
  nameDriversSlot,
} from "./receive.ts";
import { checkDeviceState, checkHeadWriteBackRegisters, checkRegisters } from "./registers-check.ts";
import {
  receiveRings,
  transmitRings,
  type ReceiveRing,
  type Ring,
  type Translate,
  type TransmitRing,
} from "./rings.ts";
import { doesNotVerify, verifies } from "./scope.ts";
import { findDestroyedFrames, findUnlandedFrames, nameWrongFrames } from "./stale-frames.ts";
import { nameTransmitSlot } from "./transmit-slots.ts";
import { findTransmitCut, type FoundTransmitCut } from "./transmit.ts";
import type { ReceiveCut, Verdict } from "./verdict.ts";

const LISTED_MAX_DEFAULT = 64;

/**
 * Never throws for what the guest, the device or the engine did wrong: that is what the verdict is for. Throws
 * OperationError `evidence-incomplete` if the ledger has no P, or has lost writes since.
 */
export function audit(evidence: Evidence, options: { readonly listedMax?: number } = {}): Verdict {
  checkEvidence(evidence);
  return new Audit(examine(evidence)).verdict(options.listedMax ?? LISTED_MAX_DEFAULT);
}

function checkEvidence({ ledger, sourceMemory, destinationMemory, pageBytes }: Evidence): void {
  const { length } = sourceMemory;
  assert(pageBytes >= 16 && (pageBytes & (pageBytes - 1)) === 0, `page size ${pageBytes} is not a power of two`);
  assert(length % pageBytes === 0, "memory is not whole pages");
  assert(length === destinationMemory.length && length === ledger.memoryBytes, "memories of different size");
  assert(
    sourceMemory.byteOffset % 4 === 0 && destinationMemory.byteOffset % 4 === 0,
    "memory not on a 4-byte boundary",
  );
  if (ledger.pausedAt !== NONE && !ledger.isIncomplete) return;
  throw new OperationError({
    code: "evidence-incomplete",
    message: ledger.isIncomplete
      ? "The ledger has lost device writes after the pause, so memory at the pause cannot be told."
      : "The ledger does not say when the vCPUs paused.",
    advice: "Give the ledger more room (writesMax, undoBytesMax), and mark the pause when the vCPUs have stopped.",
    facts: { writes: ledger.rows, undoBytes: ledger.undo.length },
  });
}

class Audit {
  readonly #evidence: Examined;
  readonly #attribution: Attribution;
  readonly #writes: WritesAfterPause;
  readonly #receive: readonly FoundCut[];
  readonly #transmit: readonly FoundTransmitCut[];
  /** Memory of dropped rings, and what head write-back wrote for them: not compared. */
  readonly #dropped: readonly MemoryRange[];
  readonly #expected: PageOverlay;
  readonly #excused: ByteSet;
  readonly #findings: Finding[] = [];
  #wrongFrames = 0;

  constructor(evidence: Examined) {
    this.#evidence = evidence;
    const { ledger, vfAtPause, destinationMemory, droppedRings } = evidence;
    const pageShift = Math.log2(evidence.pageBytes);
    this.#attribution = attribute(ledger);
    this.#writes = new WritesAfterPause(ledger, evidence.sourceMemory, pageShift);
    const input = { record: ledger, attribution: this.#attribution, writes: this.#writes };
    const receive = receiveRings(vfAtPause, this.#translate, evidence.bufferUnitBytes);
    const transmit = transmitRings(vfAtPause, this.#translate);
    this.#receive = receive.map((ring) => findCut(ring, { ...input, destinationMemory, vfAtPause }));
    this.#transmit = droppedRings ? [] : transmit.map((ring) => findTransmitCut(ring, { ...input, ...evidence }));
    this.#dropped = droppedRings ? [...receive, ...transmit].flatMap(rangesOf) : [];
    this.#expected = this.#writes.memoryWith(this.#rowFilter());
    this.#excused = new ByteSet(pageShift);
    const excuse = { evidence, writes: this.#writes, translate: this.#translate, excused: this.#excused };
    for (const cut of this.#receive) excuseBuffers(cut, excuse);
  }

  verdict(listedMax: number): Verdict {
    const wrong = differences(this.#expected, this.#evidence.destinationMemory, this.#excused);
    for (const { address, lengthBytes } of this.#dropped) wrong.remove(address, lengthBytes);
    const bytes = wrong.size;
    const pages = wrong.pages().filter((page) => !wrong.isEmptyPage(page)).length;
    this.#checkRingsAndDevice();
    this.#nameWrongSlots(wrong);
    this.#nameWrongFrames(wrong);
    this.#nameWrongPages(wrong);
    const context = {
      evidence: this.#evidence,
      attribution: this.#attribution,
      writes: this.#writes,
      expected: this.#expected,
    };
    const found = { receive: this.#receive, transmit: this.#transmit, firstRowAfterPause: this.#writes.firstRow };
    return {
      outcome: this.#findings.length === 0 ? "consistent" : "corrupt",
      points: this.#points(),
      receive: this.#receive.map((cut) => this.#receiveCut(cut)),
      transmit: this.#transmit.map(({ summary }) => summary),
      frames: accountFrames(this.#evidence, { ...found, stale: this.#wrongFrames }),
      corruptions: describe(fairShare(this.#findings, listedMax), context),
      totals: { corruptions: this.#findings.length, frames: this.#wrongFrames, pages, bytes },
      hazards: countHazards(this.#findings),
      excusedBytes: this.#excused.size,
      verifies: verifies(this.#evidence),
      doesNotVerify: doesNotVerify(this.#evidence),
    };
  }

  readonly #translate: Translate = (iova, lengthBytes) => {
    const address = this.#evidence.translate === undefined ? iova : this.#evidence.translate(iova);
    return address < 0 || address + lengthBytes > this.#evidence.sourceMemory.length ? NONE : address;
  };

  /** Whether the image must show what the row wrote. */
  #rowFilter(): (row: number) => boolean {
    const { ledger, droppedRings } = this.#evidence;
    const { firstRow } = this.#writes;
    const receive = new Set(droppedRings ? [] : this.#receive.flatMap((cut) => cut.carriedRows));
    const transmit = new Set(this.#transmit.flatMap((cut) => cut.carriedRows));
    return (row) => {
      if (row < firstRow) return true;
      const purpose = tagPurpose(ledger.tags[row] ?? 0);
      if (purpose === DmaPurpose.message) return true;
      if (purpose !== DmaPurpose.rxBuffer && purpose !== DmaPurpose.rxWriteBack) return transmit.has(row);
      const writeBack = this.#attribution.writeBackRows[row] ?? NONE;
      return writeBack !== NONE && (writeBack < firstRow || receive.has(writeBack));
    };
  }

  #checkRingsAndDevice(): void {
    const evidence = this.#evidence;
    for (const cut of this.#receive) {
      if (evidence.droppedRings) this.#report(coalesce(checkDroppedRing(cut.ring, evidence)));
      else this.#report(coalesce(cut.findings), checkHead(cut, evidence), checkFrameInProgress(cut, evidence));
    }
    for (const cut of this.#transmit) this.#report(cut.findings);
    if (!evidence.droppedRings) this.#report(checkRegisters(evidence));
    this.#report(checkHeadWriteBackRegisters(evidence), checkDeviceState(evidence));
    const live = evidence.droppedRings ? [] : this.#receive;
    this.#report(checkInterrupts(live, this.#transmit, evidence), checkConservation(evidence));
  }

  #nameWrongSlots(wrong: ByteSet): void {
    for (const cut of this.#receive) {
      const drivers = new Set(driversSlots(cut));
      const isWrong = wrongSlots(cut.ring, wrong).filter((slot) => drivers.has(slot));
      this.#report(coalesce(isWrong.map((slot) => nameDriversSlot(cut, slot, this.#evidence, this.#writes.atPause))));
    }
    for (const cut of this.#transmit) {
      const { queue, headWriteBackAddress } = cut.ring;
      const name = (slot: number): Finding =>
        nameTransmitSlot(cut, slot, this.#expected, this.#evidence.destinationMemory);
      this.#report(coalesce(wrongSlots(cut.ring, wrong).map(name)));
      if (headWriteBackAddress < 0) continue;
      const removed = wrong.remove(headWriteBackAddress, 4);
      if (removed === undefined) continue;
      const sentence = `transmit queue ${queue}: the head that was written back is not that of the completed descriptors`;
      const place = { address: headWriteBackAddress, lengthBytes: removed.count, queue };
      this.#report([{ hazard: "lost-completion", sentence, ...place }]);
    }
  }

  #nameWrongFrames(wrong: ByteSet): void {
    const search = {
      evidence: this.#evidence,
      attribution: this.#attribution,
      cuts: this.#evidence.droppedRings ? [] : this.#receive,
      firstRowAfterPause: this.#writes.firstRow,
      excused: this.#excused,
      includes: this.#rowFilter(),
    };
    const wrongFrames = nameWrongFrames(search, wrong);
    const destroyed = findDestroyedFrames(search, this.#expected);
    this.#wrongFrames = wrongFrames.length + destroyed.length;
    this.#report(wrongFrames, destroyed, findUnlandedFrames(search));
  }

  /** What is left is the CPU's, one finding for each run of adjoining pages. */
  #nameWrongPages(wrong: ByteSet): void {
    const { pageBytes, failedAttempts = 0 } = this.#evidence;
    const runs: PageRun[] = [];
    for (const page of wrong.pages()) {
      const removed = wrong.remove(page * pageBytes, pageBytes);
      if (removed === undefined) continue;
      const hazard = this.#excused.hasPage(page) ? "shared-page" : failedAttempts > 0 ? "lost-clear" : "stale-cpu-page";
      const last = runs.at(-1);
      if (last !== undefined && last.hazard === hazard && page === last.lastPage + 1) {
        last.lastPage = page;
        last.bytes += removed.count;
      } else runs.push({ hazard, firstPage: page, lastPage: page, address: removed.first, bytes: removed.count });
    }
    this.#report(runs.map(pageFinding));
  }

  #receiveCut(cut: FoundCut): ReceiveCut {
    const { queue, length, head, tail } = cut.ring;
    const { vfAtResume, vfAtSourceEnd } = this.#evidence;
    return {
      queue,
      ringDescriptors: length,
      headAtPause: head,
      tail,
      cut: cut.cut,
      headAtResume: vfAtResume.register(VFRDH(queue)),
      headAtSourceEnd: vfAtSourceEnd.register(VFRDH(queue)),
      descriptorsCarried: cut.carriedRows.length,
      framesCarried: cut.framesCarried,
      isInsideFrame: cut.isInsideFrame,
    };
  }

  #points(): Verdict["points"] {
    return (Object.keys(points).map(Number) as Point[]).map((point) => ({
      point,
      sentence: points[point],
      violations: this.#findings.filter(({ hazard }) => hazards[hazard].point === point).length,
    }));
  }

  #report(...lists: readonly (readonly Finding[])[]): void {
    for (const list of lists) for (const finding of list) this.#findings.push(finding);
  }
}

interface MemoryRange {
  readonly address: number;
  readonly lengthBytes: number;
}

function rangesOf(ring: ReceiveRing | TransmitRing): MemoryRange[] {
  const ranges = Array.from(ring.slots, (address) => ({ address, lengthBytes: DESCRIPTOR_BYTES }));
  if ("headWriteBackAddress" in ring) ranges.push({ address: ring.headWriteBackAddress, lengthBytes: 4 });
  return ranges.filter(({ address }) => address >= 0);
}

/** Takes the ring's bytes out of `wrong` and gives the slots that had any, in ring order. */
function wrongSlots(ring: Ring, wrong: ByteSet): number[] {
  const slots: number[] = [];
  for (const [slot, address] of ring.slots.entries()) {
    if (address >= 0 && wrong.remove(address, DESCRIPTOR_BYTES) !== undefined) slots.push(slot);
  }
  return slots;
}

interface PageRun {
  readonly hazard: Hazard;
  readonly firstPage: number;
  lastPage: number;
  readonly address: number;
  bytes: number;
}

function pageFinding({ hazard, firstPage, lastPage, address, bytes }: PageRun): Finding {
  const which = firstPage === lastPage ? `page ${firstPage}` : `pages ${firstPage} to ${lastPage}`;
  const sentence = `${which}: ${bytes} bytes are not the source's; ${hazards[hazard].sentence}`;
  return { hazard, sentence, address, lengthBytes: bytes };
}

function countHazards(findings: readonly Finding[]): Partial<Record<Hazard, number>> {
  const counts: Partial<Record<Hazard, number>> = {};
  for (const { hazard } of findings) counts[hazard] = (counts[hazard] ?? 0) + 1;
  return counts;
}

/** At most `count` findings, in their order, every hazard with as many as any other before one gets more. */
function fairShare(findings: readonly Finding[], count: number): Finding[] {
  if (findings.length <= count) return [...findings];
  const ranks = new Map<Hazard, number>();
  const ranked = findings.map((finding, index) => {
    const rank = ranks.get(finding.hazard) ?? 0;
    ranks.set(finding.hazard, rank + 1);
    return { finding, index, rank };
  });
  const chosen = ranked.toSorted((a, b) => a.rank - b.rank || a.index - b.index).slice(0, count);
  return chosen.toSorted((a, b) => a.index - b.index).map(({ finding }) => finding);
}
