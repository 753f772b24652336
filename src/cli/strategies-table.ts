// The tables of strategies and baselines that are in README.md: what each does and needs, and what the explorer found.
import { defaultAssumptions } from "../explore/assumptions.ts";
import { baselines } from "../strategy/baselines.ts";
import { defaultStrategy, strategies } from "../strategy/strategies.ts";
import type { Need, Strategy } from "../strategy/strategy.ts";
import { counted } from "./quantities.ts";
import type { RecordedVerdict } from "./verdicts.ts";

const needInWords: Readonly<Record<Need, string>> = {
  tracker: "a tracker of the pages the device may write",
  "device-log": "a device that logs what it writes",
  "driver-reset": "a driver that starts over when the PF says so",
  "cooperative-driver": "a driver changed for migration",
};

export const needsInWords = (strategy: Strategy): string =>
  strategy.needs.length === 0 ? "nothing" : strategy.needs.map((need) => needInWords[need]).join("; ");

/** Such as "safe: 12,605 states within frames=2", or "unsafe: head-ahead; u1:blind::r2E6". */
export function verdictInWords({ name }: Strategy, verdicts: readonly RecordedVerdict[]): string {
  const found = verdicts.find(({ strategy }) => strategy === name);
  if (found === undefined) return "not explored";
  const { verdict, schedule, hazards, states, assumptions, bounds } = found;
  if (schedule !== null)
    return `${verdict}: ${[hazards.join(", "), schedule].filter((part) => part !== "").join("; ")}`;
  const { states: _, ...within } = bounds;
  const assumed = Object.entries(assumptions).filter(([assumption, value]) => defaults[assumption] !== value);
  const settings = [...Object.entries(within), ...assumed].map(([setting, value]) => `${setting}=${value}`);
  return `${verdict}: ${counted(states, "state")} within ${settings.join(", ")}`;
}

const defaults: Readonly<Record<string, unknown>> = { ...defaultAssumptions };

/** The first table between the markers of README.md. */
export function strategiesMarkdown(verdicts: readonly RecordedVerdict[]): string {
  const titles = ["strategy", "what it does", "needs", "machines", "verdict", "source"];
  const rows = strategies.map((strategy) => {
    const name = `\`${strategy.name}\`${strategy === defaultStrategy ? " (default)" : ""}`;
    const { sentence, machines, source } = strategy;
    const verdict = verdictInWords(strategy, verdicts).replace(/u1:\S+/, (schedule) => `\`${schedule}\``);
    return [name, sentence, needsInWords(strategy), machines.join(", "), verdict, source];
  });
  return tableInMarkdown(titles, rows);
}

/** The second one: no explorer has a verdict on what QEMU does alone. */
export function baselinesMarkdown(): string {
  const titles = ["baseline", "what it does", "needs", "machines", "source"];
  const rows = baselines.map(({ name, sentence, needs, machines, source }) => [
    `\`${name}\``,
    sentence,
    needs,
    machines.join(", "),
    source,
  ]);
  return tableInMarkdown(titles, rows);
}

function tableInMarkdown(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [titles, titles.map(() => "---"), ...rows];
  return lines.map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`).join("");
}
