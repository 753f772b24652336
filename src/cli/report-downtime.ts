// Where the downtime went: a bar for each part, each beginning where the one before ended.
import type { Downtime } from "../host/move-times.ts";
import { downtimeParts } from "../migration/events.ts";
import { bar, type Page } from "./layout.ts";
import { formatMs } from "./quantities.ts";

const inWords: Readonly<Record<Exclude<keyof Downtime, "total">, string>> = {
  pause: "CPUs come to a stop",
  rings: "rings read and cut",
  pages: "last pages read",
  saveState: "state saved and sent",
  transfer: "on its way",
  loadMachine: "machine loaded",
  loadDevice: "VF loaded",
  resume: "told to go, CPUs run",
  other: "anything else",
};
const names = [...downtimeParts, "other"] as const;

const LABEL_COLUMNS = Math.max(...Object.values(inWords).map((words) => words.length));
const TIME_COLUMNS = 8;

/** Together the bars are as long as the whole; the longest part stands out. Parts too short to measure are left out. */
export function downtimeBars(downtimeMs: Downtime, page: Page): string[] {
  const { cyan, yellow } = page.colors;
  const shown = names.filter((name) => downtimeMs[name] >= 0.005);
  const sumMs = shown.reduce((sum, name) => sum + downtimeMs[name], 0);
  const longestMs = Math.max(...shown.map((name) => downtimeMs[name]));
  const cells = page.width - 2 - LABEL_COLUMNS - 2 - TIME_COLUMNS - 2;
  let beforeMs = 0;
  return shown.map((name) => {
    const ms = downtimeMs[name];
    const offset = Math.min(cells - 1, Math.floor((beforeMs / sumMs) * cells));
    beforeMs += ms;
    const drawn = bar(Math.max(1 / 8, (beforeMs / sumMs) * cells - offset), page.unicode);
    const time = formatMs(ms).padStart(TIME_COLUMNS);
    const coloured = ms === longestMs ? yellow(drawn) : cyan(drawn);
    return `  ${inWords[name].padEnd(LABEL_COLUMNS)}  ${time}  ${" ".repeat(offset)}${coloured}`;
  });
}
