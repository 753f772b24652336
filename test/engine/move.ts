// One migration in a world, watched by the ledger: what came of it on both sides, and the audit's verdict.
import assert from "node:assert/strict";
import { audit } from "../../src/audit/audit.ts";
import type { DriverView, Evidence } from "../../src/audit/evidence.ts";
import { ImageRecorder } from "../../src/audit/image-recorder.ts";
import { Ledger } from "../../src/audit/ledger.ts";
import type { Verdict } from "../../src/audit/verdict.ts";
import { OperationError } from "../../src/base/errors.ts";
import { frameDrops } from "../../src/audit/frame-drops.ts";
import type { ModelHost } from "../../src/machine/model/host.ts";
import { MODEL_STATE_VERSION } from "../../src/machine/model/state.ts";
import { Destination, type DestinationOutcome, type PreparedVm } from "../../src/migration/destination.ts";
import type { MigratableVm } from "../../src/migration/parts.ts";
import type { MigrationEvent } from "../../src/migration/events.ts";
import { migrateOut, type SourceLimits, type SourceOutcome } from "../../src/migration/source.ts";
import { memoryTransportPair, type MemoryTransportOptions } from "../../src/migration/wire/memory-transport.ts";
import type { MigrationId, Offer } from "../../src/migration/wire/protocol.ts";
import type { Transport } from "../../src/migration/wire/transport.ts";
import type { VfState } from "../../src/nic/state.ts";
import type { Strategy } from "../../src/strategy/strategy.ts";
import { World } from "./world.ts";

export interface MoveOptions {
  readonly strategy: Strategy;
  readonly limits?: Partial<SourceLimits>;
  readonly breakAfterBytes?: MemoryTransportOptions["breakAfterBytes"];
  readonly signal?: AbortSignal;
  readonly onSourceEvent?: (event: MigrationEvent) => void;
  readonly onDestinationEvent?: (event: MigrationEvent) => void;
  /** Called wherever the engine lets the world have a turn. */
  readonly onRace?: () => void;
  /** Changes what the engine gets to see of the source. */
  readonly change?: (vm: MigratableVm) => MigratableVm;
  /** Changes what the destination's machine is, or refuses it. */
  readonly prepare?: (vm: PreparedVm, offer: Offer) => PreparedVm;
}

export interface Moved {
  readonly source: SourceOutcome;
  readonly destination: DestinationOutcome;
  readonly events: readonly MigrationEvent[];
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** A guest on its host, and every attempt to move it somewhere else. */
export class Scene {
  readonly world: World;
  readonly source: ModelHost;
  readonly ledger: Ledger;
  readonly service: Destination;
  readonly id = (number: number): MigrationId => number.toString(16).padStart(32, "0") as MigrationId;
  attempts = 0;
  /** The destination of the last attempt that got as far as having one. */
  arrival: ModelHost | undefined;
  image: ImageRecorder | undefined;
  resumedWith: VfState | undefined;
  raisedEveryVector = false;
  #options: MoveOptions | undefined;
  #vfAtPause: VfState | undefined;
  #driverAtPause: DriverView = { receive: [] };

  constructor(world: World) {
    this.world = world;
    this.source = world.receiver;
    const { memory, layout } = this.source.machine;
    const hashContents = layout.cooperation !== "none";
    this.ledger = new Ledger(memory, { writesMax: 1 << 15, undoBytesMax: 1 << 21, hashContents });
    this.source.dma.addObserver(this.ledger);
    this.service = this.#makeService();
  }

  /** A guest that has been up for a while. */
  static async begin(seed: number, hostOptions: World["hostOptions"], warmUpTurns = 600): Promise<Scene> {
    const scene = new Scene(new World(seed, hostOptions));
    await scene.source.boot();
    for (let turn = 0; turn < warmUpTurns; turn++) scene.world.turn();
    return scene;
  }

  #makeService(): Destination {
    return new Destination({
      clock: this.world.clock,
      machineStateVersion: MODEL_STATE_VERSION,
      prepare: (offer) => this.#prepare(offer),
      onEvent: (event) => this.#options?.onDestinationEvent?.(event),
      image: {
        page: (page, bytes) => this.image?.page(page, bytes),
        zeroPage: (page) => this.image?.zeroPage(page),
      },
      onRunning: (resumedWith) => {
        this.resumedWith = resumedWith;
        if (this.arrival !== undefined) this.world.receiver = this.arrival;
      },
      everySecond: () => () => {},
    });
  }

