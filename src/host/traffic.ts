// What the guest does while it is moved, and what it noticed of the move: pings answered, and a file downloaded.
import { setTimeout as sleep } from "node:timers/promises";
import { OperationError } from "../base/errors.ts";
import type { SeededRandom } from "../base/random.ts";
import { formatIpv4 } from "../network/ipv4.ts";
import { networkPlan } from "../network/plan.ts";
import { hostClock } from "./clock.ts";
import type { Fabric } from "./fabric.ts";
import { startHttpSource, type Download, type HttpSource } from "./http-source.ts";
import type { GuestObservations, TrafficKind } from "./report.ts";
import type { GuestCommandResult } from "./vm-host-messages.ts";

export type RunInGuest = (parameters: { command: string; timeoutMs: number }) => Promise<GuestCommandResult>;

export interface TrafficOptions {
  readonly kind: TrafficKind;
  readonly random: SeededRandom;
  readonly fabric: Fabric;
  /** The program; needed for a download. */
  readonly passt: string | undefined;
  readonly runInGuest: RunInGuest;
  readonly onStage: (text: string) => void;
}

export interface Traffic {
  /** Lets the traffic end on the destination, and asks the guest what it noticed. */
  finish(runInGuest: RunInGuest): Promise<GuestObservations>;
  close(): Promise<void>;
}

/** A ping every so often, small; and for `echo` a stream of large ones whose payloads are compared. */
const PING = { name: "small", intervalMs: 10, payloadBytes: 56 };
const ECHO = { name: "large", intervalMs: 4, payloadBytes: 1400 };
/** Pings are watched this long on the destination. */
const WATCH_MS = 1000;
const PING_TIMEOUT_MS = 1000;
/** The download is well under way before the move, and goes on for a while after it. */
const BYTES_BEFORE_MOVE = 3 << 19;
const BYTES_AFTER_MOVE = 3 << 19;
/**
 * What the emulated CPU can take in. A faster server would only fill the buffers between them, some megabytes in the
 * kernel and in passt, which the guest would still have to drain after the move.
 */
const BYTES_PER_SECOND_MAX = 3 << 19;
const DOWNLOAD_START_TIMEOUT_MS = 20_000;
/** A guest whose queue hangs takes in nothing any more; after this long without a segment its download is given up. */
const DOWNLOAD_STALL_MS = 8000;
const DOWNLOAD_POLL_MS = 100;
const COMMAND_TIMEOUT_MS = 10_000;

/**
 * passt repeats its whole window when a segment is lost. With the window that Linux grows to, hundreds of segments, that
 * is more than the emulated CPU can take in before it is repeated again.
 */
const LIMIT_WINDOW = "echo 4096 65536 65536 > /proc/sys/net/ipv4/tcp_rmem";

const SUM_FILE = "/root/underway-sum";

export async function startTraffic(options: TrafficOptions): Promise<Traffic> {
  const { kind, fabric, random, onStage } = options;
  const traffic = new GuestTraffic(options);
  if (kind === "none") return traffic;
  onStage(
    kind === "download" ? "Starting the download in the guest, and pings" : "Starting verified echoes, and pings",
  );
  await fabric.call("startPinger", { ...PING, seed: random.u32(), timeoutMs: PING_TIMEOUT_MS });
  if (kind === "echo") await fabric.call("startPinger", { ...ECHO, seed: random.u32(), timeoutMs: PING_TIMEOUT_MS });
  if (kind === "download") await traffic.startDownload();
  else await sleep(WATCH_MS);
  await traffic.noteBefore();
  return traffic;
}

class GuestTraffic implements Traffic {
  readonly #options: TrafficOptions;
  #http: HttpSource | undefined;
  #download: Download | undefined;
  #before: NetworkCounts = noCounts;

  constructor(options: TrafficOptions) {
    this.#options = options;
  }

  async noteBefore(): Promise<void> {
    this.#before = await readCounts(this.#options.runInGuest);
  }

