// What one check of the audit found wrong, before it is dressed up as a corruption of the verdict.
import type { Hazard } from "./hazards.ts";

export interface Finding {
  readonly hazard: Hazard;
  /** What is wrong here, in words. */
  readonly sentence: string;
  /** Guest physical address; a register's offset in BAR0 or 0 if `isNotMemory`. */
  readonly address: number;
  /** Bytes of memory that are wrong. */
  readonly lengthBytes: number;
  readonly isNotMemory?: boolean;
  readonly queue?: number;
  readonly descriptor?: number;
  readonly frame?: number;
  /** Where these are not bytes of memory. */
  readonly expectedHex?: string;
  readonly actualHex?: string;
}

/** A register's value as eight hexadecimal digits. */
export const hex8 = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");

/** Puts findings of one hazard about adjoining descriptors together. */
export function coalesce(findings: readonly Finding[]): Finding[] {
  const merged: Finding[] = [];
  let end = -1;
  for (const finding of findings) {
    const last = merged.at(-1);
    const adjoins = last !== undefined && finding.descriptor === end && isSameKind(last, finding);
    if (adjoins) {
      const lengthBytes = last.lengthBytes + finding.lengthBytes;
      const sentence = `${last.sentence.replace(/ \(and so on to descriptor \d+\)$/, "")} (and so on to descriptor ${end})`;
      merged[merged.length - 1] = { ...last, lengthBytes, sentence };
    } else merged.push(finding);
    end = (finding.descriptor ?? -2) + 1;
  }
  return merged;
}

function isSameKind(a: Finding, b: Finding): boolean {
  return a.hazard === b.hazard && a.queue === b.queue && a.isNotMemory === b.isNotMemory;
}
