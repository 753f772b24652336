import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaPurpose, tagIndex, tagPurpose } from "../iommu/dma-port.ts";
import { PageSet } from "../memory/page-set.ts";
import { BUFFERS_AT, receiveRingAt, DatapathGuest, transmitRingAt, type GuestOptions } from "./datapath.fixture.ts";
import { DescriptorShadowTracker } from "./descriptor-shadow.ts";
import { RXDCTL_ENABLE, VFRDBAL, VFRXDCTL, VFSRRCTL, VFTDWBAL, VFTXDCTL } from "./registers.ts";

const PAGE = 4096;

/** A guest with a tracker that hears of every doorbell, as a VF would tell it. */
function tracked(options: GuestOptions = {}): { guest: DatapathGuest; tracker: DescriptorShadowTracker } {
  const guest = new DatapathGuest(options);
  const { dma, registers, memory } = guest;
  const queuePairs = options.queuePairs ?? 1;
  const unit = options.receive?.bufferUnitBytes;
  const tracker = new DescriptorShadowTracker({
    dma,
    registers,
    pages: memory.pages,
    queuePairs,
    ...(unit === undefined ? {} : { bufferUnitBytes: unit }),
  });
  guest.onReceiveDoorbell = (queue) => tracker.tailWritten(queue);
  return { guest, tracker };
}

function open(
  guest: DatapathGuest,
  tracker: DescriptorShadowTracker,
  setup?: Parameters<DatapathGuest["openReceive"]>[1],
): void {
  guest.openReceive(0, setup);
  tracker.queueChanged(0);
}

const pagesOf = (guest: DatapathGuest, fill: (into: PageSet) => void): number[] => {
  const set = new PageSet(guest.memory.pages.count);
  fill(set);
  return set.toArray();
};
const mapped = (guest: DatapathGuest, tracker: DescriptorShadowTracker): number[] =>
  pagesOf(guest, (into) => tracker.mappedInto(into));
const released = (guest: DatapathGuest, tracker: DescriptorShadowTracker): number[] =>
  pagesOf(guest, (into) => tracker.fetchReleased(into));

const frame = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length).fill(7);
  bytes.set([0x88, 0xb5], 12);
  return bytes;
};

test("a page is mapped from the doorbell that posts it until the slot is posted with another, and then released", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  const page = BUFFERS_AT / PAGE;
  guest.post([BUFFERS_AT]);
  assert.deepEqual(mapped(guest, tracker), [page]);
  guest.receive.frame(frame(60));
  guest.run(guest.receive);
  assert.deepEqual(mapped(guest, tracker), [page]);
  for (let i = 1; i < 8; i++) guest.post([BUFFERS_AT + i * PAGE]);
  assert.deepEqual(released(guest, tracker), []);
  guest.post([BUFFERS_AT + 8 * PAGE]);
  assert.deepEqual(released(guest, tracker), [page]);
  assert.deepEqual(released(guest, tracker), []);
  assert.deepEqual(
    mapped(guest, tracker),
    Array.from({ length: 8 }, (_, i) => page + 1 + i),
  );
});

test("a page shared by two halves stays mapped until both slots are posted with others", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  const page = BUFFERS_AT / PAGE;
  guest.post([BUFFERS_AT, BUFFERS_AT + 2048]);
  const elsewhere = (i: number): number => BUFFERS_AT + (10 + i) * PAGE;
  for (let i = 0; i < 6; i++) guest.post([elsewhere(i)]);
  guest.post([elsewhere(6)]);
  assert.deepEqual(released(guest, tracker), []);
  assert.ok(mapped(guest, tracker).includes(page));
  guest.post([elsewhere(7)]);
  assert.deepEqual(released(guest, tracker), [page]);
});

test("a buffer that crosses pages maps every page it touches", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker, { bufferKiB: 3 });
  guest.post([BUFFERS_AT + 2048]);
  assert.deepEqual(mapped(guest, tracker), [BUFFERS_AT / PAGE, BUFFERS_AT / PAGE + 1]);
});

test("pages beyond RAM are left out and addresses beyond 2^53 do no harm", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  const { count } = guest.memory.pages;
  guest.post([count * PAGE - 1024, count * PAGE, 0xfee0_0000, 2 ** 60, 2 ** 63]);
  assert.deepEqual(mapped(guest, tracker), [count - 1]);
  guest.post([0, 0, 0]);
  guest.post([0, 0, 0]);
  assert.deepEqual(released(guest, tracker), [count - 1]);
});

