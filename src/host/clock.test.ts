import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { hostClock } from "./clock.ts";

test("another process's reading lies between two readings of ours that enclose it, within a tenth of a millisecond", async () => {
  const program = `import { hostClock } from ${JSON.stringify(new URL("./clock.ts", import.meta.url).href)};
    console.log(hostClock.nowMs());`;
  const beforeMs = hostClock.nowMs();
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program]);
  const afterMs = hostClock.nowMs();
  const readingMs = Number(stdout);
  assert.ok(readingMs >= beforeMs - 0.1 && readingMs <= afterMs + 0.1, `${beforeMs} ${readingMs} ${afterMs}`);
});
