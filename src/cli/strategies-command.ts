// `underway strategies`: the table of strategies, printed from the code for people, for programs and for the README.
import { Command } from "commander";
import { defaultStrategy, strategies } from "../strategy/strategies.ts";
import type { Strategy } from "../strategy/strategy.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { pageOf, paragraph, type Page } from "./layout.ts";
import { OperationError } from "../base/errors.ts";
import { PROGRAM } from "./program.ts";
import { needsInWords, strategiesMarkdown, verdictInWords } from "./strategies-table.ts";
import { recordedVerdicts, type RecordedVerdict } from "./verdicts.ts";

const examples = `
Examples:
  $ ${PROGRAM} strategies
  $ ${PROGRAM} strategies --json | jq -r '.[].name'
`;

/** `done` gets the exit code. */
export function strategiesCommand(environment: Environment, done: (exitCode: ExitCode) => void): Command {
  return new Command("strategies")
    .summary("list the strategies, the wrong ones too")
    .description(
      "Lists the strategies: what each does, what it needs, where it runs, what the explorer found, and where the idea comes from.",
    )
    .option("--json", "print them as JSON, with their orders of switchover")
    .option("--markdown", "print them as the table that is in README.md")
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
  return markdown === true ? strategiesMarkdown(recordedVerdicts) : strategiesText(page);
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
  const blocks = strategies.map((strategy) => strategyLines(strategy, page).join("\n"));
  return `\n${blocks.join("\n\n")}\n\n`;
}

function strategyLines(strategy: Strategy, page: Page): string[] {
  const { bold, dim } = page.colors;
  const fact = (name: string, text: string): string[] =>
    paragraph(text, page.width, " ".repeat(14), `    ${dim(name.padEnd(10))}`);
  return [
    `  ${bold(strategy.name)}${strategy === defaultStrategy ? dim("  (default)") : ""}`,
    ...paragraph(strategy.sentence, page.width, "    "),
    ...fact("needs", needsInWords(strategy)),
    ...fact("machines", strategy.machines.join(", ")),
    ...fact("verdict", verdictInWords(strategy, recordedVerdicts)),
    ...fact("source", strategy.source),
  ];
}
