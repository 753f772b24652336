// One baseline from beginning to end: fabric, two QEMUs, traffic, a migration by QEMU alone, the report.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../base/random.ts";
import { runCommand } from "../machine/shell.ts";
import { migratePlainly } from "../machine/qemu/plain-migration.ts";
import { formatMac } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import type { Baseline } from "../strategy/baselines.ts";
import {
  cablesOf,
  expectBaselineGuest,
  startBaselineGuest,
  type BaselineGuest,
  type BaselineGuestOptions,
} from "./baseline-guest.ts";
import { BaselineReport } from "./baseline-report.ts";
import { hostClock } from "./clock.ts";
import { startFabric, type Fabric } from "./fabric.ts";
import type { RunInGuest } from "./guest-download.ts";
import { throwIfCancelled, type MigrationSinks } from "./hosts.ts";
import type { MigrateOptions, MigrationReport } from "./report.ts";
import { passtIfItCanBeHad, prepareQemuKind } from "./run-parts.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

/** A VF that is not there by then never comes. */
const PLUG_IN_TIMEOUT_MS = 30_000;

/** Rejects with an OperationError if it could not be carried out; every process it started has then ended. */
export async function runQemuBaseline(
  baseline: Baseline,
  options: MigrateOptions,
  sinks: MigrationSinks,
): Promise<MigrationReport> {
  await using closing = new AsyncDisposableStack();
  const { onStage, signal } = sinks;
  const directory = await mkdtemp(path.join(tmpdir(), "underway-"));
  closing.defer(() => rm(directory, { recursive: true, force: true }));
  const kind = await prepareQemuKind(options, onStage);
  const fabric = await startFabricOf(baseline, options, directory);
  closing.defer(() => fabric.close());
  const { memoryBytes } = options;
  const guestOptions = { baseline, kind, memoryBytes, mac: formatMac(networkPlan.guestMac), directory };
  onStage("Starting the guest on the source, and the destination");
  const { source, destination } = await startBoth(guestOptions, closing);
  const traffic = await beginTraffic(options, { fabric, source, onStage });
  closing.defer(() => traffic.close());
  throwIfCancelled(signal);

  onStage(`Moving the guest with the baseline ${baseline.name}`);
  const report = new BaselineReport(options, sinks);
  await move({ options, report, source, destination, signal });
  onStage("The guest runs on the destination; asking it what it noticed");
  await untilPluggedIn(destination);
  const guest = await traffic.finish(runIn(destination));
  const { captureFile } = options;
  const built = await report.build({ guest, fabric, source: source.vf, destination: destination.vf });
  if (captureFile !== undefined) await fabric.call("stopCapture", null);
  return built;
}

async function startFabricOf(baseline: Baseline, options: MigrateOptions, directory: string): Promise<Fabric> {
  const { seed, captureFile } = options;
  const fabric = await startFabric({ directory, cables: cablesOf(baseline), seed });
  if (captureFile !== undefined) await fabric.call("startCapture", { path: path.resolve(captureFile) });
  return fabric;
}

async function startBoth(
  options: BaselineGuestOptions,
  closing: AsyncDisposableStack,
): Promise<{ source: BaselineGuest; destination: BaselineGuest }> {
  const starting = [startBaselineGuest(options), expectBaselineGuest(options)] as const;
  for (const one of await Promise.allSettled(starting)) {
    if (one.status === "fulfilled") closing.defer(() => one.value.close());
  }
  const [source, destination] = await Promise.all(starting);
  return { source, destination };
}

async function beginTraffic(
  { traffic: asked, seed }: MigrateOptions,
  parts: { fabric: Fabric; source: BaselineGuest; onStage: (text: string) => void },
): Promise<Traffic> {
  const { fabric, source, onStage } = parts;
  const passt = asked === "download" ? await passtIfItCanBeHad(onStage) : undefined;
  return startTraffic({
    kind: asked === "download" && passt === undefined ? "echo" : asked,
    random: new SeededRandom(seed),
    fabric,
    passt: passt?.path,
    runInGuest: runIn(source),
    onStage,
  });
}

const runIn =
  ({ qemu }: BaselineGuest): RunInGuest =>
  (parameters) =>
    runCommand(qemu.console, parameters.command, parameters);

async function move(parts: {
  readonly options: MigrateOptions;
  readonly report: BaselineReport;
  readonly source: BaselineGuest;
  readonly destination: BaselineGuest;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { options, report, source, destination, signal } = parts;
  const { downtimeLimitMs, bandwidthBytesPerSecond, roundsMax, ifNotConverging } = options;
  report.begins();
  const moved = await migratePlainly({
    source: source.qemu.qmp,
    destination: destination.qemu.qmp,
    downtimeLimitMs,
    ...(bandwidthBytesPerSecond === undefined ? {} : { bandwidthBytesPerSecond }),
    passesMax: roundsMax,
    ifNotConverging,
    onPass: (pass) => report.pass(pass),
    signal,
  });
  report.moved(moved);
}

/** Until frames come through the destination's VF, if there is one. */
async function untilPluggedIn({ vf }: BaselineGuest): Promise<void> {
  const untilMs = hostClock.nowMs() + PLUG_IN_TIMEOUT_MS;
  const isAwaited = (): boolean => vf !== undefined && vf.deliveries.firstMs === null;
  while (isAwaited() && hostClock.nowMs() < untilMs) await sleep(20);
}
