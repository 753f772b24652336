// Wrong bytes of received frames: which frame each belongs to, and which hazard left it behind.
import { DmaPurpose, tagIndex, tagPurpose, tagQueue, tagRelaxedOrdering } from "../iommu/dma-port.ts";
import type { ByteSet } from "./byte-set.ts";
import type { FoundCut } from "./cut.ts";
import type { Examined } from "./evidence.ts";
import type { Finding } from "./findings.ts";
import { hashBytes } from "./ledger.ts";
import { factLength, NONE, slotKey, type Attribution, type LedgerRecord } from "./ledger-record.ts";
import type { PageOverlay } from "./page-overlay.ts";
import { driversSlots } from "./receive.ts";
import { distance, takenSlots } from "./rings.ts";

export interface FrameSearch {
  readonly evidence: Examined;
  readonly attribution: Attribution;
  readonly cuts: readonly FoundCut[];
  readonly firstRowAfterPause: number;
  readonly excused: ByteSet;
  /** Rows of the ledger that the image must show. */
  readonly includes: (row: number) => boolean;
}

interface WrongFrame {
  /** For a frame that the guest has taken, where it lies: what that means depends on the other frames. */
  readonly hazard: Finding["hazard"] | "shared" | "released";
  readonly queue: number;
  readonly descriptor: number;
  readonly frame: number;
  address: number;
  bytes: number;
}

/**
 * Takes the bytes of received frames out of `wrong` and names them, newest frame first: a buffer that was used again
 * holds its last frame.
 */
export function nameWrongFrames(search: FrameSearch, wrong: ByteSet): Finding[] {
  if (wrong.pageCount === 0) return [];
  const { ledger } = search.evidence;
  const lastWriteBacks = lastWriteBackRows(ledger, search.firstRowAfterPause);
  const frames = new Map<string, WrongFrame>();
  for (let row = ledger.rows - 1; row >= 0; row--) {
    const tag = ledger.tags[row] ?? 0;
    if (tagPurpose(tag) !== DmaPurpose.rxBuffer || !search.includes(row)) continue;
    const address = ledger.addresses[row] ?? 0;
    const length = ledger.lengths[row] ?? 0;
    const removed = wrong.remove(address, length);
    if (removed === undefined) continue;
    const queue = tagQueue(tag);
    const frame = search.attribution.frames[row] ?? NONE;
    const key = `${queue}:${frame}`;
    const known = frames.get(key);
    if (known === undefined) {
      const hazard = hazardOf(row, search, lastWriteBacks);
      frames.set(key, {
        hazard,
        queue,
        descriptor: tagIndex(tag),
        frame,
        address: removed.first,
        bytes: removed.count,
      });
    } else {
      known.bytes += removed.count;
      known.address = Math.min(known.address, removed.first);
    }
  }
  return findingsOf([...frames.values()]);
}

/*
 * Frames that the guest has taken lie in pages that are still mapped, because their other half is posted again, or in
 * pages that were released. One wrong byte does not tell why it is wrong, all of them together do: if only released
 * pages are wrong, mapped pages were copied and these were forgotten when they left the ring; if only shared pages are
 * wrong, they were taken for the device's; if both are, nobody looked at DMA at all.
 */
function findingsOf(frames: readonly WrongFrame[]): Finding[] {
  const found = new Set(frames.map(({ hazard }) => hazard));
  const isReleasedWrong = found.has("released");
  const isMappedWrong = found.has("shared") || found.has("read-ahead") || found.has("check-to-write-window");
  return frames.map(({ hazard: cause, queue, descriptor, frame, address, bytes }) => {
    let hazard: Finding["hazard"];
    if (cause === "released") hazard = isMappedWrong ? "invisible-dma" : "released-since";
    else if (cause === "shared") hazard = isReleasedWrong ? "invisible-dma" : "shared-page";
    else hazard = cause;
    const which = frame === NONE ? "an unfinished frame" : `frame ${frame}`;
    const sentence = `${which} of receive queue ${queue}, descriptor ${descriptor}: ${bytes} bytes are not what the device wrote; ${because[hazard]}`;
    return { hazard, sentence, address, lengthBytes: bytes, queue, descriptor, ...(frame === NONE ? {} : { frame }) };
  });
}

const because: Readonly<Record<string, string>> = {
  "late-write": "they landed after the device was declared stopped",
  "relaxed-ordering": "the write-back overtook them",
  "read-ahead": "the descriptor came along without its buffer",
  "check-to-write-window": "the driver had seen the descriptor done and not yet written its dummy",
  "shared-page": "they are the stack's, in a page that is posted again with its other part",
  "released-since": "the page had left the ring before it was copied again",
  "invisible-dma": "no dirty log of the CPU shows what a device wrote",
};

function hazardOf(row: number, search: FrameSearch, lastWriteBacks: ReadonlyMap<number, number>): WrongFrame["hazard"] {
  const { ledger } = search.evidence;
  const tag = ledger.tags[row] ?? 0;
  const writeBack = search.attribution.writeBackRows[row] ?? NONE;
  if (ledger.stoppedAt !== NONE && ledger.firstSequence + row >= ledger.stoppedAt) return "late-write";
  if (writeBack !== NONE && row > writeBack) return "relaxed-ordering";
  if (writeBack >= search.firstRowAfterPause) return "read-ahead";
  const cut = search.cuts.find(({ ring }) => ring.queue === tagQueue(tag));
  if (cut !== undefined && writeBack !== NONE && lastWriteBacks.get(slotKey(tag)) === writeBack) {
    const inRing = hazardInRing(cut, tagIndex(tag), search.evidence);
    if (inRing !== undefined) return inRing;
  }
  const page = Math.floor((ledger.addresses[row] ?? 0) / search.evidence.pageBytes);
  return search.excused.hasPage(page) ? "shared" : "released";
}

