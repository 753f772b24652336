// Dresses findings up as corruptions: bytes expected and found, the frame in a line, and whether the bytes are old ones.
import { DmaPurpose, tagPurpose, tagQueue } from "../iommu/dma-port.ts";
import type { Examined } from "./evidence.ts";
import type { WritesAfterPause } from "./expected-image.ts";
import type { Finding } from "./findings.ts";
import { frameSummary, SUMMARY_BYTES } from "./frame-summary.ts";
import { factLength, type Attribution, type LedgerRecord } from "./ledger-record.ts";
import type { PageOverlay } from "./page-overlay.ts";
import type { Corruption } from "./verdict.ts";

const WINDOW_BYTES = 16;

export interface CorruptionContext {
  readonly evidence: Examined;
  readonly attribution: Attribution;
  readonly writes: WritesAfterPause;
  readonly expected: PageOverlay;
}

interface Window {
  readonly address: number;
  readonly expected: Uint8Array;
  readonly actual: Uint8Array;
}

export function describe(findings: readonly Finding[], context: CorruptionContext): Corruption[] {
  const windows = findings.map((finding) => (finding.isNotMemory === true ? undefined : windowOf(finding, context)));
  const stale = new StaleSearch(windows, context.evidence);
  const frames = new FrameSearch(findings, context);
  return findings.map((finding, index) => {
    const window = windows[index];
    const { address, isNotMemory, queue, descriptor, frame } = finding;
    const summary = frames.summary(finding);
    return {
      hazard: finding.hazard,
      sentence: finding.sentence,
      address: `0x${address.toString(16)}`,
      lengthBytes: finding.lengthBytes,
      page: isNotMemory === true ? -1 : Math.floor(address / context.evidence.pageBytes),
      ...(queue === undefined ? {} : { queue }),
      ...(descriptor === undefined ? {} : { descriptor }),
      ...(frame === undefined || frame < 0 ? {} : { frame }),
      ...(summary === undefined ? {} : { frameSummary: summary }),
      expectedHex: finding.expectedHex ?? hex(window?.expected),
      actualHex: finding.actualHex ?? hex(window?.actual),
      isStale: stale.isStale(index),
    };
  });
}

const hex = (bytes: Uint8Array = new Uint8Array(0)): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function windowOf({ address, lengthBytes }: Finding, { evidence, expected }: CorruptionContext): Window {
  const length = Math.min(lengthBytes === 0 ? WINDOW_BYTES : lengthBytes, WINDOW_BYTES);
  const actual = evidence.destinationMemory.slice(address, address + length);
  return { address, expected: expected.slice(address, length), actual };
}

/** Looks through all pre-images, once, for what the windows show instead of what they should. */
class StaleSearch {
  readonly #isStale: boolean[];

  constructor(windows: readonly (Window | undefined)[], { ledger, pageBytes }: Examined) {
    this.#isStale = windows.map((window) => window !== undefined && isUnsent(window));
    const byPage = new Map<number, number[]>();
    for (const [index, window] of windows.entries()) {
      if (window === undefined || this.#isStale[index] === true || equalBytes(window.expected, window.actual)) continue;
      const page = Math.floor(window.address / pageBytes);
      byPage.set(page, [...(byPage.get(page) ?? []), index]);
    }
    if (byPage.size === 0) return;
    for (let row = 0; row < ledger.rows; row++) {
      const address = ledger.addresses[row] ?? 0;
      const last = Math.floor((address + (ledger.lengths[row] ?? 0) - 1) / pageBytes);
      for (let page = Math.floor(address / pageBytes); page <= last; page++) {
        for (const index of byPage.get(page) ?? []) this.#lookAt(ledger, row, index, windows[index]);
      }
    }
  }

  isStale(index: number): boolean {
    return this.#isStale[index] ?? false;
  }

  /** The part of the window that the row overwrote: old if every byte that is wrong there is what was there before. */
  #lookAt(ledger: LedgerRecord, row: number, index: number, window: Window | undefined): void {
    const offset = ledger.undoOffsets[row] ?? -1;
    if (window === undefined || offset < 0) return;
    const start = ledger.addresses[row] ?? 0;
    const end = start + (ledger.lengths[row] ?? 0);
    let wrong = 0;
    for (let i = 0; i < window.actual.length; i++) {
      const at = window.address + i;
      if (at < start || at >= end || window.actual[i] === window.expected[i]) continue;
      if (ledger.undo[offset + at - start] !== window.actual[i]) return;
      wrong++;
    }
    if (wrong > 0) this.#isStale[index] = true;
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** Zero where something should be: memory of the destination that never got its page. */
function isUnsent({ expected, actual }: Window): boolean {
  return actual.every((byte) => byte === 0) && expected.some((byte) => byte !== 0);
}

/** Finds the buffers of the frames that are named, once for all. */
class FrameSearch {
  readonly #rows = new Map<string, number[]>();
  readonly #context: CorruptionContext;

  constructor(findings: readonly Finding[], context: CorruptionContext) {
    this.#context = context;
    for (const { queue, frame } of findings) {
      if (queue !== undefined && frame !== undefined && frame >= 0) this.#rows.set(`${queue}:${frame}`, []);
    }
    if (this.#rows.size === 0) return;
    const { ledger } = context.evidence;
    for (let row = 0; row < ledger.rows; row++) {
      const frame = context.attribution.frames[row] ?? -1;
      if (frame >= 0) this.#rows.get(`${tagQueue(ledger.tags[row] ?? 0)}:${frame}`)?.push(row);
    }
  }

  summary({ queue, frame }: Finding): string | undefined {
    const { evidence, expected, writes } = this.#context;
    const { ledger } = evidence;
    const header = new Uint8Array(SUMMARY_BYTES);
    let headerBytes = 0;
    let lengthBytes = 0;
    for (const row of this.#rows.get(`${queue}:${frame}`) ?? []) {
      const tag = ledger.tags[row] ?? 0;
      if (tagPurpose(tag) === DmaPurpose.rxWriteBack) lengthBytes += factLength(ledger.facts[row] ?? 0);
      if (tagPurpose(tag) !== DmaPurpose.rxBuffer) continue;
      const length = Math.min(ledger.lengths[row] ?? 0, SUMMARY_BYTES - headerBytes);
      const bytes = writes.written(row)?.subarray(0, length) ?? expected.slice(ledger.addresses[row] ?? 0, length);
      header.set(bytes, headerBytes);
      headerBytes += bytes.length;
    }
    return frameSummary(header.subarray(0, headerBytes), lengthBytes);
  }
}
