// A migration in a few sentences: what moved, how long it was dark, what became of the frames, what the guest noticed.
import { unreachable } from "../base/assert.ts";
import type { ReceiveCut } from "../audit/verdict.ts";
import type { MigrationReport } from "../host/report.ts";
import { baselineDarkSentence, vfSentences } from "./report-baseline.ts";
import { counted, formatBytes, formatCount, formatMs, formatRate, formatSize } from "./quantities.ts";

/** Labels and what stands behind each. */
export function glance(report: MigrationReport): (readonly [label: string, text: string])[] {
  const lines: [string, string][] = [
    ["moved", movedSentence(report)],
    ...networkLines(report),
    ["guest", guestSentences(report).join(" ")],
    ...loadLine(report),
  ];
  switch (report.verdict) {
    case "consistent":
      return lines;
    case "corrupt":
      return [["wrong", wrongSentences(report).join(" ")], ...lines];
    case "stalled":
      return [["stalled", report.reasons.join(" ")], ...lines];
    default:
      return unreachable(report.verdict);
  }
}

function networkLines(report: MigrationReport): [string, string][] {
  const { baseline } = report;
  if (baseline === undefined) {
    return [
      ["dark", darkSentence(report)],
      ["frames", frameSentences(report).join(" ")],
    ];
  }
  const vf = vfSentences(baseline);
  return [
    ["dark", baselineDarkSentence(report, baseline)],
    ...(vf === undefined ? [] : [["vf", vf] as [string, string]]),
  ];
}

function wrongSentences({ corruptionTotals: totals, reasons }: MigrationReport): string[] {
  if (totals.corruptions === 0) return [...reasons];
  const sentences: string[] = [];
  if (totals.bytes > 0) {
    sentences.push(`${counted(totals.bytes, "byte")} in ${counted(totals.pages, "page")} are not the source's.`);
  }
  if (totals.frames > 0) {
    sentences.push(
      totals.frames === 1
        ? "1 frame that the guest was told it has is damaged."
        : `${formatCount(totals.frames)} frames that the guest was told it has are damaged.`,
    );
  }
  return sentences.length > 0 ? sentences : [`${counted(totals.corruptions, "thing")} found that must not be.`];
}

function movedSentence(report: MigrationReport): string {
  const { memoryBytes, machine, strategy, rounds, bytesSent, totalMs } = report;
  const how = `${report.baseline === undefined ? "strategy" : "baseline"} ${strategy}`;
  return (
    `${formatSize(memoryBytes)} of a running ${machine} guest, ${how}, in ${counted(rounds.length, "round")} and a ` +
    `switchover: ${formatBytes(bytesSent)} sent in ${formatMs(totalMs)}.`
  );
}

function darkSentence({ downtimeMs, outageMs, options }: MigrationReport): string {
  const still = `The guest stood still for ${formatMs(downtimeMs.total)} (asked for: ${formatMs(options.downtimeLimitMs)}).`;
  if (outageMs === null) return `${still} Too few frames came to say how long it got none.`;
  return `${still} No frame reached it for ${formatMs(outageMs)}.`;
}

function frameSentences({ frames }: MigrationReport): string[] {
  const fates = [
    `${formatCount(frames.delivered)} delivered`,
    frames.lost === 0 ? "none lost" : `${formatCount(frames.lost)} lost on the way, as any network may`,
    frames.discarded === 0
      ? "none discarded"
      : `${formatCount(frames.discarded)} discarded that the source's card wrote behind the cut`,
  ];
  const sentences = [`${fates.join("; ")}.`];
  if (frames.stale > 0) sentences.push(`${formatCount(frames.stale)} of the delivered are not what the card wrote.`);
  if (frames.sentTwice > 0) sentences.push(`${counted(frames.sentTwice, "frame")} from the guest went out twice.`);
  return sentences;
}

function guestSentences({ guest, options }: MigrationReport): string[] {
  const { pingsSent, pingsLost } = guest;
  const sentences = downloadSentences(guest);
  if (pingsSent !== null && pingsLost !== null) {
    sentences.push(
      pingsLost === 0
        ? `It answered every one of ${counted(pingsSent, "ping")}.`
        : `It left ${formatCount(pingsLost)} of ${counted(pingsSent, "ping")} unanswered.`,
    );
  }
  sentences.push(...guest.noticed);
  if (sentences.length > 0) return sentences;
  return [options.traffic === "none" ? "It was not asked: there was no traffic." : "It said nothing."];
}

function loadLine({ load }: MigrationReport): [string, string][] {
  if (load === null) return [];
  const { askedBitsPerSecond, reachedBitsPerSecond, framesSent, framesNotSent } = load;
  const sent = `The network sent ${counted(framesSent, "frame")} at ${formatRate(reachedBitsPerSecond / 8)}`;
  if (framesNotSent === 0) return [["load", `${sent}, as asked.`]];
  const asked = formatRate(askedBitsPerSecond / 8);
  return [
    ["load", `${sent} of ${asked} asked: this computer had no time for ${counted(framesNotSent, "frame")} more.`],
  ];
}

function downloadSentences({ downloadFinished, sha256Expected, sha256Actual }: MigrationReport["guest"]): string[] {
  if (downloadFinished === false) return ["The download it made during the move never finished."];
  if (sha256Expected === null || sha256Actual === null) return [];
  if (sha256Actual === sha256Expected)
    return [`The download it made during the move is whole: SHA-256 ${short(sha256Actual)}, computed inside.`];
  const [inside, outside] = [short(sha256Actual), short(sha256Expected)];
  return [`The download it made during the move is damaged: SHA-256 ${inside} inside, ${outside} on the server.`];
}

const short = (sha256: string): string =>
  sha256.length <= 20 ? sha256 : `${sha256.slice(0, 8)}...${sha256.slice(-4)}`;

/** How far the ring of the image goes, and how far the device had come meanwhile. */
export function cutSentence(cut: ReceiveCut): string {
  const came =
    cut.framesCarried === 0
      ? "no frame that came after it went along"
      : `${counted(cut.framesCarried, "frame")} that came after it went along`;
  return (
    `Queue ${cut.queue}, ${formatCount(cut.ringDescriptors)} descriptors: at the pause the head was ${cut.headAtPause}; ` +
    `${came}; the cut is at ${cut.cut}; the card on the source came to ${cut.headAtSourceEnd}; ` +
    `the destination went on at ${cut.headAtResume}.`
  );
}