/** The frame's descriptor is still in the ring, done: unless the driver is known to have taken it. */
function hazardInRing(
  cut: FoundCut,
  slot: number,
  { driver }: Examined,
): "read-ahead" | "check-to-write-window" | undefined {
  const { ring, first } = cut;
  const fromTail = distance(ring, ring.tail, slot);
  if (fromTail >= ring.length - distance(ring, first, ring.tail)) return undefined;
  const view = driver?.receive[ring.queue];
  if (fromTail < takenSlots(ring, view?.nextToClean)) return undefined;
  return view?.isBetweenCheckAndWrite === true && slot === view.nextToClean ? "check-to-write-window" : "read-ahead";
}

/** Row of the last write-back before P, by queue and descriptor. */
function lastWriteBackRows(record: LedgerRecord, firstRowAfterPause: number): ReadonlyMap<number, number> {
  const rows = new Map<number, number>();
  for (let row = 0; row < firstRowAfterPause; row++) {
    const tag = record.tags[row] ?? 0;
    if (tagPurpose(tag) === DmaPurpose.rxWriteBack) rows.set(slotKey(tag), row);
  }
  return rows;
}

/**
 * Frames destroyed on the source itself by a CPU write into a buffer that the device owned. What the ledger saw when
 * the write-back came, and, where the driver is known, frames it had not taken at P.
 */
export function findDestroyedFrames(search: FrameSearch, expected: PageOverlay): Finding[] {
  const { ledger, driver } = search.evidence;
  const findings: Finding[] = ledger.clobbers.map(({ queue, descriptor, address, lengthBytes }) => ({
    hazard: "dummy-write-race",
    sentence: `receive queue ${queue}, descriptor ${descriptor}: the CPU wrote into the buffer before the write-back`,
    address,
    lengthBytes,
    queue,
    descriptor,
  }));
  if (ledger.hashes.length === 0 || driver === undefined) return findings;
  const untaken = new Set(search.cuts.flatMap((cut) => untakenWriteBacks(cut, search)));
  for (let row = 0; row < ledger.rows; row++) {
    const tag = ledger.tags[row] ?? 0;
    const writeBack = search.attribution.writeBackRows[row] ?? NONE;
    if (tagPurpose(tag) !== DmaPurpose.rxBuffer || !untaken.has(writeBack)) continue;
    const address = ledger.addresses[row] ?? 0;
    const lengthBytes = ledger.lengths[row] ?? 0;
    if (hashBytes(expected.slice(address, lengthBytes), 0, lengthBytes) === ledger.hashes[row]) continue;
    if (ledger.clobbers.some((clobber) => clobber.sequence === ledger.firstSequence + writeBack)) continue;
    const queue = tagQueue(tag);
    const descriptor = tagIndex(tag);
    const frame = search.attribution.frames[row] ?? NONE;
    const sentence = `receive queue ${queue}, descriptor ${descriptor}: the CPU wrote into the buffer before the driver took the frame`;
    findings.push({ hazard: "dummy-write-race", sentence, address, lengthBytes, queue, descriptor, frame });
  }
  return findings;
}

/** Rows of the write-backs of descriptors that are done in the cut and that the driver had not taken at P. */
function untakenWriteBacks(cut: FoundCut, search: FrameSearch): number[] {
  const { ring } = cut;
  const nextToClean = search.evidence.driver?.receive[ring.queue]?.nextToClean;
  if (nextToClean === undefined) return [];
  const lastWriteBacks = lastWriteBackRows(search.evidence.ledger, search.firstRowAfterPause);
  const rows = [...cut.carriedRows];
  for (const slot of driversSlots(cut).slice(takenSlots(ring, nextToClean))) {
    const row = lastWriteBacks.get(slotKey((ring.queue << 16) | slot));
    if (row !== undefined) rows.push(row);
  }
  return rows;
}

/**
 * Frames that the image shows done and whose write-back, with the RO bit, overtook bytes that had still not landed when
 * the source's device ended. Nobody can say what they should be.
 */
export function findUnlandedFrames(search: FrameSearch): Finding[] {
  const { ledger } = search.evidence;
  const landed = new Map<number, number>();
  for (let row = 0; row < ledger.rows; row++) {
    const writeBack = search.attribution.writeBackRows[row] ?? NONE;
    if (writeBack === NONE || writeBack === row) continue;
    landed.set(writeBack, (landed.get(writeBack) ?? 0) + (ledger.lengths[row] ?? 0));
  }
  const findings: Finding[] = [];
  for (const cut of search.cuts) {
    for (const row of cut.carriedRows) {
      const missing = factLength(ledger.facts[row] ?? 0) - (landed.get(row) ?? 0);
      if (missing <= 0 || !tagRelaxedOrdering(ledger.tags[row] ?? 0)) continue;
      const descriptor = tagIndex(ledger.tags[row] ?? 0);
      const { queue } = cut.ring;
      const sentence = `receive queue ${queue}, descriptor ${descriptor} is done, and ${missing} bytes of its buffer never landed`;
      const address = ledger.addresses[row] ?? 0;
      const frame = search.attribution.frames[row] ?? NONE;
      findings.push({ hazard: "relaxed-ordering", sentence, address, lengthBytes: 0, queue, descriptor, frame });
    }
  }
  return findings;
}
