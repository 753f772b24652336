// Text set in columns: wrapped paragraphs, tables, bullets and bars, measured without the colours in them.
import { stripVTControlCharacters } from "node:util";
import type { Palette, Terminal } from "./environment.ts";

/** How a page is set. */
export interface Page {
  /** Columns a line may take. */
  readonly width: number;
  readonly colors: Palette;
  readonly unicode: boolean;
}

const PAGE_WIDTH_MAX = 96;
const PAGE_WIDTH_MIN = 72;

/** Long lines are hard to read, and a narrow window is not helped by a layout that collapses. */
export function pageOf(terminal: Terminal): Page {
  const width = Math.max(PAGE_WIDTH_MIN, Math.min(PAGE_WIDTH_MAX, terminal.columns));
  return { width, colors: terminal.colors, unicode: terminal.unicode };
}

export const visibleLength = (text: string): number => stripVTControlCharacters(text).length;

const NO_BREAK = "\u00A0";

/**
 * Breaks text between words so that no line is longer than `width`, save for a word that is. A number stays with its unit.
 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  const whole = text.replace(/(\d) (ms|s|[KMG]iB|[kMG]bit\/s)(?![\w/])/g, `$1${NO_BREAK}$2`);
  for (const word of whole.split(/[ \n]+/)) {
    if (word === "") continue;
    if (line !== "" && visibleLength(line) + 1 + visibleLength(word) > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  if (line !== "") lines.push(line);
  return lines.map((each) => each.replaceAll(NO_BREAK, " "));
}

/** A wrapped paragraph whose lines begin after `indent` columns; the first may begin with something else of that width. */
export function paragraph(text: string, width: number, indent: string, firstIndent = indent): string[] {
  const lines = wrap(text, width - visibleLength(indent));
  return lines.map((line, index) => (index === 0 ? firstIndent : indent) + line);
}

export function bullets(sentences: readonly string[], page: Page, indent: string): string[] {
  const mark = page.unicode ? "·" : "-";
  return sentences.flatMap((sentence) => paragraph(sentence, page.width, `${indent}  `, `${indent}${mark} `));
}

export interface Column {
  readonly title: string;
  readonly align: "left" | "right";
}

/** Rows under right- or left-aligned titles, three columns apart, or closer where the page is narrow. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  page: Page,
  indent: string,
): string[] {
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...rows.map((row) => visibleLength(row[index] ?? ""))),
  );
  const filled = widths.reduce((sum, width) => sum + width, indent.length);
  const gap = [3, 2].find((each) => filled + each * (columns.length - 1) <= page.width) ?? 1;
  const set = (cells: readonly string[]): string =>
    columns
      .map((column, index) => {
        const cell = cells[index] ?? "";
        const space = " ".repeat((widths[index] ?? 0) - visibleLength(cell));
        return column.align === "right" ? space + cell : cell + space;
      })
      .join(" ".repeat(gap))
      .trimEnd();
  return [page.colors.dim(set(columns.map((column) => column.title))), ...rows.map(set)].map((line) => indent + line);
}

const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of `cells` columns, in steps of an eighth of a column where the terminal can show that. */
export function bar(cells: number, unicode: boolean): string {
  if (!unicode) return "#".repeat(Math.round(cells));
  const whole = Math.floor(cells + 1 / 16);
  return "█".repeat(whole) + (eighths[Math.max(0, Math.round((cells - whole) * 8))] ?? "");
}

/** Cuts a line to `width` columns. For plain text: colour it afterwards. */
export function fit(line: string, width: number, unicode: boolean): string {
  if (line.length <= width) return line;
  return unicode ? `${line.slice(0, width - 1)}…` : line.slice(0, width);
}
