// What people do today, on two real QEMUs: with failover and with virtio-net alone, through the program itself.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest } from "../src/host/assets-qemu.ts";
import type { BaselineMeasures, MigrationReport } from "../src/host/report.ts";
import { notRun, passtProgram } from "../src/host/test-programs.ts";
import { loadNative } from "../src/machine/qemu/native.ts";

const program = path.join(import.meta.dirname, "..", "bin", "underway");
const TIMEOUT_MS = 180_000;

async function canRun(t: TestContext): Promise<boolean> {
  if (loadNative() === undefined) return notRun(t, "koffi is not there, or has nothing for this machine") ?? false;
  try {
    await prepareQemu();
    await prepareQemuGuest();
    return (await passtProgram(t)) !== undefined;
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return notRun(t, error.message) ?? false;
  }
}

function migrate(...more: string[]): Promise<{ exitCode: number; report: MigrationReport; said: string }> {
  const words = ["migrate", "--machine", "qemu", "--memory", "160M", "--seed", "7", "--json", ...more];
  return new Promise((resolve, reject) => {
    execFile(program, words, { timeout: TIMEOUT_MS, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : Number(error.code);
      try {
        resolve({ exitCode, report: JSON.parse(stdout) as MigrationReport, said: stderr });
      } catch (cause) {
        reject(new Error(`${words.join(" ")}: exit ${exitCode}\n${stdout}\n${stderr}`, { cause }));
      }
    });
  });
}

/** What holds for any of them; gives what is measured beside the rest. */
function assertMoved(t: TestContext, moved: Awaited<ReturnType<typeof migrate>>): BaselineMeasures {
  const { exitCode, report, said } = moved;
  const about = `${JSON.stringify(report)}\n${said}`;
  assert.equal(report.verdict, "consistent", about);
  assert.equal(exitCode, 0, about);
  assert.match(report.guest.sha256Actual ?? "none", /^[0-9a-f]{64}$/);
  assert.equal(report.guest.sha256Actual, report.guest.sha256Expected);
  assert.ok(report.downtimeMs.total > 0 && report.rounds.length >= 1 && report.bytesSent > 1 << 20, about);
  assert.ok(report.outageMs !== null && report.outageMs > 0, about);
  assert.ok(
    report.doesNotVerify.some((sentence) => sentence.startsWith("Memory: ")),
    "a report without an audit says so",
  );
  const { baseline, downtimeMs, outageMs } = report;
  assert.ok(baseline !== undefined, about);
  t.diagnostic(JSON.stringify({ downtimeMs: downtimeMs.total, outageMs, ...baseline }));
  return baseline;
}

test("with failover QEMU moves a guest that downloads, without its VF, and the guest has another one there", async (t) => {
  if (!(await canRun(t))) return;
  const { withoutVfMs, pingGapsMs } = assertMoved(t, await migrate("--strategy", "failover"));
  assert.ok(withoutVfMs !== null && withoutVfMs > 0);
  assert.ok(pingGapsMs.unplug !== null && pingGapsMs.plugIn !== null);
});

test("with failover behind two ports, of which nobody tells the network, the guest has its VF again all the same", async (t) => {
  if (!(await canRun(t))) return;
  // How long the network goes on sending to the wrong port is not for us to say: its download may have been given up.
  const { report } = await migrate("--strategy", "failover-unmanaged");
  assert.ok(["consistent", "stalled"].includes(report.verdict), JSON.stringify(report));
  const { withoutVfMs = null } = report.baseline ?? {};
  assert.ok(withoutVfMs !== null && withoutVfMs > 0, JSON.stringify(report));
});

test("with virtio-net alone QEMU moves a guest that downloads", async (t) => {
  if (!(await canRun(t))) return;
  const { withoutVfMs, pingGapsMs } = assertMoved(t, await migrate("--strategy", "virtio-net"));
  assert.equal(withoutVfMs, null);
  assert.equal(pingGapsMs.unplug, null);
});