const releasing: [string, (guest: DatapathGuest, tracker: DescriptorShadowTracker) => void][] = [
  [
    "disabling the queue",
    (guest, tracker) => {
      guest.setRegister(VFRXDCTL(0), 0);
      guest.receive.queueChanged(0);
      tracker.queueChanged(0);
    },
  ],
  [
    "a reset",
    (guest, tracker) => {
      guest.setRegister(VFRXDCTL(0), 0);
      guest.receive.reset();
      tracker.rebuild();
    },
  ],
  [
    "moving the ring",
    (guest, tracker) => {
      guest.setRegister(VFRDBAL(0), receiveRingAt(4));
      guest.receive.queueChanged(0);
      tracker.queueChanged(0);
    },
  ],
];
for (const [name, release] of releasing) {
  test(`${name} releases every buffer of the ring`, () => {
    const { guest, tracker } = tracked();
    open(guest, tracker);
    guest.postMany(7, PAGE);
    release(guest, tracker);
    const first = BUFFERS_AT / PAGE;
    const all = Array.from({ length: 7 }, (_, i) => first + i);
    // The new ring is full of descriptors that point to page 0.
    assert.deepEqual(
      mapped(guest, tracker).filter((page) => page !== 0),
      [],
    );
    assert.deepEqual(released(guest, tracker), all);
    assert.equal(tracker.isPosted(0, 0), name === "moving the ring");
  });
}

test("a larger SRRCTL buffer maps more of what is posted already, since the device writes that far from now on", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  guest.post([BUFFERS_AT]);
  guest.setRegister(VFSRRCTL(0), guest.register(VFSRRCTL(0)) + 4);
  guest.receive.queueChanged(0);
  tracker.queueChanged(0);
  assert.deepEqual(mapped(guest, tracker), [BUFFERS_AT / PAGE, BUFFERS_AT / PAGE + 1]);
  assert.deepEqual(released(guest, tracker), []);
});

test("the shadow gives back what was posted after the write-back destroyed it, and done is what differs from it", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  const isDone = (slot: number): boolean => {
    const words = new Uint32Array(4);
    assert.ok(tracker.postedWords(0, slot, words));
    return [...words].join() !== guest.receiveDescriptor(slot).join();
  };
  // Two laps, so that posted descriptors carry DD and EOP of their last use in the half the driver does not write.
  for (let lap = 0; lap < 20; lap++) {
    guest.postMany(lap === 0 ? 7 : 1);
    guest.receive.frame(frame(60 + lap));
    guest.run(guest.receive);
  }
  const { head, tail } = guest.receive.ring(0);
  for (let slot = head; slot !== tail; slot = (slot + 1) % 8) {
    assert.equal(isDone(slot), false, `slot ${slot}`);
    assert.equal(
      (guest.receiveDescriptor(slot)[2] ?? 0) & 3,
      3,
      "the trap: a posted descriptor looks done by its bits",
    );
  }
  const last = (head + 7) % 8;
  assert.ok(isDone(last));
  const words = new Uint32Array(4);
  tracker.postedWords(0, last, words);
  assert.equal(words[0], BUFFERS_AT + last * 2048);
});

test("what was posted before the queue is enabled is mapped when it is", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  guest.setRegister(VFRXDCTL(0), 0);
  guest.receive.queueChanged(0);
  tracker.queueChanged(0);
  guest.post([BUFFERS_AT, BUFFERS_AT + PAGE]);
  assert.deepEqual(mapped(guest, tracker), []);
  guest.setRegister(VFRXDCTL(0), RXDCTL_ENABLE);
  guest.receive.queueChanged(0);
  tracker.queueChanged(0);
  assert.deepEqual(mapped(guest, tracker), [BUFFERS_AT / PAGE, BUFFERS_AT / PAGE + 1]);
});

test("a slot that was never posted has no words", () => {
  const { guest, tracker } = tracked();
  const words = new Uint32Array(4).fill(9);
  assert.equal(tracker.postedWords(0, 0, words), false);
  open(guest, tracker);
  guest.postMany(2);
  assert.deepEqual(
    [0, 1, 2, 7, 4096, -1].map((slot) => tracker.isPosted(0, slot)),
    [true, true, false, false, false, false],
  );
  assert.equal(tracker.postedWords(0, 2, words), false);
  assert.deepEqual([...words], [9, 9, 9, 9]);
});