  #prepare(offer: Offer): Promise<PreparedVm> {
    const host = this.world.addHost();
    const { machine, vf } = host;
    const raiseAllEnabled = vf.raiseAllEnabled.bind(vf);
    this.raisedEveryVector = false;
    vf.raiseAllEnabled = () => {
      this.raisedEveryVector = true;
      raiseAllEnabled();
    };
    this.arrival = host;
    this.image = new ImageRecorder(machine.memory.pages);
    const vm: PreparedVm = { machine, vf, discard: () => machine.close() };
    return Promise.resolve(this.#options?.prepare?.(vm, offer) ?? vm);
  }

  /** Joins a new connection to the destination. */
  connect(breakAfterBytes?: MemoryTransportOptions["breakAfterBytes"]): {
    transport: Transport;
    served: Promise<DestinationOutcome>;
  } {
    const { first, second } = memoryTransportPair({
      defer: this.world.defer,
      chunking: { seed: this.world.seed, chunkBytesMax: 3000 },
      ...(breakAfterBytes === undefined ? {} : { breakAfterBytes }),
    });
    return { transport: first, served: this.service.serve(second) };
  }

  async move(options: MoveOptions): Promise<Moved> {
    const { world, source } = this;
    this.#options = options;
    this.arrival = undefined;
    const events: MigrationEvent[] = [];
    const { transport, served } = this.connect(options.breakAfterBytes);
    const outcome = migrateOut({
      vm: options.change?.(source) ?? source,
      strategy: options.strategy,
      transport,
      clock: world.clock,
      migrationId: this.id(++this.attempts),
      mac: "02:00:00:00:00:11",
      machineStateVersion: MODEL_STATE_VERSION,
      limits: { downtimeLimitMs: 10, roundsMax: 4, ifNotConverging: "switch-over", ...options.limits },
      onEvent: (event) => {
        this.#watch(event);
        events.push(event);
        options.onSourceEvent?.(event);
      },
      yieldToGuest: () => {
        options.onRace?.();
        world.race(80);
        return Promise.resolve();
      },
      betweenSteps: () => {
        options.onRace?.();
        world.race(world.random.chance(1 / 40) ? 150 : 5);
      },
      everySecond: () => () => {},
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    const [sourceOutcome, destinationOutcome] = await world.until(Promise.all([outcome, served]));
    return {
      source: sourceOutcome,
      destination: destinationOutcome,
      events,
      bytesSent: transport.bytesSent,
      bytesReceived: transport.bytesReceived,
    };
  }

  /** What the bench of a real host does with the same events. */
  #watch(event: MigrationEvent): void {
    if (event.kind === "phase" && event.phase === "switchover") this.ledger.beginUndo();
    if (event.kind === "device-stopped") this.ledger.markDeviceStopped();
    if (event.kind === "vcpus-paused") {
      this.ledger.markVcpusPaused();
      this.#vfAtPause = this.source.vf.save();
      const { nextToClean, isBetweenCheckAndWrite } = this.source.machine;
      this.#driverAtPause = {
        receive: nextToClean.map((slot, queue) => ({
          nextToClean: slot,
          isBetweenCheckAndWrite: isBetweenCheckAndWrite[queue] ?? false,
        })),
      };
    }
    if (event.kind === "phase" && event.phase === "resumed") this.ledger.markVcpusResumed();
  }

  /** Ends the source's device and holds the destination's image against everything it wrote. */
  verdict(strategy: Strategy, changes: Partial<Evidence> = {}): Verdict {
    const { source, image, resumedWith } = this;
    assert.ok(image !== undefined && resumedWith !== undefined && this.#vfAtPause !== undefined, "nobody arrived");
    source.vf.stop();
    const { pages } = source.machine.memory;
    return audit({
      pageBytes: pages.sizeBytes,
      sourceMemory: source.machine.memory.bytes(),
      destinationMemory: image.bytes,
      ledger: this.ledger.record(),
      vfAtPause: this.#vfAtPause,
      vfAtSourceEnd: source.vf.save(),
      vfAtResume: resumedWith,
      raisedEveryVector: this.raisedEveryVector,
      droppedRings: strategy.resume === "start-over",
      bufferUnitBytes: source.machine.layout.bufferUnitBytes,
      driver: this.#driverAtPause,
      counters: {
        offered: this.world.offered.get(source) ?? 0,
        dropped: frameDrops(source.vf.statistics),
        heldBySource: source.vf.statistics.framesHeld,
        takenByDestination: 0,
      },
      failedAttempts: this.attempts - 1,
      ...changes,
    });
  }
}

/** What is wrong with a verdict, for a person; empty for a consistent one. */
export function complaints(verdict: Verdict): string[] {
  return verdict.corruptions.map(({ hazard, sentence }) => `${hazard}: ${sentence}`);
}

export function refusal(code: string): OperationError {
  return new OperationError({ code, message: `The destination says ${code}.`, advice: "Nothing to do in a test." });
}
