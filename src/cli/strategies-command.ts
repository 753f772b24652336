// `underway strategies`: the table of strategies, printed from the code for people, for programs and for the README.
import { Command } from "commander";
import { defaultStrategy, strategies } from "../strategy/strategies.ts";
import type { Need, Strategy } from "../strategy/strategy.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { pageOf, paragraph, type Page } from "./layout.ts";
import { OperationError } from "../base/errors.ts";
import { PROGRAM } from "./program.ts";

const needInWords: Readonly<Record<Need, string>> = {
  tracker: "a tracker of the pages the device may write",
  "device-log": "a device that logs what it writes",
  "driver-reset": "a driver that starts over when the PF says so",
  "cooperative-driver": "a driver changed for migration",
};

const needsInWords = (strategy: Strategy): string =>
  strategy.needs.length === 0 ? "nothing" : strategy.needs.map((need) => needInWords[need]).join("; ");

const examples = `
Examples:
  $ ${PROGRAM} strategies
  $ ${PROGRAM} strategies --json | jq -r '.[].name'
`;

/** `done` gets the exit code. */
export function strategiesCommand(environment: Environment, done: (exitCode: ExitCode) => void): Command {
  return new Command("strategies")
    .summary("list the strategies, the wrong ones too")
    .description("Lists the strategies: what each does, what it needs, where it runs, and where the idea comes from.")
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
  return markdown === true ? strategiesMarkdown() : strategiesText(page);
}

const asData = (strategy: Strategy): Strategy & { isDefault: boolean } => ({
  ...strategy,
  isDefault: strategy === defaultStrategy,
});

function strategiesText(page: Page): string {
  const { bold, dim } = page.colors;
  const fact = (name: string, text: string): string[] =>
    paragraph(text, page.width, " ".repeat(14), `    ${dim(name.padEnd(10))}`);
  const blocks = strategies.map((strategy) => [
    `  ${bold(strategy.name)}${strategy === defaultStrategy ? dim("  (default)") : ""}`,
    ...paragraph(strategy.sentence, page.width, "    "),
    ...fact("needs", needsInWords(strategy)),
    ...fact("machines", strategy.machines.join(", ")),
    ...fact("source", strategy.source),
  ]);
  return `\n${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n\n`;
}

/** The table between the markers of README.md. */
function strategiesMarkdown(): string {
  const cell = (text: string): string => text.replaceAll("|", "\\|");
  const rows = strategies.map((strategy) => {
    const name = `\`${strategy.name}\`${strategy === defaultStrategy ? " (default)" : ""}`;
    return [name, strategy.sentence, needsInWords(strategy), strategy.machines.join(", "), strategy.source].map(cell);
  });
  const lines = [["strategy", "what it does", "needs", "machines", "source"], Array<string>(5).fill("---"), ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}
