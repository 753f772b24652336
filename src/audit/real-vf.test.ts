import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "../base/random.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "../nic/guest.fixture.ts";
import * as register from "../nic/registers.ts";
import type { VfState } from "../nic/state.ts";
import { audit } from "./audit.ts";
import { Ledger } from "./ledger.ts";
import type { Verdict } from "./verdict.ts";

/** The VF that ships, under its own test guest, with the ledger beside it. */
class Move {
  readonly memory = new BufferMemory(1 << 20);
  readonly ledger = new Ledger(this.memory, { writesMax: 4096, undoBytesMax: 1 << 20 });
  readonly guest: TestGuest;
  readonly random: SeededRandom;
  #vfAtPause: VfState | undefined;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    const wrapDma = (port: unknown): GuestDma => {
      assert.ok(port instanceof GuestDma);
      port.addObserver(this.ledger);
      return port;
    };
    this.guest = new TestGuest({ wrapDma }, this.memory);
    this.guest.boot();
    this.ledger.beginUndo();
  }

  /** The network and the device go on. */
  runDevice(steps: number): void {
    const { vf } = this.guest;
    for (let i = 0; i < steps; i++) {
      if (this.random.chance(0.3)) {
        vf.receiveFrame(frameTo(guestMac, otherMac, 60 + this.random.below(1400), this.random.below(256)));
      }
      if (this.random.chance(0.8)) vf.step();
    }
  }

  runGuest(steps: number): void {
    for (let i = 0; i < steps; i++) {
      if (this.random.chance(0.2)) this.guest.poll();
      if (this.random.chance(0.2)) this.guest.transmit(frameTo(otherMac, guestMac, 60 + this.random.below(900), i));
      if (this.random.chance(0.2)) this.guest.clean();
      this.runDevice(1);
    }
  }

  pause(): void {
    this.ledger.markVcpusPaused();
    this.#vfAtPause = this.guest.vf.save();
  }

  verdict(destinationMemory: Uint8Array, vfAtResume: VfState): Verdict {
    assert.ok(this.#vfAtPause !== undefined);
    this.guest.vf.run();
    return audit({
      pageBytes: 4096,
      sourceMemory: this.memory.bytes().slice(),
      destinationMemory,
      ledger: this.ledger.record(),
      vfAtPause: this.#vfAtPause,
      vfAtSourceEnd: this.guest.vf.save(),
      vfAtResume,
      raisedEveryVector: true,
      droppedRings: false,
    });
  }
}

const seeds = fc.integer({ min: 0, max: 0x7fff_ffff });
const moves = fc.record({ seed: seeds, before: fc.nat(60), after: fc.nat(40), beyond: fc.nat(40) });

test("memory and state of the VF taken between any two of its beats are a legal cut", () => {
  let carried = 0;
  let discarded = 0;
  fc.assert(
    fc.property(moves, ({ seed, before, after, beyond }) => {
      const move = new Move(seed);
      move.runGuest(before);
      move.pause();
      move.runDevice(after);
      const image = move.memory.bytes().slice();
      const vf = move.guest.vf.save();
      move.runDevice(beyond);
      const verdict = move.verdict(image, vf);
      assert.deepEqual(
        verdict.corruptions.map(({ hazard, sentence }) => `${hazard}: ${sentence}`),
        [],
      );
      carried += verdict.receive[0]?.framesCarried ?? 0;
      discarded += verdict.frames.discarded;
    }),
    { numRuns: 40 },
  );
  assert.ok(carried > 0 && discarded > 0, `${carried} carried, ${discarded} discarded`);
});

test("state that is newer than memory by a frame is head-ahead, and by a completion lost-completion", () => {
  let ahead = 0;
  let incomplete = 0;
  fc.assert(
    fc.property(moves, ({ seed, before, after, beyond }) => {
      const move = new Move(seed);
      move.runGuest(before);
      move.pause();
      const image = move.memory.bytes().slice();
      const head = move.guest.read(register.VFRDH(0));
      const completed = move.guest.vf.save().transmit.queues[0]?.reported;
      move.runDevice(after);
      const vf = move.guest.vf.save();
      const isAhead = move.guest.read(register.VFRDH(0)) !== head;
      const isIncomplete = vf.transmit.queues[0]?.reported !== completed;
      move.runDevice(beyond);
      const { hazards } = move.verdict(image, vf);
      assert.equal("head-ahead" in hazards, isAhead);
      assert.equal("lost-completion" in hazards, isIncomplete);
      if (isAhead) ahead++;
      if (isIncomplete) incomplete++;
    }),
    { numRuns: 40 },
  );
  assert.ok(ahead > 0 && incomplete > 0, `${ahead} ahead, ${incomplete} incomplete`);
});
