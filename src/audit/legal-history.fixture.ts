// Random legal histories: a guest and its device at work, a pause at any moment, and a legal cut of each queue.
import { SeededRandom } from "../base/random.ts";
import { tagRelaxedOrdering } from "../iommu/dma-port.ts";
import { PostedWrites, type PostedWrite } from "../iommu/posted-writes.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import type { BenchOptions } from "./bench-guest.fixture.ts";
import { Bench } from "./bench.fixture.ts";
import type { Evidence } from "./evidence.ts";
import { makeFrame } from "./saved-vf.fixture.ts";

export interface LegalHistory {
  readonly evidence: Evidence;
  readonly destinationMemory: Uint8Array;
  /** The bytes that are excused, found without the audit. */
  readonly isExcused: (address: number) => boolean;
  /** Rings lie below this address, nothing else does. */
  readonly ringsEnd: number;
  readonly framesDelivered: number;
  readonly framesDiscarded: number;
  readonly framesSentTwice: number;
}

interface LandedQueue {
  /** First descriptor whose write-back is not in memory. */
  head: number;
  framesDone: number;
  insideFrame: boolean;
}

interface ReceiveChoice {
  head: number;
  framesDone: number;
  insideFrame: boolean;
}

interface TransmitChoice {
  head: number;
  state: VfState["transmit"]["queues"][number];
}

export class LegalHistoryMaker {
  readonly #random: SeededRandom;
  readonly #bench: Bench;
  readonly #posted: PostedWrites[] = [];
  /** Beats of the frame under way, by queue. */
  readonly #underWay = new Map<number, Iterator<() => void>>();
  readonly #landed: LandedQueue[];
  readonly #framesSent: number[];
  readonly #receiveChoices = new Map<number, ReceiveChoice>();
  readonly #transmitChoices = new Map<number, TransmitChoice>();
  /** Frames sent when the choice was made. */
  readonly #sentAtChoice = new Map<number, number>();
  #image = new Uint8Array(0);

