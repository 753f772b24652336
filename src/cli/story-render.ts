// A schedule told step by step, for a person: who did what, and at its end the bytes that are wrong and why.
import { hazards as meanings, type Hazard } from "../audit/hazards.ts";
import type { Replayed } from "../explore/replay.ts";
import type { Scene } from "../explore/story.ts";
import { paragraph, type Page } from "./layout.ts";
import { counted } from "./quantities.ts";
import { corruptionPlaces } from "./report-corruption.ts";

const PLACES_SHOWN = 3;
const WHO_COLUMNS = 12;

/** The story and its end, without a blank line before or after. */
export function storyLines(replayed: Replayed, page: Page, indent: string): string[] {
  const { scenes, steps, afterwards } = replayed;
  const lines = sceneLines(scenes, page, indent);
  const last = scenes.at(-1)?.last ?? 0;
  if (last < steps) lines.push(indent + page.colors.dim(`and ${counted(steps - last, "more step")} after the fault`));
  if (afterwards.length > 0)
    lines.push("", `${indent}Then, on the destination:`, ...sceneLines(afterwards, page, indent));
  return [...lines, "", ...endLines(replayed, page, indent)];
}

function sceneLines(scenes: readonly Scene[], page: Page, indent: string): string[] {
  const { dim } = page.colors;
  const numberColumns = scenes.reduce((columns, scene) => Math.max(columns, numbers(scene).length), 0);
  const gap = " ".repeat(2);
  return scenes.flatMap((scene) => {
    const first = indent + dim(numbers(scene).padStart(numberColumns)) + gap + scene.who.padEnd(WHO_COLUMNS);
    const following = indent + " ".repeat(numberColumns + gap.length + WHO_COLUMNS);
    return paragraph(scene.sentence, page.width, following, first);
  });
}

const numbers = ({ first, last }: Scene): string => (first === last ? `${first}` : `${first}-${last}`);

function endLines({ violation, outcome }: Replayed, page: Page, indent: string): string[] {
  const { bold, green, red } = page.colors;
  const { frames } = outcome.verdict;
  if (violation === undefined) {
    const lost =
      frames.discarded === 0 ? "" : ` ${counted(frames.discarded, "frame")} after the cut is counted as lost.`;
    const text = `Nothing breaks. The image is a legal cut, and the guest lives on with it.${lost}`;
    return paragraph(text, page.width, indent).map((line) => green(line));
  }
  const { property, sentence, hazards } = violation;
  const lines = [
    `${indent}${red(bold("What goes wrong"))}`,
    ...paragraph(`${whatBreaks[property]} ${capital(sentence)}.`, page.width, indent),
  ];
  for (const hazard of hazards) {
    lines.push(
      ...paragraph(`${hazard}: ${meanings[hazard as Hazard].sentence}.`, page.width, `${indent}  `, `${indent}  `),
    );
  }
  const { corruptions } = outcome.verdict;
  if (property !== "legal-cut") return lines;
  // Places are indented by two columns already.
  const deeper = indent.slice(2);
  const places = corruptionPlaces(corruptions, PLACES_SHOWN, { ...page, width: page.width - deeper.length });
  return [...lines, ...places.map((line) => (line === "" ? line : deeper + line))];
}

const whatBreaks: Readonly<Record<NonNullable<Replayed["violation"]>["property"], string>> = {
  "legal-cut": "The destination's image is no legal cut.",
  "guest-unharmed": "The guest is harmed before it moves.",
  "mapped-writes": "The device wrote where nothing was mapped for it.",
  progress: "The audit has nothing against the image, but the guest does not live on with it.",
};

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
