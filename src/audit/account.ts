// Frame accounting: what was delivered, what was discarded after the cut, and whether the sum is what came.
import { DmaPurpose, tagPurpose, tagQueue } from "../iommu/dma-port.ts";
import type { FoundCut } from "./cut.ts";
import type { Examined } from "./evidence.ts";
import type { Finding } from "./findings.ts";
import { factEndOfPacket, LEDGER_QUEUES, type LedgerRecord } from "./ledger-record.ts";
import type { FoundTransmitCut } from "./transmit.ts";
import type { FrameAccount } from "./verdict.ts";

export function accountFrames(
  evidence: Examined,
  found: {
    readonly receive: readonly FoundCut[];
    readonly transmit: readonly FoundTransmitCut[];
    readonly firstRowAfterPause: number;
    readonly stale: number;
  },
): FrameAccount {
  const { ledger, droppedRings, counters } = evidence;
  const completed = completedFrames(ledger);
  const afterPause = framesEndingAfter(ledger, found.firstRowAfterPause);
  const carried = droppedRings ? 0 : found.receive.reduce((sum, cut) => sum + cut.framesCarried, 0);
  return {
    delivered: completed - afterPause + carried,
    discarded: afterPause - carried,
    unfinished: unfinishedFrames(ledger),
    dropped: counters?.dropped ?? {},
    sentTwice: found.transmit.reduce((sum, { summary }) => sum + summary.framesSentTwice, 0),
    stale: found.stale,
  };
}

/** Every frame that came is delivered, discarded, dropped with a cause, or still held somewhere. */
export function checkConservation({ ledger, counters }: Examined): Finding[] {
  if (counters === undefined) return [];
  const dropped = Object.values(counters.dropped).reduce((sum, frames) => sum + frames, 0);
  const seen = completedFrames(ledger) + dropped + counters.heldBySource + counters.takenByDestination;
  if (seen === counters.offered) return [];
  const parts = `${completedFrames(ledger)} written by the source, ${dropped} dropped, ${counters.heldBySource} held, ${counters.takenByDestination} taken by the destination`;
  const hazard = seen > counters.offered ? "duplicate-frame" : "frame-accounting";
  const sentence = `${counters.offered} frames came and ${seen} are accounted for: ${parts}`;
  return [{ hazard, sentence, address: 0, lengthBytes: 0, isNotMemory: true }];
}

const completedFrames = (ledger: LedgerRecord): number =>
  ledger.framesCompleted.reduce((sum, frames) => sum + frames, 0);

function framesEndingAfter(ledger: LedgerRecord, firstRow: number): number {
  let frames = 0;
  for (let row = firstRow; row < ledger.rows; row++) {
    const isWriteBack = tagPurpose(ledger.tags[row] ?? 0) === DmaPurpose.rxWriteBack;
    if (isWriteBack && factEndOfPacket(ledger.facts[row] ?? 0)) frames++;
  }
  return frames;
}

function unfinishedFrames(ledger: LedgerRecord): number {
  const isOpen = Array.from({ length: LEDGER_QUEUES }, () => false);
  for (let row = 0; row < ledger.rows; row++) {
    const tag = ledger.tags[row] ?? 0;
    if (tagPurpose(tag) === DmaPurpose.rxWriteBack) isOpen[tagQueue(tag)] = !factEndOfPacket(ledger.facts[row] ?? 0);
  }
  return isOpen.filter(Boolean).length;
}
