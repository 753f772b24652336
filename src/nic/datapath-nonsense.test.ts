import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Domain } from "../iommu/domain.ts";
import { tagPurpose, DmaPurpose } from "../iommu/dma-port.ts";
import type { RingView } from "./datapath-ports.ts";
import { DatapathGuest } from "./datapath.fixture.ts";
import { DescriptorShadowTracker } from "./descriptor-shadow.ts";
import { PageSet } from "../memory/page-set.ts";
import {
  REGISTER_COUNT,
  RXDCTL_ENABLE,
  TXDCTL_ENABLE,
  VFDCA_RXCTRL,
  VFDCA_TXCTRL,
  VFMRQC,
  VFPSRTYPE,
  VFRDBAH,
  VFRDBAL,
  VFRDH,
  VFRDLEN,
  VFRXDCTL,
  VFSRRCTL,
  VFTDBAH,
  VFTDBAL,
  VFTDH,
  VFTDLEN,
  VFTDWBAH,
  VFTDWBAL,
  VFTXDCTL,
} from "./registers.ts";

/*
 * A guest that programs anything at all: every register of two queue pairs, every byte of its memory, doorbells at any
 * moment, descriptors from its own random memory. What must hold: nothing throws; whatever is asked for, the device's
 * work ends; each step writes at most one piece; head and tail of a working queue are indices of its ring; no queue
 * is touched by another's mistakes.
 */

const memoryBytes = 0x1_0000;
const queues = [0, 1];
const receiveRegisters = [VFRDBAL, VFRDBAH, VFRDLEN, VFDCA_RXCTRL, VFSRRCTL, VFRXDCTL, VFRDH];
const transmitRegisters = [VFTDBAL, VFTDBAH, VFTDLEN, VFDCA_TXCTRL, VFTXDCTL, VFTDWBAL, VFTDWBAH, VFTDH];

const value = fc.oneof(
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(0, 1, 7, 8, 16, 127, 128, 129, 256, 1024, 4095, 4096, 0x1_0000, 0x1_0010, 0xffff, 0xffff_ff80),
  fc.constantFrom(RXDCTL_ENABLE, RXDCTL_ENABLE | 0x4000_0000, TXDCTL_ENABLE | 0x8_0000, 0x1200_0002, 0x0200_0001),
  fc.integer({ min: 0, max: memoryBytes - 1 }),
);
const queue = fc.constantFrom(...queues);
const weighted = <T>(weight: number, arbitrary: fc.Arbitrary<T>): fc.WeightedArbitrary<T> => ({ weight, arbitrary });
/** Sets both directions of a queue up; a buffer size of 0 is one of the mistakes. */
const opening = (which: fc.Arbitrary<number>) =>
  fc.record({
    kind: fc.constant("open" as const),
    queue: which,
    descriptors: fc.constantFrom(8, 16, 64),
    bufferKiB: fc.constantFrom(0, 1, 1, 1, 2, 3),
  });
