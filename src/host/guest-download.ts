// The download as the guest sees it: the command that makes it, how far it has come, and how it ended.
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import type { GuestCommandResult } from "./vm-host-messages.ts";

export type RunInGuest = (parameters: { command: string; timeoutMs: number }) => Promise<GuestCommandResult>;

export const COMMAND_TIMEOUT_MS = 10_000;
/** A guest whose queue hangs takes in nothing any more; after this long without a byte its download is given up. */
export const DOWNLOAD_STALL_MS = 8000;
/** One look that a slow guest answers late, or not in time, is no evidence. */
const LOOKS_IN_VAIN_MIN = 2;
const POLL_MS = 100;

const STATUS_FILE = "/root/underway-status";
const SUM_FILE = "/root/underway-sum";

/** Downloads in the background, and keeps the exit status of wget and the checksum of what it got. */
export function downloadCommand(url: string): string {
  const get = `{ wget -q -O - ${url}; echo $? > ${STATUS_FILE}; }`;
  return `(${get} | sha256sum > ${SUM_FILE}.part; mv ${SUM_FILE}.part ${SUM_FILE}) >/dev/null 2>&1 &`;
}

/** How a download ended inside the guest. */
export interface DownloadEnd {
  /** Whether wget got everything; if not, the connection broke off, and the checksum is that of a part. */
  readonly isWhole: boolean;
  readonly sha256: string;
}

/**
 * Looks at the download now and then. What counts as going on is what wget has read (/proc, `rchar`), not segments: a
 * guest whose connection is stuck may still be sent some.
 */
export class GuestDownload {
  readonly #runInGuest: RunInGuest;
  readonly #clock: Clock;
  readonly #pause: (ms: number) => Promise<unknown>;
  #bytesRead = -1;
  #sinceMs: number;
  #looksInVain = 0;

  constructor(options: { runInGuest: RunInGuest; clock: Clock; pause: (ms: number) => Promise<unknown> }) {
    this.#runInGuest = options.runInGuest;
    this.#clock = options.clock;
    this.#pause = options.pause;
    this.#sinceMs = options.clock.nowMs();
  }

  /** Waits until the download has ended, `isEnough` says so or it stands still. Resolves to how it ended, if it did. */
  async untilEnded(isEnough: () => boolean = () => false): Promise<DownloadEnd | undefined> {
    for (;;) {
      const end = await this.#look();
      if (end !== undefined || isEnough() || this.#standsStill) return end;
      await this.#pause(POLL_MS);
    }
  }

  get #standsStill(): boolean {
    return this.#looksInVain >= LOOKS_IN_VAIN_MIN && this.#clock.nowMs() - this.#sinceMs >= DOWNLOAD_STALL_MS;
  }

  async #look(): Promise<DownloadEnd | undefined> {
    const command = `cat ${SUM_FILE} ${STATUS_FILE} /proc/$(pidof wget)/io 2>/dev/null`;
    const output = await outputOf(this.#runInGuest, command);
    const bytesRead = Number(/^rchar: (\d+)/m.exec(output)?.[1] ?? -1);
    this.#looksInVain++;
    if (bytesRead > this.#bytesRead) {
      this.#looksInVain = 0;
      this.#bytesRead = bytesRead;
      this.#sinceMs = this.#clock.nowMs();
    }
    const [, sha256, status] = /^([0-9a-f]{64}) +-\s+^(\d+)\s/m.exec(output) ?? [];
    return sha256 === undefined ? undefined : { isWhole: status === "0", sha256 };
  }
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
