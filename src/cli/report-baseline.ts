// A baseline in sentences: what is said otherwise of a guest that QEMU moved alone, whose memory nobody audited.
import type { BaselineMeasures, MigrationReport } from "../host/report.ts";
import { formatMs } from "./quantities.ts";

export const baselineHeadlines: Readonly<Record<MigrationReport["verdict"], string>> = {
  consistent: "The guest moved, and what it noticed is in order; its memory was not audited.",
  corrupt: "The guest moved, but what it downloaded is not what was sent.",
  stalled: "The guest moved, but its traffic did not go on as before.",
};

export function baselineDarkSentence(report: MigrationReport, { qemuDowntimeMs }: BaselineMeasures): string {
  const { downtimeMs, outageMs, options } = report;
  const asked = `asked for: ${formatMs(options.downtimeLimitMs)}; QEMU itself says ${formatMs(qemuDowntimeMs)}`;
  const still = `The guest stood still for ${formatMs(downtimeMs.total)} (${asked}).`;
  return outageMs === null ? still : `${still} It answered no ping for ${formatMs(outageMs)} at the longest.`;
}

/** Undefined for a guest that never had a VF. */
export function vfSentences({ withoutVfMs, pingGapsMs }: BaselineMeasures): string | undefined {
  const { unplug, pause, plugIn } = pingGapsMs;
  if (unplug === null) return undefined;
  const gaps = [
    `${formatMs(unplug)} until the VF was unplugged and the guest stood still`,
    `${formatMs(pause)} around that`,
    ...(plugIn === null ? [] : [`${formatMs(plugIn)} from when another VF was plugged in`]),
  ].join(", ");
  const without =
    withoutVfMs === null
      ? "The guest got no VF back."
      : `No frame came through a VF for ${formatMs(withoutVfMs)}: virtio-net stood in.`;
  return `${without} The longest times without an answer to a ping: ${gaps}.`;
}
