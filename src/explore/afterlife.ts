// What becomes of the guest on the destination: with everybody getting his turns, is every frame consumed from then on?
import type { ProvenFrame } from "../machine/model/frames.ts";
import { ModelHost } from "../machine/model/host.ts";
import { makeReady } from "../migration/arrival.ts";
import type { VfState } from "../nic/state.ts";
import type { Experiment } from "./experiment.ts";
import { harmTo } from "./harm.ts";

/** Far more turns than a guest at toy scale takes until it waits. */
const TURNS_MAX = 5000;
/** A flow of its own, so that its numbers are in order whatever came before. */
const FLOW = 7;
const FRAME_BYTES = 60;

/** Hears of every turn of a life as it is taken. */
export interface LifeWitness {
  began(host: ModelHost): void;
  turned(who: "driver" | "device" | "application", host: ModelHost): void;
}

export class Afterlife {
  readonly #experiment: Experiment;
  readonly #host: ModelHost;
  #witness: LifeWitness | undefined;

  constructor(experiment: Experiment) {
    this.#experiment = experiment;
    this.#host = new ModelHost(experiment.scenario.host);
  }

  /**
   * Lets the guest live on with this memory and this VF until it waits, then sends it more frames than its ring has
   * descriptors. What is wrong, or undefined.
   */
  trouble(guest: Uint8Array, image: Uint8Array, resumedWith: VfState, witness?: LifeWitness): string | undefined {
    const { machine, vf } = this.#host;
    const { strategy, raisesInterrupts = true } = this.#experiment;
    this.#witness = witness;
    void machine.pause();
    machine.memory.bytes().set(image);
    machine.restoreState(guest);
    vf.restore(resumedWith);
    makeReady(vf, strategy.resume, resumedWith);
    vf.start();
    void machine.resume();
    if (raisesInterrupts) vf.raiseAllEnabled();
    witness?.began(this.#host);
    return this.#settle() ?? this.#sendFrames() ?? harmTo(machine);
  }

  #sendFrames(): string | undefined {
    const { machine } = this.#host;
    const frames = machine.layout.receiveDescriptors + 2;
    for (let sequence = 0; sequence < frames; sequence++) {
      const { verified } = machine.counters;
      const frame: ProvenFrame = { flow: FLOW, sequence };
      this.#host.offer(frame, FRAME_BYTES);
      const trouble = this.#settle() ?? harmTo(machine);
      if (trouble !== undefined) return trouble;
      if (machine.counters.verified === verified) return `frame ${sequence + 1} after the move never came to the guest`;
    }
    return undefined;
  }

  #settle(): string | undefined {
    const { machine, vf } = this.#host;
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const driver = machine.step("driver");
      if (driver) this.#witness?.turned("driver", this.#host);
      const device = vf.step();
      if (device) this.#witness?.turned("device", this.#host);
      const application = machine.readSocket();
      if (application) this.#witness?.turned("application", this.#host);
      if (!driver && !device && !application) return undefined;
    }
    return "guest and device go round in circles";
  }
}
