// What is wrong in the destination's memory: the hazards with their counts, then the first few places with their bytes.
import { hazards as meanings } from "../audit/hazards.ts";
import type { Corruption } from "../audit/verdict.ts";
import type { MigrationReport } from "../host/report.ts";
import { paragraph, type Page } from "./layout.ts";
import { counted, formatCount } from "./quantities.ts";

/** Places that are shown with their bytes; `--json` has more. */
const PLACES_SHOWN = 3;

export function corruptionSection(report: MigrationReport, page: Page): string[] {
  const { corruptions, corruptionTotals: totals } = report;
  const lines = [...hazardLines(report, page), ...corruptionPlaces(corruptions, PLACES_SHOWN, page)];
  const shown = Math.min(PLACES_SHOWN, corruptions.length);
  const more = totals.corruptions - shown;
  if (more === 0) return lines;
  const listed = corruptions.length > shown ? `; --json lists the first ${formatCount(corruptions.length)}` : "";
  return [...lines, "", page.colors.dim(`  and ${formatCount(more)} more${listed}`)];
}

/** Some of the places with their bytes, each after a blank line. */
export function corruptionPlaces(corruptions: readonly Corruption[], count: number, page: Page): string[] {
  const lines: string[] = [];
  for (const corruption of spreadOverHazards(corruptions, count)) lines.push("", ...place(corruption, page));
  return lines;
}

/** How often each hazard struck, the most frequent first. */
function hazardLines({ hazards }: MigrationReport, page: Page): string[] {
  const found = Object.entries(hazards).sort(([, a], [, b]) => b - a);
  const nameColumns = Math.max(...found.map(([name]) => name.length));
  const countColumns = Math.max(...found.map(([, count]) => formatCount(count).length));
  const indent = " ".repeat(2 + countColumns + 2 + nameColumns + 2);
  return found.flatMap(([name, count]) => {
    const { bold, red } = page.colors;
    const first = `  ${bold(formatCount(count).padStart(countColumns))}  ${red(name.padEnd(nameColumns))}  `;
    return paragraph(meanings[name as keyof typeof meanings].sentence, page.width, indent, first);
  });
}

/** One of each hazard before a second of any: twenty of a kind teach less than one of each. */
function spreadOverHazards(corruptions: readonly Corruption[], count: number): Corruption[] {
  const seen = new Set<string>();
  const firsts = corruptions.filter(({ hazard }) => !seen.has(hazard) && seen.add(hazard));
  const rest = corruptions.filter((corruption) => !firsts.includes(corruption));
  return [...firsts, ...rest].slice(0, count);
}

function place(corruption: Corruption, page: Page): string[] {
  const { bold, dim, red } = page.colors;
  const { hazard, sentence, address, lengthBytes, page: pageNumber, frameSummary, isStale } = corruption;
  const where =
    pageNumber < 0
      ? `register ${address}`
      : `${counted(lengthBytes, "byte")} from ${address} on, in page ${formatCount(pageNumber)}`;
  const lines = [
    `  ${bold(placeName(corruption))}${red(hazard)}`,
    ...paragraph(frameSummary ?? sentence, page.width, "    "),
    ...paragraph(where, page.width, "    "),
  ];
  const expected = bytePairs(corruption.expectedHex);
  if (expected.length === 0) return lines;
  const found = bytePairs(corruption.actualHex).map((pair, index) => (pair === expected[index] ? pair : red(pair)));
  lines.push(`    ${dim("has to be")}  ${expected.join(" ")}`);
  lines.push(`    ${dim("is       ")}  ${found.join(" ")}${isStale ? dim("  older") : ""}`);
  return lines;
}

function placeName({ frame, queue, descriptor }: Corruption): string {
  const names = [
    ...(frame === undefined ? [] : [`frame ${formatCount(frame)}`]),
    ...(queue === undefined ? [] : [`queue ${queue}`]),
    ...(descriptor === undefined ? [] : [`descriptor ${descriptor}`]),
  ];
  return names.map((name) => `${name}, `).join("");
}

const bytePairs = (hex: string): string[] => hex.match(/[0-9a-f]{2}/gi) ?? [];
