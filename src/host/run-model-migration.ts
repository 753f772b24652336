// One migration of a model guest from beginning to end: two hosts, the network's load, the move, the audit, the report.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { strategyByName } from "../strategy/strategies.ts";
import { auditMove } from "./audit-move.ts";
import type { Child } from "./child-rpc.ts";
import { hostClock } from "./clock.ts";
import { moveBetween, startHost, throwIfCancelled, type MigrationSinks } from "./hosts.ts";
import type { ModelHostMethods } from "./model-host-process.ts";
import { loadOf, observe } from "./model-observations.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import { ReportBuilder, type FrameCounts, type MigrateOptions, type MigrationReport } from "./report.ts";
import type { MoveSettings, VmHostEvent } from "./vm-host-messages.ts";

/** The guest is under load for so long before it is moved, and for so long after it has been. */
const LOAD_BEFORE_MOVE_MS = 400;
const LOAD_AFTER_MOVE_MS = 400;
/** The last frames reach the application. */
const DRAIN_MS = 50;
/** The source's device runs until frames for the guest go elsewhere: at least this long after the guest does. */
const SOURCE_DEVICE_LINGER_MS = 20;

/** Rejects with an OperationError if it could not be carried out; every process it started has then ended. */
export async function runModelMigration(options: MigrateOptions, sinks: MigrationSinks): Promise<MigrationReport> {
  await using closing = new AsyncDisposableStack();
  const directory = await mkdtemp(path.join(tmpdir(), "underway-"));
  closing.defer(() => rm(directory, { recursive: true, force: true }));
  const builder = new ReportBuilder(options);
  const start = (side: "source" | "destination"): Child<ModelHostMethods, VmHostEvent> => {
    const module = new URL("./model-host-process.ts", import.meta.url);
    const host = startHost<ModelHostMethods>({ side, module, builder, sinks });
    closing.defer(() => host.close());
    return host;
  };
  return await move({ options, sinks, builder, directory, source: start("source"), destination: start("destination") });
}

async function move(parts: {
  readonly options: MigrateOptions;
  readonly sinks: MigrationSinks;
  readonly builder: ReportBuilder;
  readonly directory: string;
  readonly source: Child<ModelHostMethods, VmHostEvent>;
  readonly destination: Child<ModelHostMethods, VmHostEvent>;
}): Promise<MigrationReport> {
  const { options, sinks, builder, directory, source, destination } = parts;
  const settings = settingsOf(options);
  sinks.onStage("Starting the guest on the source, and the destination");
  const [methods, address] = await Promise.all([
    source.call("startGuest", settings),
    destination.call("listen", settings),
  ]);
  await sleep(LOAD_BEFORE_MOVE_MS);
  throwIfCancelled(sinks.signal);

  sinks.onStage(`Moving the guest with strategy ${options.strategy}`);
  const before = await source.call("counts", null);
  const moving = {
    moveOut: (how: MoveSettings) => source.call("moveOut", how),
    cancel: () => source.call("cancel", null),
  };
  const { bytesSent } = await moveBetween(moving, address, options, sinks.signal);
  await sleep(SOURCE_DEVICE_LINGER_MS);
  await source.call("stopDevice", null);
  const left = await source.call("counts", null);
  sinks.onStage("The guest runs on the destination; letting it work a while");
  await sleep(LOAD_AFTER_MOVE_MS);
  await destination.call("disconnect", null);
  await sleep(DRAIN_MS);
  const after = await destination.call("counts", null);

  sinks.onStage("Auditing every byte");
  const { firstFrame, ...arrival } = await destination.call("destinationEvidence", { directory });
  const findings = await auditMove({
    options,
    source: await source.call("sourceEvidence", { directory }),
    destination: arrival,
    framesLostByFabric: 0,
  });
  const doubles = await source.call("offeredFrom", firstFrame);
  const frames = withoutDoubles(findings.frames, doubles);
  const counts = { before, left, after, firstFrame, doubles };
  const load = options.load === undefined ? null : loadOf(options.load, counts);
  return builder.build({ ...findings, frames, bytesSent, guest: observe(counts), load, methods });
}

/**
 * The network sends to the source until it hears that frames go elsewhere. What both were sent the source dropped, or
 * wrote where nobody looks any more; that is no loss.
 */
function withoutDoubles({ delivered, lost, discarded }: FrameCounts, doubles: number): FrameCounts {
  const dropped = Math.min(lost, doubles);
  return { delivered, lost: lost - dropped, discarded: Math.max(0, discarded - (doubles - dropped)) };
}

function settingsOf({ memoryBytes, seed, strategy, load }: MigrateOptions): ModelVmSettings {
  return {
    memoryBytes,
    seed,
    cooperation: strategyByName(strategy).cooperation,
    epochMs: hostClock.nowMs(),
    ...(load === undefined ? {} : { load }),
  };
}
