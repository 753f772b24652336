// The cut and the copy it is made of, against a device that writes between any two halves of a descriptor.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "../base/random.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { RXD_STAT_DD, RXD_STAT_EOP } from "../nic/descriptors.ts";
import type { VfState } from "../nic/state.ts";
import { cutRing, type Cut, type Postings } from "./cut.ts";
import type { MigratableVm } from "./parts.ts";
import { RingCopy } from "./ring-copy.ts";

const BASE = 128;
const WORDS = 4;

interface Shape {
  readonly seed: number;
  readonly slots: number;
  readonly head: number;
  readonly posted: number;
  /** Write-backs of the frame that the pause fell into, before the head. */
  readonly isInsideFrame: boolean;
  readonly before: number;
}

const shapes: fc.Arbitrary<Shape> = fc
  .record({
    seed: fc.integer(),
    slots: fc.constantFrom(8, 16, 24),
    head: fc.nat(23),
    posted: fc.nat(23),
    isInsideFrame: fc.boolean(),
    before: fc.nat(10),
  })
  .map(({ seed, slots, head, posted, isInsideFrame, before }) => {
    return { seed, slots, head: head % slots, posted: posted % slots, isInsideFrame, before };
  });

/** A ring at P, its driver's postings, and a device with more frames than the ring has room for. */
class RingScene {
  readonly shape: Shape;
  readonly random: SeededRandom;
  readonly memory = new BufferMemory(1024, { pageBytes: 64 });
  readonly tail: number;
  /** What the driver posted, and what the device writes back, by slot from the head on. */
  readonly postings = new Map<number, Uint32Array>();
  readonly writeBacks: { readonly slot: number; readonly words: Uint32Array; readonly isEnd: boolean }[] = [];
  written = 0;

