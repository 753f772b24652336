// One schedule carried out for real: no memory of earlier steps, the engine on the live source, and the audit's verdict.
import { assert } from "../base/assert.ts";
import { audit } from "../audit/audit.ts";
import { frameDrops } from "../audit/frame-drops.ts";
import { ImageRecorder } from "../audit/image-recorder.ts";
import { Ledger } from "../audit/ledger.ts";
import type { Verdict } from "../audit/verdict.ts";
import { ModelHost } from "../machine/model/host.ts";
import { makeReady } from "../migration/arrival.ts";
import type { QueueCut } from "../migration/events.ts";
import type { MigratableVm } from "../migration/parts.ts";
import { resumeState } from "../migration/resume-state.ts";
import type { VfState } from "../nic/state.ts";
import { EngineRun, type PartTarget } from "./engine-run.ts";
import type { Experiment } from "./experiment.ts";
import { harmTo } from "./harm.ts";
import { SourceVm } from "./source-vm.ts";
import { ENGINE } from "./steps.ts";

/** What came of a schedule. */
export interface Outcome {
  readonly verdict: Verdict;
  readonly cuts: readonly QueueCut[];
  /** The destination's memory as its guest first sees it. */
  readonly image: Uint8Array;
  /** The guest as it is handed over. */
  readonly guest: Uint8Array;
  readonly vfAtPause: VfState;
  /** By queue: the first descriptor that the driver had not taken when the CPUs paused. */
  readonly nextToClean: readonly number[];
  /** What the destination's VF is restored to. */
  readonly resumedWith: VfState;
  /** What the guest itself noticed before the pause, or undefined. */
  readonly troubleOnSource: string | undefined;
}

/** Hears of every step as it is done. */
export interface Witness {
  began?(trial: Trial): void;
  stepped?(step: number, trial: Trial): void;
}

const LEDGER = { writesMax: 1 << 10, undoBytesMax: 1 << 16, hashContents: true } as const;

/** A source and an engine that are led through one schedule after the other. */
export class Trial {
  readonly source: SourceVm;
  readonly #experiment: Experiment;
  readonly #destination: ModelHost;
  #ledger: Ledger;
  #vfAtPause: VfState | undefined;
  #driverAtPause: { nextToClean: number; isBetweenCheckAndWrite: boolean }[] = [];
  #engine: EngineRun;
  #image: ImageRecorder;

  constructor(experiment: Experiment) {
    this.#experiment = experiment;
    this.source = new SourceVm(experiment);
    const { machine, dma } = this.source.host;
    this.#ledger = new Ledger(machine.memory, LEDGER);
    dma.addObserver({
      before: (address, length) => this.#ledger.before(address, length),
      after: (address, length, tag) => this.#ledger.after(address, length, tag),
    });
    this.#destination = new ModelHost(experiment.scenario.host);
    this.#image = new ImageRecorder(machine.memory.pages);
    this.#engine = this.#begin();
  }

  get engine(): EngineRun {
    return this.#engine;
  }

  get image(): ImageRecorder {
    return this.#image;
  }

  get ledger(): Ledger {
    return this.#ledger;
  }

  #begin(): EngineRun {
    const { source } = this;
    const { strategy, roundsMax, change, assumptions } = this.#experiment;
    const { atomicBytes } = assumptions;
    source.reset();
    const { memory } = source.host.machine;
    this.#ledger = new Ledger(memory, LEDGER);
    this.#ledger.beginUndo();
    this.#vfAtPause = undefined;
    this.#image = new ImageRecorder(memory.pages);
    this.#image.bytes.set(memory.bytes());
    const live = { vm: this.#watchedVm(), target: this.#target() };
    return new EngineRun({ strategy, roundsMax, atomicBytes, ...(change?.(live) ?? live) });
  }

