// Brings what both hosts kept before the audit, and counts what became of the frames.
import { readFile } from "node:fs/promises";
import { audit } from "../audit/audit.ts";
import { deserializeImage } from "../audit/image-recorder.ts";
import { deserializeLedger } from "../audit/ledger-codec.ts";
import type { Verdict } from "../audit/verdict.ts";
import { strategyByName } from "../strategy/strategies.ts";
import type { Mapping } from "../iommu/domain.ts";
import type { FrameCounts, MigrateOptions } from "./report.ts";
import type { DestinationEvidence, SourceEvidence } from "./vm-host-messages.ts";

export interface MoveEvidence {
  readonly options: MigrateOptions;
  readonly source: SourceEvidence;
  readonly destination: DestinationEvidence;
  /** Frames for the guest that never reached a host while it was moved. */
  readonly framesLostByFabric: number;
}

export interface MoveFindings {
  readonly audit: Verdict;
  readonly frames: FrameCounts;
  readonly outageMs: number | null;
}

const PAGE_BYTES = 4096;

export async function auditMove(evidence: MoveEvidence): Promise<MoveFindings> {
  const { options, source, destination } = evidence;
  const { memoryBytes } = options;
  const verdict = audit({
    pageBytes: PAGE_BYTES,
    sourceMemory: deserializeImage(await bytesOf(source.memoryFile), memoryBytes),
    destinationMemory: deserializeImage(await bytesOf(destination.memoryFile), memoryBytes),
    ledger: deserializeLedger(await bytesOf(source.ledgerFile)),
    vfAtPause: source.vfAtPause,
    vfAtSourceEnd: source.vfAtEnd,
    vfAtResume: destination.vfAtResume,
    raisedEveryVector: destination.raisedEveryVector,
    ...(source.mappingsAtPause === undefined ? {} : { translate: translateBy(source.mappingsAtPause) }),
    droppedRings: strategyByName(options.strategy).resume === "start-over",
    counters: {
      offered: source.framesOffered,
      dropped: source.framesDropped,
      heldBySource: source.framesHeld,
      takenByDestination: 0,
    },
  });
  return {
    audit: verdict,
    frames: {
      delivered: verdict.frames.delivered - source.framesBeforeMove,
      lost: source.framesLostInMove + source.framesHeld + evidence.framesLostByFabric + destination.framesLost,
      discarded: verdict.frames.discarded + verdict.frames.unfinished,
    },
    outageMs: outage(verdict, source, destination),
  };
}

function translateBy(mappings: readonly Mapping[]): (iova: number) => number {
  return (iova) => {
    let low = 0;
    let high = mappings.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((mappings[middle]?.iova ?? 0) <= iova) low = middle + 1;
      else high = middle;
    }
    const found = mappings[low - 1];
    return found !== undefined && iova < found.iova + found.lengthBytes ? found.address + iova - found.iova : -1;
  };
}

/** A file as plain bytes: `slice` of a Buffer would be a view. */
async function bytesOf(file: string): Promise<Uint8Array> {
  const { buffer, byteOffset, length } = await readFile(file);
  return new Uint8Array(buffer, byteOffset, length);
}

/** Last frame that the guest gets to see from the source, to the first that the destination's device wrote for it. */
function outage(verdict: Verdict, source: SourceEvidence, destination: DestinationEvidence): number | null {
  let lastMs = source.lastDeliveryBeforePauseMs;
  for (const { queue, descriptorsCarried } of verdict.receive) {
    const carried = source.deliveriesAfterPause
      .filter((delivery) => delivery.queue === queue)
      .slice(0, descriptorsCarried);
    lastMs = Math.max(lastMs ?? 0, carried.at(-1)?.atMs ?? 0);
  }
  if (lastMs === null || destination.firstDeliveryMs === null) return null;
  return destination.firstDeliveryMs - lastMs;
}
