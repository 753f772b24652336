import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import type { QemuSettings } from "./qemu-command-line.ts";
import { QemuProcess, tellEnd } from "./qemu-process.ts";

const settings: Omit<QemuSettings, "qmpPath" | "serialPath"> = {
  memoryBytes: 64 << 20,
  accelerator: "tcg",
  cpuModel: "max",
  vIommu: "none",
  incoming: false,
};

test("a program that is no QEMU fails with what it said", async () => {
  const failing = ["/bin/sh", "-c", "echo no such machine >&2; exit 3"];
  await assert.rejects(QemuProcess.start({ command: failing, settings }), {
    code: "qemu-start-failed",
    message: /status 3: no such machine/,
  });
  await assert.rejects(QemuProcess.start({ command: ["/nonexistent/qemu"], settings }), { code: "qemu-start-failed" });
});

test("a folder too deep for sockets fails before anything is started", async (t) => {
  const deep = await mkdtemp(path.join(tmpdir(), `${"x".repeat(110)}-`));
  t.after(() => rm(deep, { recursive: true }));
  await assert.rejects(QemuProcess.start({ command: ["/bin/false"], settings, runDirectory: deep }), {
    code: "qemu-start-failed",
    message: /too long for a socket/,
  });
});

test("an end by a signal and one with words are told apart", () => {
  assert.equal(tellEnd({ status: null, signal: "SIGKILL", lastWords: "" }), "it was ended by SIGKILL");
  assert.equal(tellEnd({ status: 1, signal: null, lastWords: "bad option" }), "it ended with status 1: bad option");
});