  /** The live source, with the marks that the ledger wants. */
  #watchedVm(): MigratableVm {
    const { host } = this.source;
    const { machine, vf, tracker, deviceLog } = host;
    return {
      machine: {
        kind: machine.kind,
        memory: machine.memory,
        cpuDirtyLog: machine.cpuDirtyLog,
        pause: () => {
          this.source.intervene("pause");
          this.#notePause();
          return Promise.resolve();
        },
        resume: () => machine.resume(),
        saveState: () => machine.saveState(),
      },
      vf: {
        queuePairs: vf.queuePairs,
        rxRing: (queue) => vf.rxRing(queue),
        save: () => this.source.saveVf(),
        stop: () => {
          this.source.intervene("stop-device");
          this.#ledger.markDeviceStopped();
        },
        stopTransmit: () => this.source.intervene("stop-transmit"),
        start: () => vf.start(),
        raiseAllEnabled: () => vf.raiseAllEnabled(),
      },
      tracker,
      deviceLog,
      translate: (iova) => host.translate(iova),
    };
  }

  #notePause(): void {
    const { machine } = this.source.host;
    this.#ledger.markVcpusPaused();
    this.#vfAtPause = this.source.lookAtVf();
    const between = machine.isBetweenCheckAndWrite;
    this.#driverAtPause = machine.nextToClean.map((nextToClean, queue) => ({
      nextToClean,
      isBetweenCheckAndWrite: between[queue] ?? false,
    }));
  }

  #target(): PartTarget {
    const { memory } = this.source.host.machine;
    const { sizeBytes } = memory.pages;
    return {
      memoryPart: (page, start, lengthBytes) => {
        const address = page * sizeBytes + start;
        this.#image.bytes.set(memory.bytes().subarray(address, address + lengthBytes), address);
      },
      givenPage: (page, bytes) => this.#image.page(page, bytes),
    };
  }

  /** Leads the source and the engine through the schedule. Whether every step of it could be done. */
  run(schedule: readonly number[], witness: Witness = {}): boolean {
    this.#engine = this.#begin();
    witness.began?.(this);
    for (const step of schedule) {
      if (!this.#step(step)) return false;
      witness.stepped?.(step, this);
    }
    return true;
  }

  #step(step: number): boolean {
    if (step !== ENGINE) return this.source.act(step);
    if (this.#engine.phase === "finished") return false;
    this.#engine.step();
    return true;
  }

  /** After a schedule that ends with the engine's end: what the destination has. The source's device goes on to its end. */
  outcome(): Outcome {
    const { host } = this.source;
    const { strategy, raisesInterrupts = true } = this.#experiment;
    const { deviceState, cuts } = this.#engine;
    assert(this.#vfAtPause !== undefined, "the schedule pauses the guest");
    assert(deviceState !== undefined, "the schedule saves the device");
    const guest = host.machine.saveState();
    host.vf.run();
    host.posted?.flush();
    const resumed = resumeState(deviceState, strategy.resume, cuts);
    const arriving = this.#destination.vf;
    arriving.restore(resumed);
    const resumedWith = makeReady(arriving, strategy.resume, resumed);
    const { pages } = host.machine.memory;
    const image = this.#image.bytes;
    const verdict = audit({
      pageBytes: pages.sizeBytes,
      sourceMemory: host.machine.memory.bytes().slice(),
      destinationMemory: image,
      ledger: this.#ledger.record(),
      vfAtPause: this.#vfAtPause,
      vfAtSourceEnd: host.vf.save(),
      vfAtResume: resumedWith,
      raisedEveryVector: raisesInterrupts,
      droppedRings: strategy.resume === "start-over",
      bufferUnitBytes: host.machine.layout.bufferUnitBytes,
      driver: { receive: this.#driverAtPause },
      counters: {
        offered: this.#experiment.scenario.frames.length,
        dropped: this.source.dropsSinceStart(frameDrops),
        heldBySource: host.vf.statistics.framesHeld,
        takenByDestination: 0,
      },
    });
    return {
      verdict,
      cuts,
      image,
      guest,
      vfAtPause: this.#vfAtPause,
      nextToClean: this.#driverAtPause.map(({ nextToClean }) => nextToClean),
      resumedWith: resumed,
      troubleOnSource: harmTo(host.machine),
    };
  }
}
