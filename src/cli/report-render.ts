// The report for a person: the verdict and four lines at a glance, then what stands behind them.
import type { MigrationReport } from "../host/report.ts";
import type { Terminal } from "./environment.ts";
import { bullets, pageOf, paragraph, table, wrap, type Column, type Page } from "./layout.ts";
import { repeatCommand } from "./migrate-options.ts";
import { PROGRAM } from "./program.ts";
import { formatBytes, formatCount, formatMs, formatRate } from "./quantities.ts";
import { baselineHeadlines } from "./report-baseline.ts";
import { corruptionSection } from "./report-corruption.ts";
import { downtimeBars } from "./report-downtime.ts";
import { cutSentence, glance } from "./report-sentences.ts";

const INDENT = "  ";
const LABEL_COLUMNS = 10;

/** The whole report, with a blank line before and after. */
export function renderReport(report: MigrationReport, terminal: Terminal): string {
  const page = pageOf(terminal);
  const wasMs = formatMs(report.downtimeMs.total);
  const sections = [
    verdict(report, page),
    ...(report.corruptionTotals.corruptions > 0
      ? [section("What is wrong", corruptionSection(report, page), page)]
      : []),
    section("Rounds", rounds(report, page), page),
    // QEMU does not tell where its downtime goes.
    ...(report.baseline === undefined
      ? [section(`Where the ${wasMs} went`, downtimeBars(report.downtimeMs, page), page)]
      : []),
    ...(report.cuts.receive.length > 0
      ? [section("Where the rings were cut", bullets(report.cuts.receive.map(cutSentence), page, INDENT), page)]
      : []),
    section(
      report.baseline === undefined ? "What the audit verifies" : "What this verifies",
      dimmed(bullets(report.verifies, page, INDENT), page),
      page,
    ),
    section("What it does not", dimmed(bullets(report.doesNotVerify, page, INDENT), page), page),
    section("To run it again", again(report, page), page),
  ];
  return `\n${sections.map((lines) => lines.join("\n")).join("\n\n")}\n\n`;
}

function section(title: string, body: readonly string[], page: Page): string[] {
  const { bold, dim } = page.colors;
  const rule = (page.unicode ? "─" : "-").repeat(Math.max(0, page.width - INDENT.length - title.length - 1));
  return [`${INDENT}${bold(title)} ${dim(rule)}`, ...body];
}

const dimmed = (lines: readonly string[], { colors }: Page): string[] => lines.map((line) => colors.dim(line));

const headlines: Readonly<Record<MigrationReport["verdict"], string>> = {
  consistent: "The guest moved, and nothing that it may look at was lost.",
  corrupt: "The guest moved, but its memory is not what it has to be.",
  stalled: "The guest moved, and no byte is wrong, but its traffic did not go on.",
};

function badgeColor(report: MigrationReport, { colors }: Page): (text: string) => string {
  const { bgGreen, bgRed, bgYellow, black, whiteBright } = colors;
  if (report.verdict === "corrupt") return (text) => bgRed(whiteBright(text));
  const background = report.verdict === "consistent" ? bgGreen : bgYellow;
  return (text) => background(black(text));
}

function verdict(report: MigrationReport, page: Page): string[] {
  const { bold, dim, isColorSupported } = page.colors;
  const word = isColorSupported ? ` ${report.verdict.toUpperCase()} ` : report.verdict.toUpperCase();
  const badge = badgeColor(report, page)(bold(word));
  const lines = glance(report).flatMap(([label, text]) => {
    const first = INDENT + dim(label.padEnd(LABEL_COLUMNS));
    return paragraph(text, page.width, " ".repeat(INDENT.length + LABEL_COLUMNS), first);
  });
  const badgeColumns = INDENT.length + word.length + 2;
  const saying = report.baseline === undefined ? headlines : baselineHeadlines;
  const headline = wrap(saying[report.verdict], page.width - badgeColumns).map((line, index) =>
    index === 0 ? `${INDENT}${badge}  ${bold(line)}` : " ".repeat(badgeColumns) + bold(line),
  );
  return [...headline, "", ...lines];
}

const right = (title: string): Column => ({ title, align: "right" });
const roundColumns = ["round", "pages", "zero pages", "sent", "time", "rate", "dirty after"].map(right);

function rounds(report: MigrationReport, page: Page): string[] {
  const rows = report.rounds.map((round) => [
    String(round.round),
    formatCount(round.pages),
    formatCount(round.zeroPages),
    formatBytes(round.bytes),
    formatMs(round.durationMs),
    formatRate(round.bytesPerSecond),
    formatCount(round.dirtyAfter),
  ]);
  // The switchover sends the last pages and the state; the headers of the rounds' messages are counted to it.
  const inRounds = report.rounds.reduce((sum, round) => sum + round.bytes, 0);
  const rest = formatBytes(Math.max(0, report.bytesSent - inRounds));
  rows.push(["switchover", "", "", rest, formatMs(report.downtimeMs.total), "", "0"]);
  const { ifNotConverging } = report.options;
  const forced = report.converged
    ? ""
    : ` The rounds did not converge: after the last allowed one came the switchover, as --if-not-converging ${ifNotConverging} says.`;
  const { cpuDirtyLog, tracker } = report.methods;
  const methods = `Dirty log of the CPU: ${cpuDirtyLog}. Tracker of what the card may write: ${tracker}.${forced}`;
  return [...table(roundColumns, rows, page, INDENT), ...dimmed(paragraph(methods, page.width, INDENT), page)];
}

function again(report: MigrationReport, page: Page): string[] {
  return [
    `${INDENT}The seed was ${report.seed}.`,
    `${INDENT}${page.colors.cyan(repeatCommand(PROGRAM, report.options))}`,
  ];
}
