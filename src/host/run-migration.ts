// One migration from beginning to end: fabric, two hosts, traffic, the move, the audit, the report.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "../base/random.ts";
import { formatMac } from "../network/mac.ts";
import { networkPlan } from "../network/plan.ts";
import { baselineByName } from "../strategy/baselines.ts";
import { defaultCacheDirectory } from "./assets/cache.ts";
import { prepareAssets } from "./assets.ts";
import { auditMove } from "./audit-move.ts";
import type { Child } from "./child-rpc.ts";
import { cablePath } from "./fabric-server.ts";
import { startFabric, type Fabric } from "./fabric.ts";
import type { GuestKind } from "./guests.ts";
import { moveBetween, startHost, throwIfCancelled, type MigrationSinks } from "./hosts.ts";
import { ReportBuilder, type MigrateOptions, type MigrationReport } from "./report.ts";
import { runModelMigration } from "./run-model-migration.ts";
import { passtIfItCanBeHad, prepareQemuKind } from "./run-parts.ts";
import { runQemuBaseline } from "./run-qemu-baseline.ts";
import type { TcpAddress } from "./tcp-transport.ts";
import { startTraffic, type Traffic } from "./traffic.ts";
import type { MoveSettings, VmHostEvent, VmHostMethods, VmSettings } from "./vm-host-messages.ts";

type VmHost = Child<VmHostMethods, VmHostEvent>;

/** The source's device runs until frames for the guest go elsewhere: at least this long after the guest does. */
const SOURCE_DEVICE_LINGER_MS = 100;

/**
 * Rejects with an OperationError if the migration could not be carried out; every process it started has then ended.
 */
export async function runMigration(options: MigrateOptions, sinks: MigrationSinks): Promise<MigrationReport> {
  if (options.machine === "model") return runModelMigration(options, sinks);
  const baseline = baselineByName(options.strategy);
  if (baseline !== undefined) return runQemuBaseline(baseline, options, sinks);
  await using run = await Run.begin(options, sinks);
  return await run.carryOut();
}

class Run {
  readonly #options: MigrateOptions;
  readonly #sinks: MigrationSinks;
  readonly #directory: string;
  readonly #builder: ReportBuilder;
  readonly #closing: (() => Promise<unknown>)[] = [];

  private constructor(options: MigrateOptions, sinks: MigrationSinks, directory: string) {
    this.#options = options;
    this.#sinks = sinks;
    this.#directory = directory;
    this.#builder = new ReportBuilder(options);
    this.#closing.push(() => rm(directory, { recursive: true, force: true }));
  }

  static async begin(options: MigrateOptions, sinks: MigrationSinks): Promise<Run> {
    return new Run(options, sinks, await mkdtemp(path.join(tmpdir(), "underway-")));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing.toReversed()) await close();
  }

  async carryOut(): Promise<MigrationReport> {
    const { onStage } = this.#sinks;
    const settings = await this.#settings();
    const fabric = await this.#startFabric();
    const [source, destination] = [this.#startHost("source"), this.#startHost("destination")];
    onStage("Starting the guest on the source, and the destination");
    const [methods, address] = await Promise.all([
      source.call("startGuest", { ...settings, cable: cablePath(this.#directory, "source") }),
      destination.call("listen", { ...settings, cable: cablePath(this.#directory, "destination") }),
    ]);
    const traffic = await this.#startTraffic(fabric, source);
    throwIfCancelled(this.#sinks.signal);

    onStage(`Moving the guest with strategy ${this.#options.strategy}`);
    const lossBefore = await framesLostByFabric(fabric);
    const moved = await this.#move(source, address);
    await sleep(SOURCE_DEVICE_LINGER_MS);
    await source.call("stopDevice", null);
    onStage("The guest runs on the destination; asking it what it noticed");
    const guest = await traffic.finish((parameters) => destination.call("runCommand", parameters));
    onStage("Auditing every byte");
    const findings = await auditMove({
      options: this.#options,
      source: await source.call("sourceEvidence", { directory: this.#directory }),
      destination: await destination.call("destinationEvidence", { directory: this.#directory }),
      framesLostByFabric: (await framesLostByFabric(fabric)) - lossBefore,
    });
    if (this.#options.captureFile !== undefined) await fabric.call("stopCapture", null);
    return this.#builder.build({ ...findings, bytesSent: moved.bytesSent, guest, load: null, methods });
  }

  async #settings(): Promise<Omit<VmSettings, "cable">> {
    const { memoryBytes, seed } = this.#options;
    const cacheDirectory = defaultCacheDirectory();
    const guest = await this.#guestKind(cacheDirectory);
    const mac = formatMac(networkPlan.guestMac);
    return { memoryBytes, seed, guest, cacheDirectory, mac, directory: this.#directory };
  }

  async #guestKind(cacheDirectory: string): Promise<GuestKind> {
    const { machine, assets: overrides } = this.#options;
    const { onStage: onProgress } = this.#sinks;
    if (machine === "qemu") return prepareQemuKind(this.#options, onProgress);
    return { machine: "linux", assets: await prepareAssets({ cacheDirectory, onProgress, overrides }) };
  }

  async #startFabric(): Promise<Fabric> {
    const fabric = await startFabric({
      directory: this.#directory,
      cables: ["source", "destination"],
      seed: this.#options.seed,
    });
    this.#closing.push(() => fabric.close());
    const { captureFile } = this.#options;
    if (captureFile !== undefined) await fabric.call("startCapture", { path: path.resolve(captureFile) });
    return fabric;
  }

  #startHost(side: "source" | "destination"): VmHost {
    const host: VmHost = startHost({
      side,
      module: new URL("./vm-host-process.ts", import.meta.url),
      builder: this.#builder,
      sinks: this.#sinks,
    });
    this.#closing.push(() => host.close());
    return host;
  }

  async #startTraffic(fabric: Fabric, source: VmHost): Promise<Traffic> {
    const { onStage } = this.#sinks;
    const { traffic: asked, seed } = this.#options;
    const passt = asked === "download" ? await passtIfItCanBeHad(onStage) : undefined;
    const traffic = await startTraffic({
      kind: asked === "download" && passt === undefined ? "echo" : asked,
      random: new SeededRandom(seed),
      fabric,
      passt: passt?.path,
      runInGuest: (parameters) => source.call("runCommand", parameters),
      onStage,
    });
    this.#closing.push(() => traffic.close());
    return traffic;
  }

  #move(source: VmHost, to: TcpAddress): Promise<{ bytesSent: number }> {
    const moving = {
      moveOut: (settings: MoveSettings) => source.call("moveOut", settings),
      cancel: () => source.call("cancel", null),
    };
    return moveBetween(moving, to, this.#options, this.#sinks.signal);
  }
}

/** Frames for the guest that the fabric dropped on their way to either host. */
async function framesLostByFabric(fabric: Fabric): Promise<number> {
  const { switch: counters } = await fabric.call("counters", null);
  return counters.ports
    .filter((port) => port.name === "source")
    .flatMap((port) => Object.values(port.out.dropped))
    .reduce((sum, count) => sum + count, 0);
}
