// `underway strategies`: the table of strategies, printed from the code for people, for programs and for the README.
import { Command } from "commander";
import { baselines, type Baseline } from "../strategy/baselines.ts";
import { defaultStrategy, strategies } from "../strategy/strategies.ts";
import type { Strategy } from "../strategy/strategy.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { pageOf, paragraph, type Page } from "./layout.ts";
import { OperationError } from "../base/errors.ts";
import { PROGRAM } from "./program.ts";
import { baselinesMarkdown, needsInWords, strategiesMarkdown, verdictInWords } from "./strategies-table.ts";
import { recordedVerdicts, type RecordedVerdict } from "./verdicts.ts";

const examples = `
Examples:
  $ ${PROGRAM} strategies
  $ ${PROGRAM} strategies --json | jq -r '.[].name'
`;

/** `done` gets the exit code. */
export function strategiesCommand(environment: Environment, done: (exitCode: ExitCode) => void): Command {
  return new Command("strategies")
    .summary("list the strategies, the wrong ones too, and the baselines")
    .description(
      "Lists the strategies: what each does, what it needs, where it runs, what the explorer found, and where the idea comes from. Then the baselines: what people do today, carried out by QEMU alone, to hold the strategies against.",
    )
    .option("--json", "print the strategies as JSON, with their orders of switchover")
    .option("--markdown", "print them as the tables that are in README.md")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", examples)
    .action((words: { json?: boolean; markdown?: boolean }) => {
      checkingUsage(() => refuseBoth(words));
      environment.stdout.write(rendered(words, pageOf(environment.stdout)));
      done(ExitCode.consistent);
    });
}

function refuseBoth({ json, markdown }: { json?: boolean; markdown?: boolean }): void {
  if (json !== true || markdown !== true) return;
  throw new OperationError({
    code: "usage-conflict",
    message: "--json and --markdown cannot both be had.",
    advice: "Give one of them.",
  });
}

function rendered({ json, markdown }: { json?: boolean; markdown?: boolean }, page: Page): string {
  if (json === true) return `${JSON.stringify(strategies.map(asData), undefined, 2)}\n`;
  if (markdown === true) return `${strategiesMarkdown(recordedVerdicts)}\n${baselinesMarkdown()}`;
  return strategiesText(page);
}

const asData = (
  strategy: Strategy,
): Strategy & { isDefault: boolean; explored: Omit<RecordedVerdict, "strategy"> | null } => ({
  ...strategy,
  isDefault: strategy === defaultStrategy,
  explored: exploredOf(strategy),
});

function exploredOf({ name }: Strategy): Omit<RecordedVerdict, "strategy"> | null {
  const found = recordedVerdicts.find((verdict) => verdict.strategy === name);
  if (found === undefined) return null;
  const { strategy: _, ...explored } = found;
  return explored;
}

function strategiesText(page: Page): string {
  const { dim } = page.colors;
  const heading = paragraph("Baselines: what people do today, carried out by QEMU alone.", page.width, "  ").map(dim);
  const blocks = [
    ...strategies.map((strategy) => strategyLines(strategy, page).join("\n")),
    heading.join("\n"),
    ...baselines.map((baseline) => baselineLines(baseline, page).join("\n")),
  ];
  return `\n${blocks.join("\n\n")}\n\n`;
}

function strategyLines(strategy: Strategy, page: Page): string[] {
  const isDefault = strategy === defaultStrategy;
  return [
    ...introLines({ ...strategy, isDefault }, page),
    ...factLines("needs", needsInWords(strategy), page),
    ...factLines("machines", strategy.machines.join(", "), page),
    ...factLines("verdict", verdictInWords(strategy, recordedVerdicts), page),
    ...factLines("source", strategy.source, page),
  ];
}

function baselineLines(baseline: Baseline, page: Page): string[] {
  return [
    ...introLines({ ...baseline, isDefault: false }, page),
    ...factLines("needs", baseline.needs, page),
    ...factLines("machines", baseline.machines.join(", "), page),
    ...factLines("source", baseline.source, page),
  ];
}

function introLines(of: { name: string; sentence: string; isDefault: boolean }, page: Page): string[] {
  const { bold, dim } = page.colors;
  return [`  ${bold(of.name)}${of.isDefault ? dim("  (default)") : ""}`, ...paragraph(of.sentence, page.width, "    ")];
}

function factLines(name: string, text: string, page: Page): string[] {
  return paragraph(text, page.width, " ".repeat(14), `    ${page.colors.dim(name.padEnd(10))}`);
}
