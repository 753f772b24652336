// The source of a move as the explorer holds it: the shipping VF, tracker and model guest, put back to the start at will.
import { assert } from "../base/assert.ts";
import { ModelHost } from "../machine/model/host.ts";
import { tagRelaxedOrdering } from "../iommu/dma-port.ts";
import { PageSet } from "../memory/page-set.ts";
import type { VfState } from "../nic/state.ts";
import type { VfStatistics } from "../nic/vf-statistics.ts";
import type { Experiment } from "./experiment.ts";
import type { Scenario } from "./scenario.ts";
import { Actor, type Intervention } from "./steps.ts";

/**
 * A guest that is up, with frames waiting in its VF. Every step from here on is a function of the steps before it:
 * there is no clock and nothing is drawn, so a path of steps is a state.
 */
export class SourceVm {
  readonly host: ModelHost;
  readonly #scenario: Scenario;
  readonly #isDraining: boolean;
  readonly #scratch: PageSet;
  #statisticsAtStart: VfStatistics;
  readonly #start: { readonly memory: Uint8Array; readonly machine: Uint8Array; readonly vf: VfState };
  #landing = 0;
  #isTransmitStopped = false;
  #applicationSteps = 0;
  /** Beats that receive and transmit have done. */
  readonly #beats: [number, number] = [0, 0];
  /** The VF's counters at the start; they go on over its whole life. */
  #counted: readonly number[] = [];

  constructor({ scenario, assumptions }: Pick<Experiment, "scenario" | "assumptions">) {
    this.#scenario = scenario;
    this.#isDraining = assumptions.drain;
    this.#scratch = new PageSet(scenario.host.memoryBytes / (scenario.host.pageBytes ?? 4096));
    this.host = new ModelHost({
      ...scenario.host,
      ...(assumptions.inFlight > 0 ? { landing: () => this.#landing } : {}),
    });
    const { machine, vf } = this.host;
    void machine.resume();
    this.host.settle();
    for (const { lengthBytes, ...frame } of scenario.warmUp) this.host.offer(frame, lengthBytes);
    this.host.settle();
    void machine.pause();
    vf.stop();
    this.#statisticsAtStart = vf.statistics;
    this.#start = { memory: machine.memory.bytes().slice(), machine: machine.saveState(), vf: vf.save() };
    this.reset();
  }

  /** Back to the start. */
  reset(): void {
    const { machine, vf, tracker, posted } = this.host;
    posted?.flush();
    machine.memory.bytes().set(this.#start.memory);
    void machine.pause();
    machine.restoreState(this.#start.machine);
    vf.restore(this.#start.vf);
    machine.cpuDirtyLog.start();
    void machine.resume();
    vf.start();
    assert(!vf.isStopped, "the device runs");
    // Now, not when somebody first asks: what it knows of the rings depends on when it looks.
    tracker.isPosted(0, 0);
    tracker.fetchReleased(this.#scratch);
    this.host.deviceLog.fetchAndClear(this.#scratch);
    for (const { lengthBytes, ...frame } of this.#scenario.frames) this.host.offer(frame, lengthBytes);
    this.#applicationSteps = 0;
    this.#isTransmitStopped = false;
    this.#beats.fill(0);
    this.#counted = this.#count();
    this.#statisticsAtStart = vf.statistics;
  }

  /**
   * What the VF's saved state leaves out of what it goes on from, as numbers: with the state and these, a VF that began
   * at the start goes on in one way only. The counters say how many frames ended how, and the beats how far the one
   * under way has come.
   */
  get progress(): number[] {
    const { vf } = this.host;
    const counted = this.#count().map((count, i) => count - (this.#counted[i] ?? 0));
    const stopped = (vf.isStopped ? 1 : 0) + (this.#isTransmitStopped ? 2 : 0);
    return [stopped, this.#applicationSteps, ...this.#beats, vf.statistics.framesHeld, ...counted];
  }

  /** Over the VF's whole life. */
  #count(): number[] {
    const { receive, receiveDrops, transmit, transmitDrops } = this.host.vf.statistics;
    return [receive, receiveDrops, transmit, transmitDrops].flatMap((counters) => Object.values(counters));
  }

  /** Whether it is known without trying that the actor has nothing to do. */
  isIdle(actor: number): boolean {
    const { machine, vf, posted } = this.host;
    if (actor === Actor.receive || actor === Actor.transmit) return vf.isStopped;
    if (actor >= Actor.land) return actor - Actor.land >= (posted?.pending ?? 0);
    if (machine.isPaused) return true;
    if (actor === Actor.driver) return machine.isIdle;
    return machine.socketFrames === 0 && this.#applicationSteps >= this.#scenario.applicationSteps;
  }

  /** One step. False when the actor has nothing to do, or may not do it. */
  act(actor: number): boolean {
    const { machine, vf, posted } = this.host;
    if (actor === Actor.receive || actor === Actor.transmit) {
      const hasActed = vf.stepOne(actor === Actor.receive ? "receive" : "transmit");
      if (hasActed) this.#beats[actor === Actor.receive ? 0 : 1]++;
      return hasActed;
    }
    if (actor >= Actor.land) {
      const index = actor - Actor.land;
      const flight = posted?.inFlight[index];
      if (posted === undefined || flight === undefined || (index > 0 && !tagRelaxedOrdering(flight.tag))) return false;
      this.#landing = index;
      return posted.step();
    }
    if (machine.isPaused) return false;
    if (actor === Actor.driver) return machine.step("driver");
    return this.#stepApplication();
  }

  #stepApplication(): boolean {
    const { machine } = this.host;
    if (machine.readSocket()) return true;
    if (this.#applicationSteps >= this.#scenario.applicationSteps) return false;
    this.#applicationSteps++;
    return machine.step("application");
  }

  /** The VF's state, with nothing pushed out of the way. */
  lookAtVf(): VfState {
    const { vf, posted } = this.host;
    return posted === undefined ? vf.save() : posted.held(() => vf.save());
  }

  /** The VF's state as the engine saves it: what is in flight has landed. */
  saveVf(): VfState {
    return this.#drains(() => this.host.vf.save());
  }

  /** What the device's owner does waits for what is in flight, unless that is what is to be seen. */
  #drains<Result>(act: () => Result): Result {
    const { posted } = this.host;
    return posted === undefined || this.#isDraining ? act() : posted.held(act);
  }

  dropsSinceStart(drops: (statistics: VfStatistics) => Readonly<Record<string, number>>): Record<string, number> {
    const now = drops(this.host.vf.statistics);
    const before = drops(this.#statisticsAtStart);
    return Object.fromEntries(Object.entries(now).map(([cause, count]) => [cause, count - (before[cause] ?? 0)]));
  }

  intervene(what: Intervention): void {
    const { machine, vf } = this.host;
    if (what === "pause") void machine.pause();
    else if (what === "stop-device") this.#drains(() => vf.stop());
    else if (what === "stop-transmit") {
      this.#drains(() => vf.stopTransmit());
      this.#isTransmitStopped = true;
    } else this.saveVf();
  }
}