const action = fc.oneof(
  weighted(
    3,
    fc.record({ kind: fc.constant("receive" as const), queue, which: fc.nat(receiveRegisters.length - 1), value }),
  ),
  weighted(
    3,
    fc.record({ kind: fc.constant("transmit" as const), queue, which: fc.nat(transmitRegisters.length - 1), value }),
  ),
  weighted(1, fc.record({ kind: fc.constant("rss" as const), value })),
  weighted(4, opening(queue)),
  // As a driver would, so that something happens, and then as none would.
  weighted(20, fc.record({ kind: fc.constant("post" as const), queue, count: fc.nat(9) })),
  weighted(1, fc.record({ kind: fc.constant("receiveTail" as const), queue, value })),
  weighted(1, fc.record({ kind: fc.constant("transmitTail" as const), queue, value })),
  weighted(
    1,
    fc.record({
      kind: fc.constant("scribble" as const),
      at: fc.nat(memoryBytes - 40),
      bytes: fc.uint8Array({ maxLength: 40, size: "max" }),
    }),
  ),
  weighted(
    8,
    fc.record({
      kind: fc.constant("frame" as const),
      length: fc.oneof(fc.nat(2100), fc.nat(10_000)),
      type: fc.constantFrom(0x0800, 0x86dd, 0x8100, 1),
      repeat: fc.nat(12),
    }),
  ),
  weighted(6, fc.record({ kind: fc.constant("steps" as const), count: fc.nat(30) })),
  weighted(3, fc.record({ kind: fc.constant("restore" as const) })),
  weighted(1, fc.record({ kind: fc.constant("stop" as const) })),
  weighted(2, fc.record({ kind: fc.constant("start" as const) })),
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

/** Descriptors that are plausible enough to get deep into the units. */
function seedMemory(guest: DatapathGuest, salt: number): void {
  const words = guest.memory.words();
  let state = salt | 1;
  for (let i = 0; i < words.length; i++) {
    state = Math.imul(state, 1_664_525) + 1_013_904_223;
    words[i] = state;
  }
  for (let i = 0; i < words.length; i += 4) {
    state = Math.imul(state, 1_664_525) + 1_013_904_223;
    if ((state & 0x300) === 0) continue;
    words[i + 1] = 0;
    words[i] = (words[i] ?? 0) & 0x1_ffff;
    const kind =
      [0x2030_0000, 0x2130_0000, 0x2930_0000, 0xe930_0000, 0x2020_0000, 0x2020_0c00][(state >>> 16) % 6] ?? 0;
    words[i + 2] = kind + ((state >>> 20) & 0x7ff);
  }
}

function check(guest: DatapathGuest, registersBefore: number): void {
  for (const index of queues) {
    for (const unit of [guest.receive, guest.transmit]) {
      const { condition, head, tail, descriptors, enabled } = unit.ring(index);
      assert.ok(descriptors <= 4096 && descriptors % 8 === 0);
      if (condition === "ready") assert.ok(enabled && head < descriptors && tail < descriptors);
    }
  }
  assert.equal(guest.registers.length, registersBefore);
}

function tailAfter({ tail, descriptors }: RingView, count: number): number {
  return descriptors === 0 ? tail : (tail + count) % descriptors;
}

function perform(guest: DatapathGuest, tracker: DescriptorShadowTracker, act: Action): void {
  switch (act.kind) {
    case "receive":
      guest.setRegister((receiveRegisters[act.which] ?? VFRDBAL)(act.queue), act.value);
      guest.receive.queueChanged(act.queue);
      tracker.queueChanged(act.queue);
      break;
    case "transmit":
      guest.setRegister((transmitRegisters[act.which] ?? VFTDBAL)(act.queue), act.value);
      guest.transmit.queueChanged(act.queue);
      if ((act.value & 1) !== 0) guest.transmit.flush(act.queue);
      break;
    case "rss":
      guest.setRegister(VFMRQC, act.value);
      guest.setRegister(VFPSRTYPE, act.value);
      guest.receive.rssChanged();
      break;
    case "open":
      guest.openReceive(act.queue, { ...act, drop: act.queue === 0 });
      tracker.queueChanged(act.queue);
      guest.openTransmit(act.queue, act);
      break;
    case "post":
      guest.setReceiveTail(tailAfter(guest.receive.ring(act.queue), act.count), act.queue);
      tracker.tailWritten(act.queue);
      guest.setTransmitTail(tailAfter(guest.transmit.ring(act.queue), act.count), act.queue);
      break;
    case "receiveTail":
      guest.setReceiveTail(act.value, act.queue);
      tracker.tailWritten(act.queue);
      break;
    case "transmitTail":
      guest.setTransmitTail(act.value, act.queue);
      break;
    case "scribble":
      guest.memory.bytes().set(act.bytes, act.at);
      break;
    case "frame": {
      const frame = new Uint8Array(act.length).fill(act.length);
      if (act.length >= 18) frame.set([act.type >>> 8, act.type & 0xff, 0x45, 0, 0, 40], 12);
      for (let i = 0; i <= act.repeat; i++) guest.receive.frame(frame);
      break;
    }
    case "steps":
      for (let i = 0; i < act.count; i++) (i % 2 === 0 ? guest.receive : guest.transmit).step();
      break;
    case "restore":
      guest.receive.restore(guest.receive.save());
      guest.transmit.restore(guest.transmit.save());
      tracker.rebuild();
      break;
    case "stop":
      guest.receive.stop();
      guest.transmit.stop();
      break;
    case "start":
      guest.receive.start();
      guest.transmit.start();
      break;
  }
}

/** How often each counter moved over all plays: a fuzz that gets nowhere proves nothing. */
type Reached = Map<string, number>;

function noteReached(guest: DatapathGuest, reached: Reached): void {
  for (const [name, count] of Object.entries({ ...guest.receive.counters, ...guest.transmit.counters })) {
    if (count > 0) reached.set(name, (reached.get(name) ?? 0) + 1);
  }
}

function play(actions: readonly Action[], salt: number, withIommu: boolean, reached: Reached): void {
  const domain = new Domain();
  const guest = new DatapathGuest({ memoryBytes, queuePairs: 2, ...(withIommu ? { domain } : {}) });
  // Some pages are missing, one can only be read, one only be written; rings are among the good ones mostly.
  for (let page = 0; page < 16; page++) {
    const access = page === 6 ? 1 : page === 7 ? 2 : 3;
    if (page % 5 !== 4) domain.map({ iova: page * 4096, address: page * 4096, lengthBytes: 4096, access });
  }
  seedMemory(guest, salt);
  guest.receive.frameBytesMax = 9728;
  const { dma, registers, memory } = guest;
  const tracker = new DescriptorShadowTracker({ dma, registers, pages: memory.pages, queuePairs: 2 });
  let writes = 0;
  guest.dma.addObserver({
    before: (address, length, tag) => {
      writes++;
      const isBuffer = tagPurpose(tag) === DmaPurpose.rxBuffer;
      assert.ok(length <= (isBuffer ? 31 * 1024 : 16) && address >= 0 && address + length <= memoryBytes);
    },
  });
  for (const act of actions) {
    perform(guest, tracker, act);
    check(guest, REGISTER_COUNT);
  }
  guest.receive.start();
  guest.transmit.start();
  for (const unit of [guest.receive, guest.transmit]) {
    let steps = 0;
    for (let before = writes; unit.step(); before = writes) {
      // With a scattered range, one write is one piece a page.
      assert.ok(writes - before <= 10, `${writes - before} writes in one step`);
      // Both directions: at most a ring of frames, each with three beats, and what the packet buffer holds.
      assert.ok(++steps <= 2 * 3 * 4096 + 3 * 8192, "the unit does not come to rest");
    }
  }
  check(guest, REGISTER_COUNT);
  noteReached(guest, reached);
  const mapped = new PageSet(memory.pages.count);
  tracker.mappedInto(mapped);
  tracker.ringPagesInto(mapped);
}

/** What becomes of frames in dozens of plays or more; tests of their own reach the rest. */
const reachable = [
  "delivered",
  "withoutDescriptors",
  "queueNotReady",
  "bufferFaults",
  "descriptorFaults",
  "sent",
  "malformed",
  "withoutContext",
  "dataFaults",
];

for (const withIommu of [false, true]) {
  const where = withIommu ? "behind an IOMMU" : "without an IOMMU";
  test(`whatever a guest programs ${where}, nothing throws, nothing escapes, and the units come to rest`, () => {
    const reached: Reached = new Map();
    const openings = fc.tuple(...queues.map((index) => opening(fc.constant(index))));
    const plays = fc.tuple(openings, fc.array(action, { maxLength: 60, size: "max" }), fc.nat(1_000_000));
    fc.assert(
      fc.property(plays, ([opens, rest, salt]) => play([...opens, ...rest], salt, withIommu, reached)),
      { numRuns: 120 },
    );
    assert.deepEqual(
      reachable.filter((name) => !reached.has(name)),
      [],
    );
  });
}

test("a ring length that is no ring gives the queue a name for its condition and no work", () => {
  for (const bytes of [0, 1, 16, 112, 127, 129, 4096 * 16 + 128, 0xf_ff80, 0xffff_ffff]) {
    const guest = new DatapathGuest();
    guest.openReceive();
    guest.openTransmit();
    guest.setRegister(VFRDLEN(0), bytes);
    guest.setRegister(VFTDLEN(0), bytes);
    guest.receive.queueChanged(0);
    guest.transmit.queueChanged(0);
    guest.setReceiveTail(3);
    guest.setTransmitTail(3);
    guest.receive.frame(new Uint8Array(60));
    assert.deepEqual([guest.receive.step(), guest.transmit.step()], [false, false], `${bytes} bytes`);
    assert.deepEqual([guest.receive.ring(0).condition, guest.transmit.ring(0).condition], ["bad-length", "bad-length"]);
    assert.equal(guest.receive.counters.queueNotReady, 1);
  }
});

test("ring and head write-back addresses that are not aligned, or beyond 2^53, are faults of the guest and no more", () => {
  for (const [low, high] of [
    [0x1003, 0],
    [0xffff_ffff, 0xffff_ffff],
    [0x80, 0x0200_0000],
  ] as const) {
    const guest = new DatapathGuest();
    guest.setRegister(VFTDWBAL(0), low | 1);
    guest.setRegister(VFTDWBAH(0), high);
    guest.openReceive();
    guest.openTransmit();
    for (const [lowAt, highAt] of [
      [VFRDBAL(0), VFRDBAH(0)],
      [VFTDBAL(0), VFTDBAH(0)],
    ] as const) {
      guest.setRegister(lowAt, low);
      guest.setRegister(highAt, high);
    }
    guest.receive.queueChanged(0);
    guest.transmit.queueChanged(0);
    guest.setReceiveTail(3);
    guest.setTransmitTail(3);
    guest.receive.frame(new Uint8Array(60));
    guest.run(guest.receive);
    guest.run(guest.transmit);
    const expected = high === 0 ? "ready" : "dma-fault";
    assert.deepEqual([guest.receive.ring(0).condition, guest.transmit.ring(0).condition], [expected, expected]);
  }
});

test("a runaway tail stops the queue until a good tail is written", () => {
  const guest = new DatapathGuest();
  guest.openReceive();
  guest.openTransmit();
  for (const tail of [8, 9, 4095, 0xffff]) {
    guest.setReceiveTail(tail);
    guest.setTransmitTail(tail);
    assert.deepEqual([guest.receive.ring(0).condition, guest.transmit.ring(0).condition], ["bad-index", "bad-index"]);
    guest.receive.frame(new Uint8Array(60));
    assert.deepEqual([guest.receive.step(), guest.transmit.step()], [false, false]);
  }
  guest.setTransmitTail(0);
  guest.postMany(0);
  guest.setReceiveTail(0);
  guest.postMany(2);
  guest.receive.frame(new Uint8Array(60));
  assert.ok(guest.receive.step());
});

test("a buffer size of nothing, or a descriptor type other than advanced with one buffer, stops the queue", () => {
  for (const srrctl of [0x0200_0000, 0x0000_0002, 0x0400_0002, 0x0a00_0002, 0x0e00_0002]) {
    const guest = new DatapathGuest();
    guest.openReceive();
    guest.setRegister(VFSRRCTL(0), srrctl);
    guest.receive.queueChanged(0);
    guest.setReceiveTail(3);
    assert.equal(guest.receive.ring(0).condition, "bad-buffer");
    guest.receive.frame(new Uint8Array(60));
    assert.equal(guest.receive.step(), false);
  }
});