  async startDownload(): Promise<void> {
    const { fabric, passt, random, runInGuest } = this.#options;
    if (passt === undefined) throw new Error("a download needs passt");
    await fabric.call("connectPasst", { program: passt });
    this.#http = await startHttpSource(hostClock);
    const minBytes = BYTES_BEFORE_MOVE + BYTES_AFTER_MOVE;
    this.#download = this.#http.offer({
      name: "stream",
      seed: random.u32(),
      minBytes,
      bytesPerSecondMax: BYTES_PER_SECOND_MAX,
    });
    await runInGuest({ command: LIMIT_WINDOW, timeoutMs: COMMAND_TIMEOUT_MS });
    const url = `http://${formatIpv4(networkPlan.gatewayIp)}:${this.#http.port}${this.#download.path}`;
    const command = `(wget -q -O - ${url} | sha256sum > ${SUM_FILE}.part; mv ${SUM_FILE}.part ${SUM_FILE}) >/dev/null 2>&1 &`;
    await runInGuest({ command, timeoutMs: COMMAND_TIMEOUT_MS });
    await this.#waitForBytes(BYTES_BEFORE_MOVE, DOWNLOAD_START_TIMEOUT_MS);
  }

  async #waitForBytes(bytes: number, timeoutMs: number): Promise<void> {
    const startMs = hostClock.nowMs();
    while ((this.#download?.progress.bytes ?? bytes) < bytes) {
      if (hostClock.nowMs() - startMs > timeoutMs) {
        throw new OperationError({
          code: "download-stuck",
          message: `The guest's download did not reach ${bytes} bytes within ${timeoutMs / 1000} s, before the move.`,
          advice: "Try again with --traffic echo; if that works, passt cannot reach this host's loopback.",
          facts: { bytes: this.#download?.progress.bytes ?? 0 },
        });
      }
      await sleep(20);
    }
  }

  async finish(runInGuest: RunInGuest): Promise<GuestObservations> {
    if (this.#options.kind === "none") {
      return { sha256Expected: null, sha256Actual: null, pingsSent: null, pingsLost: null, noticed: [] };
    }
    const movedAtMs = hostClock.nowMs();
    const download = await this.#finishDownload(runInGuest);
    const watchedMs = hostClock.nowMs() - movedAtMs;
    if (watchedMs < WATCH_MS) await sleep(WATCH_MS - watchedMs);
    const pings = await this.#pings(movedAtMs);
    const noticed = [...download.noticed, ...pings.noticed, ...(await this.#changes(runInGuest))];
    return { ...download.sums, pingsSent: pings.sent, pingsLost: pings.lost, noticed };
  }

  async #finishDownload(runInGuest: RunInGuest): Promise<{
    sums: Pick<GuestObservations, "sha256Expected" | "sha256Actual">;
    noticed: string[];
  }> {
    const download = this.#download;
    if (download === undefined) return { sums: { sha256Expected: null, sha256Actual: null }, noticed: [] };
    const { bytes } = download.progress;
    const progress = new SegmentProgress(runInGuest);
    while (download.progress.bytes < bytes + BYTES_AFTER_MOVE && (await progress.isMade()))
      await sleep(DOWNLOAD_POLL_MS);
    download.finish();
    let sha256Actual = await readSum(runInGuest);
    while (sha256Actual === null && (await progress.isMade())) {
      await sleep(DOWNLOAD_POLL_MS);
      sha256Actual = await readSum(runInGuest);
    }
    const noticed = sha256Actual === null ? ["The download stood still after the move."] : [];
    const report = await Promise.race([download.done, sleep(DOWNLOAD_STALL_MS, undefined, { ref: false })]);
    return { sums: { sha256Expected: report?.sha256 ?? "unfinished", sha256Actual }, noticed };
  }

  /** Pings of the whole run are counted as lost; those sent after the move must all be answered. */
  async #pings(movedAtMs: number): Promise<{ sent: number; lost: number; noticed: string[] }> {
    const { fabric, kind } = this.#options;
    const noticed: string[] = [];
    let sent = 0;
    let lost = 0;
    for (const { name } of kind === "echo" ? [PING, ECHO] : [PING]) {
      await fabric.call("stopPinger", { name });
      await sleep(PING_TIMEOUT_MS);
      const whole = await fabric.call("pingReport", { name });
      const after = await fabric.call("pingReport", { name, sentFromMs: movedAtMs });
      sent += whole.sent;
      lost += whole.lost + whole.corrupt + whole.pending;
      if (whole.corrupt > 0)
        noticed.push(`${whole.corrupt} answers to ${name} pings carried other bytes than were sent.`);
      const lostAfter = after.lost + after.pending;
      if (lostAfter > 0)
        noticed.push(`${lostAfter} of ${after.sent} ${name} pings sent after the move were never answered.`);
      noticed.push(`The longest time without an answer to a ${name} ping was ${Math.round(whole.longestGapMs)} ms.`);
    }
    return { sent, lost, noticed };
  }

  async #changes(runInGuest: RunInGuest): Promise<string[]> {
    try {
      return changedSentences(this.#before, await readCounts(runInGuest));
    } catch (thrown) {
      if (!(thrown instanceof OperationError)) throw thrown;
      return ["The guest's console no longer answers."];
    }
  }

  async close(): Promise<void> {
    await this.#http?.close();
  }
}

