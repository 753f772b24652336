// What a sidecar says of a move that was completed: where the guest runs, how long it was dark and where that time went.
import type { MoveTimes } from "../host/move-times.ts";
import type { Downtime, ReportedRound } from "../host/move-times.ts";
import type { JobEnd } from "../host/vf-server/answers.ts";
import type { MoveRequest } from "../host/vf-server/requests.ts";
import type { QueueCut } from "../migration/events.ts";
import type { Terminal } from "./environment.ts";
import { bullets, pageOf, paragraph, type Page } from "./layout.ts";
import { counted, formatBytes, formatMs } from "./quantities.ts";
import { downtimeBars } from "./report-downtime.ts";

export const SIDECAR_REPORT_FORMAT_VERSION = 1;

/** Keys are stable within a format version. Times are milliseconds, sizes bytes. */
export interface SidecarReport {
  readonly formatVersion: typeof SIDECAR_REPORT_FORMAT_VERSION;
  readonly outcome: "completed";
  readonly options: MoveRequest;
  /** A ledger of the card's writes is kept by `migrate` only. */
  readonly audited: false;
  readonly rounds: readonly ReportedRound[];
  readonly converged: boolean;
  /** Until the source heard that the guest runs on the destination. */
  readonly downtimeMs: Downtime | null;
  readonly totalMs: number;
  readonly bytesSent: number;
  readonly cuts: readonly QueueCut[];
  readonly methods: { readonly cpuDirtyLog: string; readonly tracker: string };
}

export function sidecarReport(
  end: Extract<JobEnd, { kind: "completed" }>,
  options: MoveRequest,
  times: MoveTimes,
): SidecarReport {
  return {
    formatVersion: SIDECAR_REPORT_FORMAT_VERSION,
    outcome: "completed",
    options,
    audited: false,
    rounds: times.rounds,
    converged: (times.rounds.at(-1)?.expectedDowntimeMs ?? Infinity) <= options.downtimeLimitMs,
    downtimeMs: times.downtimeMs,
    totalMs: times.totalMs,
    bytesSent: end.bytesSent,
    cuts: times.cuts,
    methods: end.methods,
  };
}

const INDENT = "  ";
const notAudited = "Not audited: there is no ledger of the card's writes.";

/** With a blank line before and after. */
export function renderSidecarReport(report: SidecarReport, terminal: Terminal): string {
  const page = pageOf(terminal);
  const { bold } = page.colors;
  const { downtimeMs } = report;
  const sections = [
    [
      ...paragraph(`${bold("The guest runs on the destination.")} ${notAudited}`, page.width, INDENT),
      "",
      ...paragraph(movedSentence(report), page.width, INDENT),
    ],
    ...(downtimeMs === null
      ? []
      : [[`${INDENT}Where the ${formatMs(downtimeMs.total)} went`, ...downtimeBars(downtimeMs, page)]]),
    ...(report.cuts.length === 0 ? [] : [cutLines(report.cuts, page)]),
    paragraph(
      "The source's QEMU stands still and will not run the guest again: end it. Its VF server takes the next QEMU.",
      page.width,
      INDENT,
    ),
  ];
  return `\n${sections.map((lines) => lines.join("\n")).join("\n\n")}\n\n`;
}

function movedSentence({ options, rounds, bytesSent, totalMs, downtimeMs, converged }: SidecarReport): string {
  const { strategy, to, downtimeLimitMs } = options;
  const dark =
    downtimeMs === null
      ? ""
      : ` It stood still for ${formatMs(downtimeMs.total)} (asked for: ${formatMs(downtimeLimitMs)}).`;
  const forced = converged ? "" : " The rounds did not converge, and the switchover came anyway.";
  return (
    `It moved to ${to.host} port ${to.port} with strategy ${strategy}, in ${counted(rounds.length, "round")} and a ` +
    `switchover: ${formatBytes(bytesSent)} sent in ${formatMs(totalMs)}.${dark}${forced}`
  );
}

function cutLines(cuts: readonly QueueCut[], page: Page): string[] {
  const sentences = cuts.map(
    ({ queue, headAtPause, head, carried }) =>
      `Queue ${queue}: at the pause the head was ${headAtPause}; ${counted(carried, "descriptor")} came along that ` +
      `the card filled later; the destination went on at ${head}.`,
  );
  return [`${INDENT}Where the rings were cut`, ...bullets(sentences, page, INDENT)];
}