test("rebuilt on a destination, it knows the buffers between head and tail", () => {
  const { guest, tracker } = tracked();
  open(guest, tracker);
  guest.postMany(7, PAGE);
  for (let i = 0; i < 3; i++) guest.receive.frame(frame(60));
  guest.run(guest.receive);
  const { dma, registers, memory } = guest;
  const arrived = new DescriptorShadowTracker({ dma, registers, pages: memory.pages, queuePairs: 1 });
  assert.deepEqual(
    mapped(guest, arrived),
    [3, 4, 5, 6].map((slot) => BUFFERS_AT / PAGE + slot),
  );
  assert.deepEqual(mapped(guest, tracker).length, 7);
  tracker.rebuild();
  assert.deepEqual(mapped(guest, tracker), mapped(guest, arrived));
});

test("ring pages are those of enabled rings of both directions and of head write-back", () => {
  const { guest, tracker } = tracked({ queuePairs: 2 });
  const ringPages = (): number[] => pagesOf(guest, (into) => tracker.ringPagesInto(into));
  assert.deepEqual(ringPages(), []);
  guest.openReceive(0, { descriptors: 512 });
  tracker.queueChanged(0);
  guest.openTransmit(1, { descriptors: 8 });
  const expected = [receiveRingAt(0) / PAGE, receiveRingAt(0) / PAGE + 1, transmitRingAt(1) / PAGE];
  assert.deepEqual(ringPages(), expected);
  guest.setRegister(VFTDWBAL(1), 0x5_0004 | 1);
  assert.deepEqual(ringPages(), [...expected, 0x50]);
  guest.setRegister(VFTDWBAL(1), 0xfee0_0004 | 1);
  assert.deepEqual(ringPages(), expected);
  guest.setRegister(VFTXDCTL(1), 0);
  assert.deepEqual(ringPages(), expected.slice(0, 2));
});

/*
 * The tracker against the device itself, with a driver that reuses, shares and replaces pages at random: every buffer
 * write falls into pages that were mapped when it happened, and every page that was ever written is afterwards mapped,
 * or among those released. That is all a migration needs of it.
 */
const driverStep = fc.oneof(
  fc.record({ kind: fc.constant("post" as const), buffers: fc.array(fc.nat(31), { minLength: 1, maxLength: 4 }) }),
  fc.record({
    kind: fc.constant("frames" as const),
    lengths: fc.array(fc.integer({ min: 60, max: 400 }), { maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant("beats" as const), count: fc.nat(9) }),
  fc.record({ kind: fc.constant("fetch" as const) }),
  fc.record({ kind: fc.constant("reopen" as const), bufferKiB: fc.integer({ min: 1, max: 5 }) }),
);

test("every page the device writes is mapped at that moment, and later mapped or released", () => {
  fc.assert(
    fc.property(fc.array(driverStep, { maxLength: 60, size: "max" }), (steps) => {
      const memoryBytes = 0x8000;
      const { guest, tracker } = tracked({ memoryBytes, pageBytes: 64, receive: { bufferUnitBytes: 64 } });
      // Buffers from 0x4000 on, 48 bytes apart, so that they share and cross pages; the ring lies below.
      open(guest, tracker, { bufferKiB: 2 });
      const written = new Set<number>();
      const fetched = new Set<number>();
      guest.dma.addObserver({
        after: (address, length, tag) => {
          if (tagPurpose(tag) !== DmaPurpose.rxBuffer) return;
          const now = new Set(mapped(guest, tracker));
          for (let page = Math.floor(address / 64); page * 64 < address + length; page++) {
            assert.ok(now.has(page), `page ${page} of slot ${tagIndex(tag)} was written and is not mapped`);
            written.add(page);
            fetched.delete(page);
          }
        },
      });
      for (const step of steps) {
        if (step.kind === "post") {
          const { head, tail } = guest.receive.ring(0);
          const free = (head - tail - 1 + 8) % 8;
          guest.post(step.buffers.slice(0, free).map((buffer) => 0x4000 + buffer * 48));
        } else if (step.kind === "frames") for (const length of step.lengths) guest.receive.frame(frame(length));
        else if (step.kind === "beats") for (let i = 0; i < step.count; i++) guest.receive.step();
        else if (step.kind === "fetch") for (const page of released(guest, tracker)) fetched.add(page);
        else {
          guest.setRegister(VFRXDCTL(0), 0);
          guest.receive.queueChanged(0);
          tracker.queueChanged(0);
          open(guest, tracker, { bufferKiB: step.bufferKiB });
        }
      }
      const known = new Set([...mapped(guest, tracker), ...released(guest, tracker), ...fetched]);
      for (const page of written) assert.ok(known.has(page), `page ${page} was written and forgotten`);
    }),
    { numRuns: 300 },
  );
});