/** The checksum once the guest has it; null before, and when its console does not answer. */
async function readSum(runInGuest: RunInGuest): Promise<string | null> {
  const output = await outputOf(runInGuest, `cat ${SUM_FILE} 2>/dev/null`);
  return /^[0-9a-f]{64}/m.exec(output)?.[0] ?? null;
}

/** What a command prints, or nothing if the guest does not answer. */
async function outputOf(runInGuest: RunInGuest, command: string): Promise<string> {
  try {
    return (await runInGuest({ command, timeoutMs: COMMAND_TIMEOUT_MS })).output;
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
    return "";
  }
}

/** Whether TCP segments still reach the guest's stack, as the guest counts them. */
class SegmentProgress {
  readonly #runInGuest: RunInGuest;
  #segments = -1;
  #sinceMs = hostClock.nowMs();

  constructor(runInGuest: RunInGuest) {
    this.#runInGuest = runInGuest;
  }

  async isMade(): Promise<boolean> {
    const output = await outputOf(this.#runInGuest, "cat /proc/net/snmp");
    const segments = snmpFields(output, "Tcp").get("InSegs") ?? this.#segments;
    if (segments > this.#segments) {
      this.#segments = segments;
      this.#sinceMs = hostClock.nowMs();
    }
    return hostClock.nowMs() - this.#sinceMs < DOWNLOAD_STALL_MS;
  }
}

/** What the guest's own kernel counts. */
interface NetworkCounts {
  readonly retransmitted: number;
  readonly checksumErrors: number;
  readonly receiveErrors: number;
  readonly complaints: number;
}

const noCounts: NetworkCounts = { retransmitted: 0, checksumErrors: 0, receiveErrors: 0, complaints: 0 };

async function readCounts(runInGuest: RunInGuest): Promise<NetworkCounts> {
  const command =
    "cat /proc/net/snmp; cat /sys/class/net/eth0/statistics/rx_errors; dmesg | grep -ciE 'hang|bug|oops|reset'";
  const { output } = await runInGuest({ command, timeoutMs: COMMAND_TIMEOUT_MS });
  const numbers = output.split("\n").flatMap((line) => (/^\d+\s*$/.test(line) ? [Number(line)] : []));
  const tcp = snmpFields(output, "Tcp");
  const count = (name: string): number => tcp.get(name) ?? 0;
  return {
    retransmitted: count("RetransSegs"),
    checksumErrors: count("InCsumErrors") + count("InErrs") + (snmpFields(output, "Icmp").get("InCsumErrors") ?? 0),
    receiveErrors: numbers[0] ?? 0,
    complaints: numbers[1] ?? 0,
  };
}

/** /proc/net/snmp: a line of names and a line of numbers for each protocol. */
function snmpFields(text: string, protocol: string): Map<string, number> {
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith(`${protocol}: `));
  const names = lines[0]?.split(" ").slice(1) ?? [];
  const values = lines[1]?.split(" ").slice(1) ?? [];
  return new Map(names.map((name, i) => [name, Number(values[i] ?? 0)]));
}

function changedSentences(before: NetworkCounts, now: NetworkCounts): string[] {
  const sentences: string[] = [];
  const say = (count: number, sentence: string): void => void (count > 0 && sentences.push(`${count} ${sentence}`));
  say(now.retransmitted - before.retransmitted, "TCP segments were sent again by the guest.");
  say(now.checksumErrors - before.checksumErrors, "packets reached the guest's stack with a wrong checksum.");
  say(now.receiveErrors - before.receiveErrors, "receive errors were counted by the guest's driver.");
  say(now.complaints - before.complaints, "new complaints stand in the guest's kernel log.");
  return sentences;
}