  constructor(shape: Shape) {
    this.shape = shape;
    this.random = new SeededRandom(shape.seed);
    this.tail = (shape.head + shape.posted) % shape.slots;
    for (let slot = 0; slot < shape.slots; slot++) this.put(slot, this.#written(this.random.chance(0.5)));
    for (let place = 0; place < shape.posted; place++) this.#post((shape.head + place) % shape.slots);
    // The slot at the tail has its length cleared already, and the rest of its last write-back.
    this.put(this.tail, this.words(this.tail).with(3, 0));
    this.advance(shape.before);
  }

  /** As ixgbevf posts: an address, a length of 0, and the status of the slot's last use, done bits and all. */
  #post(slot: number): void {
    const words = Uint32Array.of(0x1000 + slot * 64, 0, this.#status(this.random.chance(0.8)), 0);
    if (this.random.chance(0.2)) words[2] = 0;
    this.postings.set(slot, words);
    this.put(slot, words);
    const isEnd = this.random.chance(0.6);
    this.writeBacks.push({ slot, words: this.#written(isEnd), isEnd });
  }

  /** The same status again and again is what real traffic looks like. */
  #status(isEnd: boolean): number {
    return RXD_STAT_DD | (isEnd ? RXD_STAT_EOP : 0) | (this.random.chance(0.7) ? 0x60 : this.random.below(64) << 4);
  }

  #written(isEnd: boolean): Uint32Array {
    return Uint32Array.of(this.random.u32(), this.random.u32(), this.#status(isEnd), 1 + this.random.below(0xffff));
  }

  address(slot: number): number {
    return BASE + slot * WORDS * 4;
  }

  words(slot: number): Uint32Array {
    return this.memory.words().slice(this.address(slot) >>> 2, (this.address(slot) >>> 2) + WORDS);
  }

  put(slot: number, words: Uint32Array): void {
    this.memory.words().set(words, this.address(slot) >>> 2);
  }

  /** The device writes so many descriptors back, if it has them. */
  advance(count: number): void {
    for (let left = count; left > 0; left--) {
      const next = this.writeBacks[this.written];
      if (next === undefined) return;
      this.put(next.slot, next.words);
      this.written++;
    }
  }

  get tracker(): Postings {
    return {
      postedWords: (_queue, slot, target) => {
        const posted = this.postings.get(slot);
        if (posted !== undefined) target.set(posted);
        return posted !== undefined;
      },
    };
  }

  /** How many write-backs belong to frames whose end is among the first `count`. */
  wholeFrames(count: number): number {
    return this.writeBacks.slice(0, count).findLastIndex((writeBack) => writeBack.isEnd) + 1;
  }
}

/** Reads the ring while the device goes on whenever `race` is called; gives the image of the ring and the cut. */
type Copier = (scene: RingScene, race: () => void) => { image: (slot: number) => Uint32Array; cut: Cut };

const shipped: Copier = (scene, race) => {
  const { slots, head, isInsideFrame } = scene.shape;
  const vm = {
    vf: { queuePairs: 1, rxRing: () => ({ enabled: true, descriptors: slots, base: BASE }) },
    machine: { memory: scene.memory },
    tracker: scene.tracker,
    translate: (iova: number) => iova,
  } as unknown as MigratableVm;
  const copy = new RingCopy(vm);
  const state = {
    registers: { VFRDH: [head], VFRDT: [scene.tail] },
    receive: { queues: [{ frameInProgress: isInsideFrame, causePending: false, dmaFault: false }] },
  };
  copy.begin(state as unknown as VfState);
  while (copy.step()) race();
  const [cut] = copy.cut();
  assert.ok(cut !== undefined);
  const pages = new Map<number, Uint8Array>();
  copy.forEachPage((page, bytes) => pages.set(page, bytes.slice()));
  const image = (slot: number): Uint32Array => {
    const address = scene.address(slot);
    const page = pages.get(Math.floor(address / 64));
    assert.ok(page !== undefined, `the page of descriptor ${slot} was left out`);
    return new Uint32Array(page.slice(address % 64, (address % 64) + WORDS * 4).buffer);
  };
  return { image, cut };
};

/** Another order of reading, the shipped cut. */
function reading(order: { upwards?: boolean; lowerFirst?: boolean }, cutBy = cutRing): Copier {
  return (scene, race) => {
    const { slots, head, isInsideFrame } = scene.shape;
    const words = new Uint32Array(slots * WORDS);
    for (let step = 0; step < slots * 2; step++) {
      const place = step >>> 1;
      const slot = (order.upwards === true ? scene.tail + place : scene.tail - 1 - place + slots) % slots;
      const isUpper = (step & 1) === (order.lowerFirst === true ? 1 : 0);
      const at = isUpper ? 2 : 0;
      words.set(scene.words(slot).subarray(at, at + 2), slot * WORDS + at);
      race();
    }
    const ring = { queue: 0, words, headAtPause: head, tail: scene.tail, frameInProgressAtPause: isInsideFrame };
    const cut = cutBy(ring, scene.tracker);
    return { image: (slot) => words.slice(slot * WORDS, (slot + 1) * WORDS), cut };
  };
}

/** Everything a destination relies on, for one ring and one race. */
function check(copier: Copier, shape: Shape, beatsMax: number): { carried: number; turnedBack: number; owed: boolean } {
  const scene = new RingScene(shape);
  const { slots, head, posted, isInsideFrame } = shape;
  const doneBefore = scene.written;
  const atPause = Array.from({ length: slots }, (_, slot) => scene.words(slot));
  const { image, cut } = copier(scene, () => scene.advance(scene.random.below(beatsMax + 1)));
  const carried = (cut.head - head + slots) % slots;
  assert.equal(cut.carried, carried);
  assert.ok(carried <= scene.written, "a write-back came along that was never done");
  assert.ok(carried >= scene.wholeFrames(doneBefore), "a frame was left behind that was whole before the copy began");
  assert.equal(carried, scene.wholeFrames(carried), "the cut is inside a frame");
  for (let place = 0; place < slots; place++) {
    const slot = (head + place) % slots;
    const expected =
      place < carried ? scene.writeBacks[place]?.words : place < posted ? scene.postings.get(slot) : atPause[slot];
    assert.deepEqual(image(slot), expected, `descriptor ${slot}, ${place} after the head`);
  }
  const owed = isInsideFrame && carried === 0;
  assert.equal(cut.frameInProgress, owed);
  return { carried, turnedBack: cut.turnedBack, owed };
}

const races = fc.tuple(shapes, fc.constantFrom(1, 1, 2, 4));

test("whenever the device writes, the copied ring shows a prefix of whole frames, and behind it what was posted", () => {
  const seen = { carried: 0, turnedBack: 0, owed: 0 };
  fc.assert(
    fc.property(races, ([shape, beatsMax]) => {
      const { carried, turnedBack, owed } = check(shipped, shape, beatsMax);
      seen.carried += carried;
      seen.turnedBack += turnedBack;
      if (owed) seen.owed++;
    }),
    { numRuns: 3000, seed: 20_261_123 },
  );
  assert.ok(seen.carried > 1000 && seen.turnedBack > 1000 && seen.owed > 100, JSON.stringify(seen));
});

/** Done is what has DD set. */
function cutByDoneBit(...[ring, postings]: Parameters<typeof cutRing>): Cut {
  const marked = {
    postedWords: (_queue: number, slot: number, target: Uint32Array) => {
      const isDone = ((ring.words[slot * WORDS + 2] ?? 0) & RXD_STAT_DD) !== 0;
      return !isDone && postings.postedWords(ring.queue, slot, target);
    },
  };
  return cutRing(ring, marked);
}

/** Does not go back to the end of a frame. */
function cutAnywhere(...[ring, postings]: Parameters<typeof cutRing>): Cut {
  const words = ring.words.map((word, index) => (index % WORDS === 2 ? word | RXD_STAT_EOP : word));
  const cut = cutRing({ ...ring, words }, postings);
  for (let slot = cut.head; slot !== ring.tail; slot = (slot + 1) % (words.length / WORDS)) {
    ring.words.set(words.subarray(slot * WORDS, (slot + 1) * WORDS), slot * WORDS);
  }
  return cut;
}

/** Leaves what it does not want where it was read. */
function cutWithoutTurningBack(...[ring, postings]: Parameters<typeof cutRing>): Cut {
  return cutRing({ ...ring, words: ring.words.slice() }, postings);
}

const specimens: Readonly<Record<string, Copier>> = {
  "reads in the device's own direction": reading({ upwards: true }, cutWithoutTurningBack),
  "reads the lower half first": reading({ lowerFirst: true }),
  "believes the done bit": reading({}, cutByDoneBit),
  "cuts anywhere": reading({}, cutAnywhere),
  "does not turn back": reading({}, cutWithoutTurningBack),
};

for (const [name, copier] of Object.entries(specimens)) {
  test(`a copy that ${name} is found out`, () => {
    const details = fc.check(
      fc.property(races, ([shape, beatsMax]) => void check(copier, shape, beatsMax)),
      { numRuns: 3000, seed: 20_261_123 },
    );
    assert.ok(details.failed, "nobody noticed");
  });
}

test("given what was posted, the cut mends every order of descriptors, if the upper half of each is read first", () => {
  fc.assert(
    fc.property(races, ([shape]) => {
      const scene = new RingScene(shape);
      const { cut, image } = reading({ upwards: true })(scene, () => scene.advance(scene.random.below(2)));
      const carried = (cut.head - shape.head + shape.slots) % shape.slots;
      assert.equal(carried, scene.wholeFrames(carried));
      for (let place = carried; place < shape.posted; place++) {
        const slot = (shape.head + place) % shape.slots;
        assert.deepEqual(image(slot), scene.postings.get(slot));
      }
    }),
    { numRuns: 1000, seed: 20_261_123 },
  );
});

test("a write-back of which the device has written some words only is not done", () => {
  for (let seed = 0; seed < 300; seed++) {
    const scene = new RingScene({ seed, slots: 8, head: seed % 8, posted: 7, isInsideFrame: false, before: seed % 5 });
    const next = scene.writeBacks[scene.written];
    assert.ok(next !== undefined);
    const words = scene.words(next.slot);
    words.set(next.words.subarray(0, seed % 4), 0);
    scene.put(next.slot, words);
    const { cut, image } = shipped(scene, () => undefined);
    assert.equal(cut.carried, scene.wholeFrames(scene.written));
    assert.deepEqual(image(next.slot), scene.postings.get(next.slot));
  }
});

test("a posted descriptor with the done bits of its last use is not done, and one equal in its lower half is", () => {
  const posted = Uint32Array.of(0x5000, 0, RXD_STAT_DD | RXD_STAT_EOP, 0);
  const postings: Postings = {
    postedWords: (_queue, _slot, target) => {
      target.set(posted);
      return true;
    },
  };
  const words = new Uint32Array(8 * WORDS);
  for (let slot = 0; slot < 8; slot++) words.set(posted, slot * WORDS);
  words.set([0x5000, 0, RXD_STAT_DD | RXD_STAT_EOP, 60], 6 * WORDS);
  const ring = { queue: 0, words, headAtPause: 6, tail: 3, frameInProgressAtPause: true };
  assert.deepEqual(cutRing(ring, postings), { head: 7, frameInProgress: false, carried: 1, turnedBack: 0 });
});

test("a ring whose registers are nonsense is left alone, and none of it makes the copy run for ever", () => {
  const nonsense = [
    { enabled: false, descriptors: 8, head: 0, tail: 4 },
    { enabled: true, descriptors: 0, head: 0, tail: 0 },
    { enabled: true, descriptors: 8, head: 8, tail: 4 },
    { enabled: true, descriptors: 8, head: 0, tail: 0xffff },
  ];
  for (const { enabled, descriptors, head, tail } of nonsense) {
    const memory = new BufferMemory(1024, { pageBytes: 64 });
    const vm = {
      vf: { queuePairs: 1, rxRing: () => ({ enabled, descriptors, base: BASE }) },
      machine: { memory },
      translate: (iova: number) => iova,
    } as unknown as MigratableVm;
    const copy = new RingCopy(vm);
    copy.begin({ registers: { VFRDH: [head], VFRDT: [tail] }, receive: { queues: [] } } as unknown as VfState);
    assert.equal(copy.step(), false);
    assert.deepEqual(copy.cut(), []);
  }
});

test("a ring that lies outside memory, in part or as a whole, is copied as far as there is memory", () => {
  for (const base of [1024 - 64, 1024, 2 ** 40]) {
    const memory = new BufferMemory(1024, { pageBytes: 64 });
    memory.bytes().fill(0xab);
    const vm = {
      vf: { queuePairs: 1, rxRing: () => ({ enabled: true, descriptors: 8, base }) },
      machine: { memory },
      tracker: { postedWords: () => false },
      translate: (iova: number) => iova,
    } as unknown as MigratableVm;
    const copy = new RingCopy(vm);
    copy.begin({ registers: { VFRDH: [0], VFRDT: [4] }, receive: { queues: [] } } as unknown as VfState);
    while (copy.step());
    copy.cut();
    const pages: number[] = [];
    copy.forEachPage((page, bytes) => {
      pages.push(page);
      assert.deepEqual(bytes, new Uint8Array(64).fill(0xab));
    });
    assert.deepEqual(pages, base < 1024 ? [15] : []);
  }
});
