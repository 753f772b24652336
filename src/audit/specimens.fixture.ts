// For every hazard a migration that shows it and nothing else.
import { SeededRandom } from "../base/random.ts";
import { DESCRIPTOR_BYTES } from "../nic/descriptors.ts";
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import { realScale, type BenchOptions } from "./bench-guest.fixture.ts";
import { Bench } from "./bench.fixture.ts";
import type { Evidence } from "./evidence.ts";
import type { Hazard } from "./hazards.ts";
import { makeFrame } from "./saved-vf.fixture.ts";

/** A guest that has received, taken and sent frames for a while, and what a destination got of it. */
export class Scene {
  readonly bench: Bench;
  readonly random = new SeededRandom(20151029);
  image: Uint8Array = new Uint8Array(0);
  vf: VfState | undefined;

  constructor(options: BenchOptions = realScale) {
    this.bench = new Bench(options);
    this.bench.ledger.beginUndo();
  }

  /** Receives a frame of 60 bytes and says where its first buffer lies. */
  receive(lengthBytes = 60): { slot: number; buffer: number } {
    const slot = this.head;
    const buffer = this.bench.driver[0]?.buffers[slot] ?? 0;
    this.bench.receiveFrame(0, makeFrame(this.random, lengthBytes));
    return { slot, buffer };
  }

  get head(): number {
    return this.bench.get(register.VFRDH(0));
  }

  /** `rounds` frames in, taken and posted again, and as many out. The slots used are 0 to rounds - 1, both ways. */
  warmUp(rounds = 4): this {
    for (let round = 0; round < rounds; round++) {
      this.receive();
      this.bench.poll(0);
      this.bench.refill(0);
      this.bench.send(0, 1);
      this.bench.sendFrame(0);
    }
    return this;
  }

  /** The vCPUs pause with `done` frames done and not taken. */
  pause(done = 2): this {
    for (let i = 0; i < done; i++) this.receive();
    this.bench.pause();
    return this;
  }

  /** What memory and device are now is what the destination gets; the device goes on with `more` frames. */
  cut(more = 2): this {
    this.image = this.bench.snapshot();
    this.vf = this.bench.save();
    for (let i = 0; i < more; i++) this.receive();
    return this;
  }

  /** Sets saved registers of the destination's VF. */
  setRegister(name: string, index: number, value: number): this {
    const vf = this.vfState;
    this.vf = { ...vf, registers: { ...vf.registers, [name]: (vf.registers[name] ?? []).with(index, value) } };
    return this;
  }

  get vfState(): VfState {
    if (this.vf === undefined) throw new Error("the scene was not cut");
    return this.vf;
  }

  get vfHead(): number {
    return this.vfState.registers["VFRDH"]?.[0] ?? 0;
  }

  /** Writes into the destination's image. */
  spoil(address: number, bytes: Uint8Array | readonly number[]): this {
    this.image.set(bytes, address);
    return this;
  }

  flip(address: number): this {
    return this.spoil(address, [(this.image[address] ?? 0) ^ 0x55]);
  }

  evidence(more: Partial<Evidence> = {}): Evidence {
    return this.bench.evidence({ memory: this.image, vf: this.vfState }, more);
  }
}

/** Two frames carried over the pause, two more after the cut. */
export function legalScene(options: BenchOptions = realScale): Scene {
  const scene = new Scene(options).warmUp().pause();
  scene.receive();
  scene.receive();
  return scene.cut();
}

const slotBytes = (scene: Scene, slot: number, memory: Uint8Array): Uint8Array => {
  const address = scene.bench.slotAddress(0, slot);
  return memory.slice(address, address + DESCRIPTOR_BYTES);
};

/** Frames in slots 0 (its page is released when it is taken) and 1 (its page stays, with the other half posted) arrive stale. */
function staleTakenFrames(slots: readonly number[]): Evidence {
  const scene = new Scene();
  const before = scene.bench.snapshot();
  const frames = [scene.receive(), scene.receive(), scene.receive()];
  for (let i = 0; i < frames.length; i++) scene.bench.poll(0, 1);
  scene.bench.refill(0);
  scene.pause().cut();
  for (const { slot, buffer } of frames) {
    if (slots.includes(slot)) scene.spoil(buffer, before.subarray(buffer, buffer + 60));
  }
  return scene.evidence();
}

