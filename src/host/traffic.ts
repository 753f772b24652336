// What the guest does while it is moved, and what it noticed of the move: pings answered, and a file downloaded.
import { setTimeout as sleep } from "node:timers/promises";
import { OperationError } from "../base/errors.ts";
import type { SeededRandom } from "../base/random.ts";
import { formatIpv4 } from "../network/ipv4.ts";
import { networkPlan } from "../network/plan.ts";
import { hostClock } from "./clock.ts";
import type { Fabric } from "./fabric.ts";
import { startHttpSource, type Download, type HttpSource } from "./http-source.ts";
import { changedSentences, noCounts, readCounts, type NetworkCounts } from "./guest-counts.ts";
import {
  COMMAND_TIMEOUT_MS,
  DOWNLOAD_STALL_MS,
  downloadCommand,
  GuestDownload,
  type DownloadEnd,
  type RunInGuest,
} from "./guest-download.ts";
import type { GuestObservations, TrafficKind } from "./report.ts";

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
export const PING = { name: "small", intervalMs: 10, payloadBytes: 56 };
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

/**
 * passt repeats its whole window when a segment is lost. With the window that Linux grows to, hundreds of segments, that
 * is more than the emulated CPU can take in before it is repeated again.
 */
const LIMIT_WINDOW = "echo 4096 65536 65536 > /proc/sys/net/ipv4/tcp_rmem";

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

type DownloadSeen = Pick<GuestObservations, "downloadFinished" | "sha256Expected" | "sha256Actual">;
const noDownload: DownloadSeen = { downloadFinished: null, sha256Expected: null, sha256Actual: null };

/** Linux counts no frames of ours, and lives. */
const noFrames: Pick<GuestObservations, "frames" | "panic"> = { frames: null, panic: null };

const unfinishedSentence = (end: DownloadEnd | undefined): string =>
  end === undefined ? "The download stood still after the move." : "The download broke off after the move.";

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
    await runInGuest({ command: downloadCommand(url), timeoutMs: COMMAND_TIMEOUT_MS });
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
      return { ...noDownload, ...noFrames, pingsSent: null, pingsLost: null, noticed: [] };
    }
    const movedAtMs = hostClock.nowMs();
    const download = await this.#finishDownload(runInGuest);
    const watchedMs = hostClock.nowMs() - movedAtMs;
    if (watchedMs < WATCH_MS) await sleep(WATCH_MS - watchedMs);
    const pings = await this.#pings(movedAtMs);
    const noticed = [...download.noticed, ...pings.noticed, ...(await this.#changes(runInGuest))];
    return { ...download.seen, ...noFrames, pingsSent: pings.sent, pingsLost: pings.lost, noticed };
  }

  async #finishDownload(runInGuest: RunInGuest): Promise<{ seen: DownloadSeen; noticed: string[] }> {
    const download = this.#download;
    if (download === undefined) return { seen: noDownload, noticed: [] };
    const bytesEnough = download.progress.bytes + BYTES_AFTER_MOVE;
    const inside = new GuestDownload({ runInGuest, clock: hostClock, pause: (ms) => sleep(ms) });
    await inside.untilEnded(() => download.progress.bytes >= bytesEnough);
    download.finish();
    const end = await inside.untilEnded();
    const served = await Promise.race([download.done, sleep(DOWNLOAD_STALL_MS, undefined, { ref: false })]);
    const seen = {
      downloadFinished: end?.isWhole === true && served?.complete === true,
      sha256Expected: served?.sha256 ?? null,
      sha256Actual: end?.sha256 ?? null,
    };
    return { seen, noticed: seen.downloadFinished ? [] : [unfinishedSentence(end)] };
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
