// What a search found, for a person and for a program: verdict, figures, situations, and the story of what goes wrong.
import type { Explored } from "../explore/explore.ts";
import type { replay } from "../explore/replay.ts";
import { decodeSchedule } from "../explore/schedule.ts";
import { situations, type Situation } from "../explore/situations.ts";
import type { Decided } from "../host/explore-threads.ts";
import type { SearchWay } from "../host/explore-thread.ts";
import { strategyByName } from "../strategy/strategies.ts";
import type { Terminal } from "./environment.ts";
import { bullets, pageOf, paragraph, type Page } from "./layout.ts";
import { PROGRAM } from "./program.ts";
import { counted, formatMs } from "./quantities.ts";
import { allSettings } from "./settings-words.ts";
import { storyLines } from "./story-render.ts";

const verdicts: Readonly<Record<Explored["verdict"], string>> = {
  safe: "safe within these bounds",
  unsafe: "unsafe",
  undecided: "undecided",
};

export const verdictInWords = (verdict: Explored["verdict"]): string => verdicts[verdict];

/**
 * Another verdict than the project expects. A search that leaves schedules out finds no fault in an unsafe strategy without
 * that being news, and one that did not come to an end has no verdict.
 */
export function isNews({ question, explored }: Decided, way: SearchWay): boolean {
  const { expectedVerdict } = strategyByName(question.strategy);
  if (explored.verdict === "unsafe") return expectedVerdict === "safe";
  const isPartial = way.hazard !== undefined || way.preemptions !== undefined;
  return explored.verdict === "safe" && expectedVerdict === "unsafe" && !isPartial;
}

function wayInWords({ reduced, search, preemptions, hazard }: SearchWay): string {
  const order =
    typeof search === "object" ? `random schedules, ${search.random.walks} of seed ${search.random.seed}` : search;
  const parts = [
    order ?? "breadth-first",
    ...(reduced === false ? ["unreduced"] : []),
    ...(preemptions === undefined ? [] : [`at most ${counted(preemptions, "preemption")}`]),
    ...(hazard === undefined ? [] : [`looking for ${hazard} only`]),
  ];
  return parts.join(", ");
}

/** Who carries a schedule out for its story: the guest and all, which are not loaded before they are needed. */
type Teller = typeof replay;

/** Every strategy that was decided, with a blank line before and after each. */
export function renderExplored(
  all: readonly Decided[],
  { way, tell, terminal }: { way: SearchWay; tell: Teller; terminal: Terminal },
): string {
  const page = pageOf(terminal);
  const [first] = all;
  if (first === undefined) return "";
  const blocks = [
    paragraph(`Explored ${wayInWords(way)}, within ${allSettings(first.question)}.`, page.width, "  "),
    ...all.map((decided) => strategyBlock(decided, { way, tell, page })),
    legend(page),
  ];
  return `\n${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n\n`;
}

function strategyBlock(decided: Decided, { way, tell, page }: { way: SearchWay; tell: Teller; page: Page }): string[] {
  const { question, explored, seconds, reason } = decided;
  const { bold, dim, green, red, yellow } = page.colors;
  const { verdict, states, transitions, ends } = explored;
  const color = { safe: green, unsafe: red, undecided: yellow }[verdict];
  const all = [counted(states, "state"), counted(transitions, "transition"), counted(ends, "end")];
  const figures = verdict === "undecided" ? [`at least ${counted(states, "state")}`] : all;
  const lines = [
    `  ${bold(question.strategy)}  ${color(verdictInWords(verdict))}`,
    ...paragraph(`${figures.join(", ")}, in ${formatMs(seconds * 1000)}.`, page.width, "    "),
  ];
  const why = reason ?? "No schedule that was tried breaks it.";
  if (verdict === "undecided") lines.push(...paragraph(why, page.width, "    "));
  if (isNews(decided, way)) {
    const { expectedVerdict } = strategyByName(question.strategy);
    lines.push(...paragraph(`This is news: it was expected to be ${expectedVerdict}.`, page.width, "    "));
  }
  if (verdict !== "undecided") lines.push(...situationLines(explored, page));
  if (explored.schedule === undefined) return lines;
  const again = `${PROGRAM} replay ${explored.schedule}`;
  const title = way.search === "breadth-first" ? "The shortest schedule that breaks it:" : "A schedule that breaks it:";
  lines.push("", `    ${dim(title)}`, `    ${page.colors.cyan(again)}`, "");
  const { question: asked, steps } = decodeSchedule(explored.schedule);
  return [...lines, ...storyLines(tell(asked, steps), page, "    ")];
}

function situationLines({ situations: seen }: Explored, page: Page): string[] {
  const names = Object.keys(situations) as Situation[];
  const line = (title: string, chosen: readonly Situation[]): string[] =>
    paragraph(chosen.join(", ") || "none", page.width, " ".repeat(17), `    ${page.colors.dim(title.padEnd(13))}`);
  return [
    ...line(
      "reached",
      names.filter((name) => seen.has(name)),
    ),
    ...line(
      "not reached",
      names.filter((name) => !seen.has(name)),
    ),
  ];
}

/** What the names of situations mean. */
function legend(page: Page): string[] {
  const sentences = Object.entries(situations).map(([name, sentence]) => `${name}: ${sentence}`);
  return [`  ${page.colors.dim("Situations that a search can reach:")}`, ...bullets(sentences, page, "    ")];
}

/** What `--json` prints of a strategy. Its keys are stable. */
export function exploredAsData({ question, explored, seconds, reason }: Decided, way: SearchWay): object {
  const { verdict, states, transitions, ends, schedule, violation } = explored;
  const { strategy, assumptions, bounds } = question;
  return {
    strategy,
    verdict,
    expectedVerdict: strategyByName(strategy).expectedVerdict,
    reason: reason ?? null,
    way,
    assumptions,
    bounds,
    states,
    transitions,
    ends,
    seconds: Math.round(seconds * 1000) / 1000,
    schedule: schedule ?? null,
    violation:
      violation === undefined
        ? null
        : { property: violation.property, sentence: violation.sentence, hazards: violation.hazards },
    situations: Object.fromEntries(
      Object.keys(situations).map((name) => [name, explored.situations.get(name as Situation) ?? 0]),
    ),
  };
}
