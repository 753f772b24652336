import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { get, type IncomingMessage } from "node:http";
import { test, type TestContext } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { hostClock } from "./clock.ts";
import { startHttpSource, type Download, type HttpSource } from "./http-source.ts";

async function sourceFor(t: TestContext, clock = hostClock): Promise<HttpSource> {
  const source = await startHttpSource(clock);
  t.after(() => source.close());
  return source;
}

function fetchFrom(source: HttpSource, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get({ host: "127.0.0.1", port: source.port, path, agent: false }, resolve).on("error", reject);
  });
}

async function hashOf(message: IncomingMessage): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of message as AsyncIterable<Uint8Array>) {
    hash.update(piece);
    bytes += piece.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Waits until the receiver has taken nothing for a while. */
async function untilStalled(download: Download): Promise<void> {
  for (let before = -1; before !== download.progress.bytes;) {
    before = download.progress.bytes;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("a download goes on until it is told to end, and both sides come to the same checksum", async (t) => {
  const source = await sourceFor(t);
  const download = source.offer({ name: "file", seed: 1, minBytes: 100_000 });
  const message = await fetchFrom(source, download.path);
  await download.started;
  assert.equal(message.headers["transfer-encoding"], "chunked");
  const received = hashOf(message);
  while (download.progress.bytes < 1_000_000) await new Promise(setImmediate);
  download.finish();
  const report = await download.done;
  const { bytes, sha256 } = await received;
  assert.equal(report.complete, true);
  assert.equal(report.bytes, bytes);
  assert.equal(report.sha256, sha256);
  assert.ok(bytes >= 1_000_000);
});

test("a download that is told to end early is as long as was asked for, and its bytes follow from the seed", async (t) => {
  const source = await sourceFor(t);
  const hashes: string[] = [];
  for (const [name, seed] of [
    ["a", 1],
    ["b", 1],
    ["c", 2],
  ] as const) {
    const download = source.offer({ name, seed, minBytes: 100_000 });
    download.finish();
    const { bytes, sha256 } = await hashOf(await fetchFrom(source, download.path));
    assert.equal(bytes, Math.ceil(100_000 / 16_384) * 16_384);
    hashes.push(sha256);
  }
  assert.equal(hashes[0], hashes[1]);
  assert.notEqual(hashes[0], hashes[2]);
});

test("a receiver that stops reading shows as a stall, and the stream is right afterwards", async (t) => {
  const clock = new ManualClock();
  const source = await sourceFor(t, clock);
  const download = source.offer({ name: "file", seed: 3, minBytes: 0 });
  const message = await fetchFrom(source, download.path);
  await untilStalled(download);
  assert.equal(download.progress.longestStallMs, 0);
  clock.advance(5000);
  assert.equal(download.progress.longestStallMs, 5000);
  const received = hashOf(message);
  download.finish();
  const report = await download.done;
  assert.equal(report.longestStallMs, 5000);
  assert.equal((await received).sha256, report.sha256);
});

test("a receiver that goes away ends the download as incomplete", async (t) => {
  const source = await sourceFor(t);
  const download = source.offer({ name: "file", seed: 4, minBytes: 0 });
  const message = await fetchFrom(source, download.path);
  message.on("error", () => {});
  message.destroy();
  const report = await download.done;
  assert.equal(report.complete, false);
});

test("a rate limit is never exceeded", async (t) => {
  const source = await sourceFor(t);
  const bytesPerSecondMax = 2_000_000;
  const download = source.offer({ name: "file", seed: 5, minBytes: 300_000, bytesPerSecondMax });
  download.finish();
  const received = hashOf(await fetchFrom(source, download.path));
  const { bytes, startedAtMs, endedAtMs } = await download.done;
  assert.ok(bytes <= (bytesPerSecondMax * (endedAtMs - startedAtMs + 20)) / 1000 + 16_384, `${bytes} bytes`);
  assert.equal((await received).bytes, bytes);
});

test("what is not offered is refused: another path, another method, a second time", async (t) => {
  const source = await sourceFor(t);
  const download = source.offer({ name: "file", seed: 6, minBytes: 0 });
  download.finish();
  assert.equal((await fetchFrom(source, "/other")).statusCode, 404);
  assert.equal((await fetch(`http://127.0.0.1:${source.port}/file`, { method: "POST" })).status, 405);
  assert.equal((await fetchFrom(source, "/file")).statusCode, 200);
  assert.equal((await fetchFrom(source, "/file")).statusCode, 409);
});