  constructor(seed: number, scale: BenchOptions) {
    this.#random = new SeededRandom(seed);
    const delays = this.#random.chance(0.5);
    this.#bench = new Bench({
      ...scale,
      swapPages: this.#random.chance(0.5),
      wrapPort: (port) => {
        if (!delays) return port;
        const posted = new PostedWrites(port, { choose: (inFlight) => this.#chooseLanding(inFlight), inFlightMax: 5 });
        this.#posted.push(posted);
        return posted;
      },
    });
    const { queues } = this.#bench.options;
    this.#landed = Array.from({ length: queues }, () => ({ head: 0, framesDone: 0, insideFrame: false }));
    this.#framesSent = Array.from({ length: queues }, () => 0);
    if (this.#random.chance(0.8)) this.#bench.ledger.beginUndo();
  }

  make(steps: number): LegalHistory {
    const bench = this.#bench;
    for (let step = 0; step < steps; step++) this.#runGuest();
    bench.pause();
    const atPause = bench.snapshot();
    const tails = this.#queues().map((queue) => bench.get(register.VFRDT(queue)));
    this.#image = atPause.slice();
    const wasInside = this.#landed.map(({ insideFrame, framesDone }) => (insideFrame ? framesDone : -1));
    for (const queue of this.#queues()) this.#chooseReceive(queue, wasInside);
    for (const queue of this.#queues()) this.#chooseTransmit(queue);
    const cutsMoveRate = [0, 0.05, 0.3][this.#random.below(3)] ?? 0;
    for (let step = 0; step < steps; step++) {
      this.#runDevice();
      for (const queue of this.#queues()) {
        if (this.#random.chance(cutsMoveRate)) this.#chooseReceive(queue, wasInside);
        if (this.#random.chance(cutsMoveRate)) this.#chooseTransmit(queue);
      }
    }
    this.#finish();
    const excused = this.#excusedBytes(atPause, tails);
    for (const address of excused) this.#image[address] = this.#random.below(256);
    return this.#history(excused);
  }

  #queues(): number[] {
    return Array.from({ length: this.#bench.options.queues }, (_, queue) => queue);
  }

  #anyQueue(): number {
    return this.#random.below(this.#bench.options.queues);
  }

  #chooseLanding(inFlight: readonly PostedWrite[]): number {
    const legal = inFlight.flatMap(({ tag }, index) => (index === 0 || tagRelaxedOrdering(tag) ? [index] : []));
    return legal[this.#random.below(legal.length)] ?? 0;
  }

  #runGuest(): void {
    const bench = this.#bench;
    const queue = this.#anyQueue();
    switch (this.#random.below(6)) {
      case 0:
        bench.poll(queue, 1 + this.#random.below(4));
        break;
      case 1:
        bench.refill(queue, 1 + this.#random.below(3));
        break;
      case 2:
        if (bench.txRoom(queue) >= 3) this.#sendSomething(queue);
        break;
      case 3:
        bench.poke(bench.cpuStart + this.#random.below(256), this.#random.below(256));
        break;
      default:
        this.#runDevice();
    }
  }

  #sendSomething(queue: number): void {
    const context = { index: this.#random.below(2), value: this.#random.u32() };
    this.#bench.send(queue, 1 + this.#random.below(2), this.#random.chance(0.3) ? context : undefined);
  }

  #runDevice(): void {
    const queue = this.#anyQueue();
    if (this.#random.chance(0.4)) for (const posted of this.#posted) posted.step();
    if (this.#random.chance(0.25)) this.#transmitStep(queue);
    else this.#receiveBeat(queue);
    if (this.#random.chance(0.1)) this.#land();
    else this.#followLanded();
  }

  #transmitStep(queue: number): void {
    const bench = this.#bench;
    if (bench.get(register.VFTDH(queue)) === bench.get(register.VFTDT(queue))) return;
    bench.sendFrame(queue, this.#random.chance(0.7));
    this.#framesSent[queue] = (this.#framesSent[queue] ?? 0) + 1;
  }

  #receiveBeat(queue: number): void {
    const bench = this.#bench;
    let beats = this.#underWay.get(queue);
    if (beats === undefined) {
      const { bufferBytes } = bench.options;
      const lengthBytes = 1 + this.#random.below(3 * bufferBytes);
      if (Math.ceil(lengthBytes / bufferBytes) > bench.posted(queue)) return;
      beats = bench.beats(queue, makeFrame(this.#random, lengthBytes));
      this.#underWay.set(queue, beats);
    }
    const beat = beats.next();
    if (beat.done === true) this.#underWay.delete(queue);
    else beat.value();
  }

  #land(): void {
    for (const posted of this.#posted) posted.flush();
    this.#followLanded();
  }

  /** Looks at memory, as a driver would that polls all the time, to learn which write-backs have landed. */
  #followLanded(): void {
    const bench = this.#bench;
    for (const [queue, landed] of this.#landed.entries()) {
      const { ringDescriptors } = bench.options;
      while (landed.head !== bench.get(register.VFRDH(queue))) {
        const at = bench.slotAddress(queue, landed.head) >>> 2;
        const [, , status = 0, last = 0] = bench.memory.words().subarray(at, at + 4);
        if ((last & 0xffff) === 0) break;
        landed.insideFrame = (status & 2) === 0;
        if (!landed.insideFrame) landed.framesDone++;
        landed.head = (landed.head + 1) % ringDescriptors;
      }
    }
  }

  /** What is in memory of the queue now becomes its cut, if that is a legal one. */
  #chooseReceive(queue: number, wasInside: readonly number[]): void {
    const bench = this.#bench;
    this.#followLanded();
    const landed = this.#landed[queue];
    if (landed === undefined || (landed.insideFrame && wasInside[queue] !== landed.framesDone)) return;
    for (let slot = 0; slot < bench.options.ringDescriptors; slot++) {
      this.#copy(bench.slotAddress(queue, slot), DESCRIPTOR_BYTES);
      this.#copy(bench.driver[queue]?.buffers[slot] ?? 0, bench.options.bufferBytes);
    }
    this.#receiveChoices.set(queue, { ...landed });
  }

  #chooseTransmit(queue: number): void {
    const bench = this.#bench;
    this.#land();
    for (let slot = 0; slot < bench.options.ringDescriptors; slot++) {
      this.#copy(bench.txSlotAddress(queue, slot), DESCRIPTOR_BYTES);
    }
    const state = bench.save().transmit.queues[queue];
    if (state === undefined) return;
    this.#transmitChoices.set(queue, { head: bench.get(register.VFTDH(queue)), state });
    this.#sentAtChoice.set(queue, this.#framesSent[queue] ?? 0);
  }

  #copy(address: number, length: number): void {
    this.#image.set(this.#bench.memory.bytes().subarray(address, address + length), address);
  }

  /** The source's device ends what it has begun. */
  #finish(): void {
    for (const beats of this.#underWay.values()) {
      for (let beat = beats.next(); beat.done !== true; beat = beats.next()) beat.value();
    }
    for (const queue of this.#queues()) this.#bench.reportSent(queue);
    this.#land();
  }

  #excusedBytes(atPause: Uint8Array, tails: readonly number[]): Set<number> {
    const bench = this.#bench;
    const words = new Uint32Array(atPause.buffer);
    const excused = new Set<number>();
    for (const [queue, choice] of this.#receiveChoices) {
      for (let slot = choice.head; slot !== tails[queue]; slot = (slot + 1) % bench.options.ringDescriptors) {
        const buffer = bench.translate(words[bench.slotAddress(queue, slot) >>> 2] ?? 0);
        for (let i = 0; i < bench.options.bufferBytes; i++) excused.add(buffer + i);
      }
    }
    return excused;
  }

  #resumeState(): VfState {
    const bench = this.#bench;
    const state = bench.save();
    const heads = (name: string, choices: ReadonlyMap<number, { head: number }>): number[] =>
      (state.registers[name] ?? []).map((value, queue) => choices.get(queue)?.head ?? value);
    const registers = {
      ...state.registers,
      VFRDH: heads("VFRDH", this.#receiveChoices),
      VFTDH: heads("VFTDH", this.#transmitChoices),
    };
    const receive = state.receive.queues.map((queue, index) => ({
      ...queue,
      frameInProgress: this.#receiveChoices.get(index)?.insideFrame ?? false,
    }));
    const transmit = state.transmit.queues.map((queue, index) => this.#transmitChoices.get(index)?.state ?? queue);
    return { ...state, registers, receive: { queues: receive }, transmit: { ...state.transmit, queues: transmit } };
  }

  #history(excused: ReadonlySet<number>): LegalHistory {
    let framesDelivered = 0;
    for (const choice of this.#receiveChoices.values()) framesDelivered += choice.framesDone;
    let framesSentTwice = 0;
    for (const queue of this.#queues()) {
      framesSentTwice += (this.#framesSent[queue] ?? 0) - (this.#sentAtChoice.get(queue) ?? 0);
    }
    const destination = { memory: this.#image, vf: this.#resumeState() };
    return {
      evidence: this.#bench.evidence(destination),
      destinationMemory: this.#image,
      ringsEnd: this.#bench.ringsEnd,
      isExcused: (address) => excused.has(address),
      framesDelivered,
      framesDiscarded: this.#bench.ledger.framesCompleted - framesDelivered,
      framesSentTwice,
    };
  }
}
