// A real HTTP server on loopback whose downloads are endless until told to end, so that traffic spans a whole move.
import { createCipheriv, createHash, type Cipheriv, type Hash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Clock } from "../base/clock.ts";
import { assert } from "../base/assert.ts";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";

export interface DownloadOptions {
  /** The download is at `/name`. Letters, digits, dots and hyphens. */
  readonly name: string;
  /** Everything in the stream follows from it. */
  readonly seed: number;
  /** The stream is at least this long, however early `finish` is called. */
  readonly minBytes: number;
  /** The default is as fast as the receiver takes it. */
  readonly bytesPerSecondMax?: number;
}

export interface DownloadProgress {
  /** Bytes handed to the operating system, whose buffers may hold some of them. */
  readonly bytes: number;
  /** Longest time the receiver took nothing, the present moment included. */
  readonly longestStallMs: number;
}

export interface DownloadReport extends DownloadProgress {
  /** Whether the whole stream and its end were sent; the receiver may have gone away before. */
  readonly complete: boolean;
  /** Of everything that was sent: what the receiver must come to if the stream is complete. Hexadecimal. */
  readonly sha256: string;
  readonly startedAtMs: number;
  readonly endedAtMs: number;
}

/** Small, so that stalls are seen in time; large enough to be cheap. */
const PIECE_BYTES = 16_384;
/** How far a sender that came late, since timers are coarse, may catch up. */
const RATE_SLACK_MS = 20;
/** The plaintext whose encryption is the stream. */
const zeros = new Uint8Array(PIECE_BYTES);

/** One stream, to be fetched once. */
export class Download {
  readonly name: string;
  readonly #options: DownloadOptions;
  readonly #clock: Clock;
  readonly #hash: Hash = createHash("sha256");
  readonly #keystream: Cipheriv;
  readonly #started = Promise.withResolvers<void>();
  readonly #done = Promise.withResolvers<DownloadReport>();
  #hasStarted = false;
  #isFinishing = false;
  #bytes = 0;
  #startedAtMs = 0;
  /** When the piece that the receiver is to take now was offered. */
  #offeredAtMs = Infinity;
  #longestStallMs = 0;
  #nextAtMs = -Infinity;

  constructor(options: DownloadOptions, clock: Clock) {
    assert(/^[\w.-]+$/.test(options.name), `not a name for a download: ${options.name}`);
    this.name = options.name;
    this.#options = options;
    this.#clock = clock;
    // AES in counter mode: as fast as memory, and it never repeats, so that no stale buffer looks right.
    const random = new SeededRandom(options.seed);
    const key = Uint8Array.from({ length: 16 }, () => random.u32());
    this.#keystream = createCipheriv("aes-128-ctr", key, new Uint8Array(16));
  }

  get path(): string {
    return `/${this.name}`;
  }

  /** Resolves when the receiver has asked for it. */
  get started(): Promise<void> {
    return this.#started.promise;
  }

  /** Resolves when the stream has ended, by `finish` or because the receiver went away. */
  get done(): Promise<DownloadReport> {
    return this.#done.promise;
  }

  get progress(): DownloadProgress {
    const waitingMs = this.#clock.nowMs() - this.#offeredAtMs;
    return { bytes: this.#bytes, longestStallMs: Math.max(this.#longestStallMs, waitingMs) };
  }

  /** Lets the stream end as soon as it is long enough. */
  finish(): void {
    this.#isFinishing = true;
  }

  /** Sends the stream as the answer. False when it was asked for before. */
  serve(response: ServerResponse): boolean {
    if (this.#hasStarted) return false;
    this.#hasStarted = true;
    this.#startedAtMs = this.#clock.nowMs();
    this.#started.resolve();
    const gone = new Promise<void>((resolve) => {
      response.on("close", resolve);
    });
    response.writeHead(200, { "content-type": "application/octet-stream", connection: "close" });
    this.#stream(response, gone).then(this.#done.resolve, this.#done.reject);
    return true;
  }

  async #stream(response: ServerResponse, gone: Promise<void>): Promise<DownloadReport> {
    let isTaking = true;
    while (isTaking && !(this.#isFinishing && this.#bytes >= this.#options.minBytes)) {
      await this.#keepRate();
      const piece = this.#keystream.update(zeros);
      // A receiver as fast as we are would keep everything else in this process from its turn.
      await new Promise(setImmediate);
      isTaking = await Promise.race([this.#send(response, piece), gone.then(() => false)]);
    }
    const ended = new Promise<boolean>((resolve) => {
      response.end(() => resolve(true));
    });
    const complete = await Promise.race([ended, gone.then(() => response.writableFinished)]);
    const { longestStallMs } = this.progress;
    this.#longestStallMs = longestStallMs;
    this.#offeredAtMs = Infinity;
    return {
      complete,
      bytes: this.#bytes,
      sha256: this.#hash.digest("hex"),
      longestStallMs,
      startedAtMs: this.#startedAtMs,
      endedAtMs: this.#clock.nowMs(),
    };
  }

  /** Resolves when the operating system has taken the piece; to false when it will not, since the receiver went away. */
  async #send(response: ServerResponse, piece: Uint8Array): Promise<boolean> {
    this.#offeredAtMs = this.#clock.nowMs();
    this.#hash.update(piece);
    const isTaken = await new Promise<boolean>((resolve) => {
      response.write(piece, (error) => resolve(error === null || error === undefined));
    });
    if (!isTaken) return false;
    this.#bytes += piece.length;
    this.#longestStallMs = Math.max(this.#longestStallMs, this.#clock.nowMs() - this.#offeredAtMs);
    this.#offeredAtMs = Infinity;
    return true;
  }

  /** Waits until the rate allows another piece. Time that the receiver lost is not made up for by a burst later. */
  async #keepRate(): Promise<void> {
    const rate = this.#options.bytesPerSecondMax;
    if (rate === undefined) return;
    const nowMs = this.#clock.nowMs();
    this.#nextAtMs = Math.max(this.#nextAtMs, nowMs - RATE_SLACK_MS) + (PIECE_BYTES / rate) * 1000;
    const waitMs = this.#nextAtMs - nowMs;
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

export interface HttpSource {
  readonly port: number;
  offer(options: DownloadOptions): Download;
  /** Stops serving and ends what is under way. */
  close(): Promise<void>;
}

/** Serves on 127.0.0.1, at a port the system chooses. Rejects with OperationError `http-source-failed`. */
export async function startHttpSource(clock: Clock): Promise<HttpSource> {
  const downloads = new Map<string, Download>();
  const server = createServer((request, response) => answer(downloads, request, response));
  await listen(server);
  return {
    port: (server.address() as AddressInfo).port,
    offer: (options) => {
      const download = new Download(options, clock);
      assert(!downloads.has(download.path), `two downloads named ${options.name}`);
      downloads.set(download.path, download);
      return download;
    },
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

function answer(downloads: ReadonlyMap<string, Download>, request: IncomingMessage, response: ServerResponse): void {
  const refuse = (status: number): void => void response.writeHead(status, { connection: "close" }).end();
  const download = downloads.get(request.url ?? "");
  if (request.method !== "GET") refuse(405);
  else if (download === undefined) refuse(404);
  else if (!download.serve(response)) refuse(409);
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      reject(
        new OperationError({
          code: "http-source-failed",
          message: `cannot serve HTTP on 127.0.0.1: ${cause.message}`,
          advice: "See whether this machine has a loopback interface.",
          cause,
        }),
      );
    });
    server.listen(0, "127.0.0.1", resolve);
  });
}