/** Frames posted for sending: one sent before the pause, `queued` more waiting at the pause. */
function sendingScene(queued: number): Scene {
  const scene = new Scene().warmUp();
  for (let i = 0; i < queued; i++) scene.bench.send(0, 1);
  return scene.pause();
}

const counters = { dropped: { "no descriptors": 3 }, heldBySource: 1, takenByDestination: 2 };

export const specimens: Readonly<Record<Hazard, () => Evidence>> = {
  "stale-cpu-page": () => {
    const scene = legalScene();
    return scene.flip(scene.bench.cpuStart + 5).evidence();
  },
  "lost-clear": () => {
    const scene = legalScene();
    return scene.flip(scene.bench.cpuStart + 5).evidence({ failedAttempts: 1 });
  },
  "invisible-dma": () => staleTakenFrames([0, 1]),
  "released-since": () => staleTakenFrames([0]),
  "shared-page": () => staleTakenFrames([1]),
  "ring-hole": () => {
    const scene = new Scene().warmUp().pause();
    const atPause = scene.bench.snapshot();
    scene.receive();
    const { slot } = scene.receive();
    scene.receive();
    scene.cut().spoil(scene.bench.slotAddress(0, slot), slotBytes(scene, slot, atPause));
    return scene.setRegister("VFRDH", 0, slot).evidence();
  },
  "torn-descriptor": () => {
    const scene = new Scene().warmUp().pause();
    const atPause = scene.bench.snapshot();
    scene.receive();
    const { slot } = scene.receive();
    scene.cut().spoil(scene.bench.slotAddress(0, slot) + 8, slotBytes(scene, slot, atPause).subarray(8));
    return scene.setRegister("VFRDH", 0, slot).evidence();
  },
  "half-frame": () => {
    const scene = new Scene().warmUp().pause();
    const beats = scene.bench.beats(0, makeFrame(scene.random, 3000));
    for (const beat of beats.take(2)) beat();
    return scene.cut(0).evidence();
  },
  "stale-descriptor": () => {
    const scene = legalScene();
    return scene.spoil(scene.bench.slotAddress(0, scene.head + 5) + 12, [60]).evidence();
  },
  "done-in-dropped-ring": () => {
    const scene = droppedScene();
    return scene.spoil(scene.bench.slotAddress(0, 7) + 12, [60]).evidence({ droppedRings: true });
  },
  "read-ahead": () => {
    const scene = new Scene().warmUp().pause();
    const atPause = scene.bench.snapshot();
    const { buffer } = scene.receive();
    return scene
      .cut()
      .spoil(buffer, atPause.subarray(buffer, buffer + 60))
      .evidence();
  },
  "check-to-write-window": () => {
    const scene = new Scene().warmUp();
    const before = scene.bench.snapshot();
    const { slot, buffer } = scene.receive();
    scene
      .pause(1)
      .cut()
      .spoil(buffer, before.subarray(buffer, buffer + 60));
    return scene.evidence({ driver: { receive: [{ nextToClean: slot, isBetweenCheckAndWrite: true }] } });
  },
  "dummy-write-race": () => {
    const scene = new Scene({ ...realScale, hashContents: true }).warmUp();
    const [buffer, writeBack] = [...scene.bench.beats(0, makeFrame(scene.random, 60))];
    const address = scene.bench.driver[0]?.buffers[scene.head] ?? 0;
    const old = scene.bench.memory.bytes()[address] ?? 0;
    buffer?.();
    scene.bench.poke(address, old ^ 1);
    writeBack?.();
    return scene.pause().cut().evidence();
  },
  "relaxed-ordering": () => {
    const scene = new Scene().warmUp().pause();
    const [buffer, writeBack] = [...scene.bench.beats(0, makeFrame(scene.random, 60), { relaxed: true })];
    writeBack?.();
    scene.cut(0);
    buffer?.();
    return scene.evidence();
  },
  "late-write": () => {
    const scene = new Scene().warmUp();
    const [buffer, writeBack] = [...scene.bench.beats(0, makeFrame(scene.random, 60))];
    scene.bench.set(register.VFRDH(0), scene.head + 1);
    scene.bench.pause();
    scene.bench.ledger.markDeviceStopped();
    scene.cut(0);
    buffer?.();
    writeBack?.();
    return scene.evidence();
  },
  "head-ahead": () => {
    const scene = legalScene();
    return scene.setRegister("VFRDH", 0, scene.vfHead + 1).evidence();
  },
  "head-behind": () => {
    const scene = legalScene();
    return scene.setRegister("VFRDH", 0, scene.vfHead - 1).evidence();
  },
  "phantom-frame": () => {
    const scene = legalScene();
    scene.vfState.receive.queues[0] = { frameInProgress: true, causePending: false, dmaFault: false };
    return scene.evidence();
  },
  "register-mismatch": () => legalScene().setRegister("VTEIAC", 0, 5).evidence(),
  "device-state-mismatch": () => {
    const scene = legalScene();
    const { pci } = scene.vfState;
    const msixVectors = pci.msixVectors.map((vector) => ({ ...vector, data: vector.data + 1 }));
    scene.vf = { ...scene.vfState, pci: { ...pci, msixVectors } };
    return scene.evidence();
  },
  "lost-descriptor-address": () => {
    const scene = legalScene();
    return scene.spoil(scene.bench.slotAddress(0, scene.head + 5), new Uint8Array(8)).evidence();
  },
  "lost-completion": () => {
    const scene = sendingScene(1);
    const atPause = scene.bench.snapshot();
    scene.bench.sendFrame(0);
    const address = scene.bench.txSlotAddress(0, 4);
    return scene
      .cut()
      .spoil(address, atPause.subarray(address, address + DESCRIPTOR_BYTES))
      .evidence();
  },
  "repeated-completion": () => {
    const scene = sendingScene(1);
    scene.bench.sendFrame(0);
    scene.cut();
    const [queue] = scene.vfState.transmit.queues;
    if (queue !== undefined) queue.reported = 4;
    return scene.evidence();
  },
  "tx-head-ahead": () => {
    const scene = sendingScene(2).cut();
    return scene.setRegister("VFTDH", 0, 5).evidence();
  },
  "tx-head-behind": () => sendingScene(1).cut().setRegister("VFTDH", 0, 3).evidence(),
  "tx-descriptor-overwritten": () => {
    const scene = sendingScene(2).cut();
    return scene.flip(scene.bench.txSlotAddress(0, 5)).evidence();
  },
  "half-frame-sent": () => {
    const scene = new Scene().warmUp();
    scene.bench.send(0, 2);
    scene.pause();
    scene.cut().setRegister("VFTDH", 0, 5);
    scene.bench.sendFrame(0);
    return scene.evidence();
  },
  "context-slot": () => {
    const scene = legalScene();
    const [queue] = scene.vfState.transmit.queues;
    if (queue !== undefined) queue.contexts[1] = { valid: true, vlanMacipLens: 7, typeTucmdMlhl: 0, mssL4lenIdx: 0 };
    return scene.evidence();
  },
  "stale-head-writeback": () => legalScene().setRegister("VFTDWBAL", 0, 0x5001).evidence(),
  "lost-interrupt": () => legalScene().evidence({ raisedEveryVector: false }),
  "duplicate-frame": () => {
    const scene = legalScene();
    return scene.evidence({ counters: { ...counters, offered: scene.bench.ledger.framesCompleted + 5 } });
  },
  "frame-accounting": () => {
    const scene = legalScene();
    return scene.evidence({ counters: { ...counters, offered: scene.bench.ledger.framesCompleted + 7 } });
  },
};

/** A destination whose rings were cleared, and whose device starts over. */
export function droppedScene(): Scene {
  const scene = legalScene();
  const { ringDescriptors } = scene.bench.options;
  for (const base of [scene.bench.slotAddress(0, 0), scene.bench.txSlotAddress(0, 0)]) {
    scene.spoil(base, new Uint8Array(ringDescriptors * DESCRIPTOR_BYTES));
  }
  const { registers } = scene.vfState;
  const cleared = Object.entries(registers).map(([name, values]) => [name, values.map(() => 0)] as const);
  scene.vf = { ...scene.vfState, registers: Object.fromEntries(cleared) };
  return scene;
}
