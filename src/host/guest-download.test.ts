import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { DOWNLOAD_STALL_MS, downloadCommand, GuestDownload } from "./guest-download.ts";

const sha256 = "5".repeat(64);
const read = (bytes: number): string => `rchar: ${bytes}\r\nwchar: 0\r\n`;
const ended = (status: number): string => `${sha256}  -\r\n${status}\r\n`;

/** A guest that shows one thing after the other, the last one for ever. Each look takes `lookMs`. */
function download(shown: readonly (string | OperationError)[], lookMs = 1) {
  const clock = new ManualClock();
  let looks = 0;
  const inside = new GuestDownload({
    clock,
    pause: async (ms) => clock.advance(ms),
    runInGuest: async () => {
      clock.advance(lookMs);
      const output = shown[Math.min(looks++, shown.length - 1)] ?? "";
      if (output instanceof OperationError) throw output;
      return { output, exitStatus: 0 };
    },
  });
  return { inside, clock, looks: () => looks };
}

test("a download that ends tells its checksum, and whether that is the checksum of all of it", async () => {
  for (const status of [0, 1, 10]) {
    const { inside, looks } = download([read(1), read(2), ended(status)]);
    assert.deepEqual(await inside.untilEnded(), { isWhole: status === 0, sha256 });
    assert.equal(looks(), 3);
  }
});

test("a download that goes on is waited for as long as it takes, and one that does not is given up", async () => {
  const going = Array.from({ length: 50 }, (_, i) => read(i));
  const { inside, clock } = download(going, DOWNLOAD_STALL_MS - 200);
  assert.equal(await inside.untilEnded(), undefined);
  assert.ok(clock.nowMs() >= 50 * (DOWNLOAD_STALL_MS - 200) + DOWNLOAD_STALL_MS, String(clock.nowMs()));
});

test("a guest that stands still, says nothing or does not answer is given up when its time is over", async () => {
  const silent = new OperationError({ code: "guest-command-timeout", message: "no answer", advice: "none" });
  for (const shown of [read(7), "", "cat: can't open '/proc//io'", silent]) {
    const { inside, clock } = download([shown]);
    assert.equal(await inside.untilEnded(), undefined);
    assert.ok(clock.nowMs() >= DOWNLOAD_STALL_MS && clock.nowMs() < DOWNLOAD_STALL_MS + 300, String(clock.nowMs()));
  }
});

test("one look that is not answered in time gives nothing up", async () => {
  const late = new OperationError({ code: "guest-command-timeout", message: "no answer", advice: "none" });
  const { inside } = download([read(1), late, read(2), late, ended(0)], DOWNLOAD_STALL_MS + 2000);
  assert.deepEqual(await inside.untilEnded(), { isWhole: true, sha256 });
});

test("it is waited for no longer than is asked", async () => {
  const { inside, looks } = download([read(1), read(2), read(3)]);
  assert.equal(await inside.untilEnded(() => looks() === 2), undefined);
  assert.equal(looks(), 2);
});

test("a checksum that is only half written counts for nothing", async () => {
  const { inside } = download([`${sha256.slice(1)}  -\r\n0\r\n`, `${sha256}  -\r\n`, ended(0)]);
  assert.deepEqual(await inside.untilEnded(), { isWhole: true, sha256 });
});

test("the command it all begins with is one that a shell understands", async () => {
  await new Promise<void>((resolve, reject) =>
    execFile("sh", ["-n", "-c", downloadCommand("http://10.0.2.2:80/stream")], (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
});
