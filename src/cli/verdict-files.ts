// Writes the verdicts to where they are kept: among the sources, and as the table in README.md.
import { readFile, writeFile } from "node:fs/promises";
import type { Decided } from "../host/explore-threads.ts";
import { strategiesMarkdown } from "./strategies-table.ts";
import { withDecided, type RecordedVerdict } from "./verdicts.ts";

const verdictsFile = new URL("../strategy/verdicts.json", import.meta.url);
const readmeFile = new URL("../../README.md", import.meta.url);
const tableInReadme = /(<!-- strategies: [^\n]* -->\n)[^]*?(<!-- strategies end -->)/;

export async function writeVerdicts(all: readonly Decided[]): Promise<void> {
  const verdicts = withDecided(all);
  await writeFile(verdictsFile, `${asFormatted(verdicts)}\n`);
  const readme = await readFile(readmeFile, "utf8");
  const table = strategiesMarkdown(verdicts);
  await writeFile(
    readmeFile,
    readme.replace(tableInReadme, (_, begin: string, end: string) => begin + table + end),
  );
}

/** As the formatter has it: lists of words on one line. */
function asFormatted(verdicts: readonly RecordedVerdict[]): string {
  const text = JSON.stringify(verdicts, undefined, 2);
  return text.replace(/\[\s+("[^[\]]*")\s+\]/g, (_, items: string) => `[${items.replace(/\s*\n\s*/g, " ")}]`);
}
