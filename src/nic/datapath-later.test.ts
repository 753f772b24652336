// The datapath on a port whose reads are answered later: the same in the end as on one that answers at once.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Domain } from "../iommu/domain.ts";
import { DmaAccess } from "../iommu/fault-log.ts";
import {
  BUFFERS_AT,
  DatapathGuest,
  plainFrame,
  transmitRingAt,
  TX_EOP,
  TX_RS,
  txContext,
  txData,
  txDone,
  type GuestOptions,
} from "./datapath.fixture.ts";
import { LaterPort } from "./later-port.fixture.ts";
import { TXDCTL_ENABLE, TXDCTL_WTHRESH_SHIFT, VFRXDCTL, VFTDBAL, VFTDH, VFTXDCTL } from "./registers.ts";

/** Transmit data lies above everything that `postMany` uses. */
const DATA_AT = 0x9_0000;
const DATA_BYTES = 0x2000;
const DESCRIPTORS = 64;

interface LaterGuest {
  readonly guest: DatapathGuest;
  readonly port: LaterPort;
}

function laterGuest(options: GuestOptions = {}): LaterGuest {
  let port: LaterPort | undefined;
  const wrapDma: GuestOptions["wrapDma"] = (inner) => (port = new LaterPort(inner));
  const guest = new DatapathGuest({ ...options, wrapDma });
  assert.ok(port !== undefined);
  port.onAnswer = () => {
    guest.receive.retry();
    guest.transmit.retry();
  };
  return { guest, port };
}

function openAll(guest: DatapathGuest): void {
  guest.memory.bytes().set(
    Array.from({ length: DATA_BYTES }, (_, i) => (i * 31) >>> 3),
    DATA_AT,
  );
  for (let queue = 0; queue < 2; queue++) {
    guest.openReceive(queue, { descriptors: DESCRIPTORS, bufferKiB: 1 });
    guest.openTransmit(queue, { descriptors: DESCRIPTORS, control: 8 << TXDCTL_WTHRESH_SHIFT });
  }
}

const step = (guest: DatapathGuest, unit: number): boolean => (unit === 0 ? guest.receive : guest.transmit).step();

/** Steps both units and answers reads until nothing is left to be done. */
function settle({ guest, port }: LaterGuest): void {
  for (let steps = 0; steps < 100_000; steps++) {
    const hasStepped = [step(guest, 0), step(guest, 1)].includes(true);
    if (!hasStepped && !port.answer()) return;
  }
  assert.fail("it is still busy");
}

const frames = fc.record({
  kind: fc.constant("transmit" as const),
  queue: fc.nat(1),
  /** Bytes of each descriptor; long frames go beyond what is fetched at once, and too long ones are malformed. */
  pieces: fc.oneof(
    fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 4 }),
    fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 33, maxLength: 50 }),
  ),
  hasContext: fc.boolean(),
  reportsEach: fc.boolean(),
  /** The end is posted by a second doorbell. */
  isHalved: fc.boolean(),
});
const happening = fc.oneof(
  { weight: 4, arbitrary: frames },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("receive" as const), bytes: fc.integer({ min: 60, max: 1514 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("post" as const), count: fc.integer({ min: 1, max: 20 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("answer" as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("steps" as const), unit: fc.nat(1), count: fc.nat(12) }) },
  fc.record({ kind: fc.constant("pause" as const) }),
  fc.record({ kind: fc.constant("settle" as const) }),
);
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

/** What a driver may do now: it never posts more than a ring has room for. */
function free(guest: DatapathGuest, direction: "receive" | "transmit", queue: number): number {
  const { head, tail, descriptors } = guest[direction].ring(queue);
  const first = direction === "receive" ? head : (guest.transmit.save().queues[queue]?.reported ?? head);
  return descriptors - 1 - ((tail - first + descriptors) % descriptors);
}

function sendFrame(guest: DatapathGuest, frame: Extract<Happening, { kind: "transmit" }>): void {
  const descriptors = frame.pieces.map((bytes, i) => {
    const isLast = i === frame.pieces.length - 1;
    const command = (isLast ? TX_EOP : 0) | (isLast || (frame.reportsEach && i % 5 === 0) ? TX_RS : 0);
    return txData(DATA_AT + frame.queue * 0x1000 + i * 40, bytes, command);
  });
  if (frame.hasContext) descriptors.unshift(txContext({ macBytes: 14 }));
  if (frame.isHalved) guest.send(descriptors.splice(0, descriptors.length >>> 1), frame.queue);
  guest.send(descriptors, frame.queue);
}

/** Does to both what happens, unless a driver would not. */
function happen(direct: DatapathGuest, later: LaterGuest, what: Happening, serial: number): void {
  const both = [direct, later.guest];
  if (what.kind === "transmit") {
    const needed = what.pieces.length + 1;
    if (both.every((guest) => free(guest, "transmit", what.queue) >= needed)) both.forEach((g) => sendFrame(g, what));
  } else if (what.kind === "receive") {
    both.forEach((guest) => guest.receive.frame(plainFrame(what.bytes, serial)));
  } else if (what.kind === "post") {
    const count = Math.min(what.count, ...both.map((guest) => free(guest, "receive", 0)));
    both.forEach((guest) => guest.postMany(count, 1024));
  } else if (what.kind === "answer") {
    for (let i = 0; i < what.count; i++) later.port.answer();
  } else if (what.kind === "steps") {
    for (let i = 0; i < what.count; i++) both.forEach((guest) => step(guest, what.unit));
  } else if (what.kind === "pause") {
    pause(later.guest);
  } else settle(later);
}

/** As Beats.stop and start do. */
function pause(guest: DatapathGuest): void {
  guest.receive.stop();
  guest.run(guest.receive);
  guest.transmit.stop();
  guest.run(guest.transmit);
  guest.receive.start();
  guest.transmit.start();
}

const perQueue = (guest: DatapathGuest): string[] =>
  guest.causes.map(({ queue, direction }) => `${queue} ${direction}`).toSorted();

test("however late the answers are, the same is sent and received, and memory is the same in the end", () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 60, size: "max" }), (list) => {
      // Receive queues hold frames for which there is no descriptor yet, so that none is dropped for being early.
      const direct = new DatapathGuest({ queuePairs: 2 });
      const later = laterGuest({ queuePairs: 2 });
      for (const guest of [direct, later.guest]) {
        openAll(guest);
        guest.openReceive(0, { descriptors: DESCRIPTORS, bufferKiB: 1, drop: false });
      }
      list.forEach((what, serial) => happen(direct, later, what, serial));
      direct.run(direct.receive);
      direct.run(direct.transmit);
      settle(later);
      assert.equal(Buffer.compare(direct.memory.bytes(), later.guest.memory.bytes()), 0);
      const content = (guest: DatapathGuest): string[] =>
        guest.sent.map((f) => Buffer.from(f).toString("hex")).toSorted();
      assert.deepEqual(content(later.guest), content(direct));
      assert.deepEqual(later.guest.receive.counters, direct.receive.counters);
      assert.deepEqual(later.guest.transmit.counters, direct.transmit.counters);
      assert.deepEqual([...new Set(perQueue(later.guest))], [...new Set(perQueue(direct))]);
      for (let queue = 0; queue < 2; queue++) {
        assert.deepEqual(later.guest.receive.ring(queue), direct.receive.ring(queue));
        assert.deepEqual(later.guest.transmit.ring(queue), direct.transmit.ring(queue));
      }
    }),
    { seed: 20_151_029, numRuns: 200 },
  );
});

test("a unit that waits for an answer asks once, does nothing, and is idle until it is woken", () => {
  const { guest, port } = laterGuest();
  guest.openReceive();
  guest.openTransmit();
  guest.postMany(3);
  guest.receive.frame(plainFrame(100));
  guest.send([txData(DATA_AT, 60)]);
  for (let i = 0; i < 5; i++) assert.deepEqual([step(guest, 0), step(guest, 1)], [false, false]);
  assert.equal(port.asked, 2);
  assert.deepEqual([guest.receive.isIdle, guest.transmit.isIdle], [true, true]);
  guest.receive.retry();
  guest.transmit.retry();
  assert.deepEqual([step(guest, 0), step(guest, 1)], [false, false]);
  assert.equal(port.asked, 2, "asking again for what is under way is not a new read");
  assert.ok(guest.receive.isAtFrameBoundary);
});

test("buffers that are posted while their descriptors are read change nothing about the read", () => {
  const { guest, port } = laterGuest();
  guest.openReceive(0, { descriptors: 32 });
  guest.postMany(2);
  guest.receive.frame(plainFrame(100));
  guest.run(guest.receive);
  guest.postMany(5);
  guest.run(guest.receive);
  assert.equal(port.asked, 1);
  port.answer();
  assert.equal(guest.run(guest.receive), 3);
  assert.equal(guest.receiveHead, 1);
});

test("a queue that is disabled and enabled again takes nothing that was read before", () => {
  for (const answersBefore of [false, true]) {
    const { guest, port } = laterGuest();
    guest.openReceive();
    guest.postMany(2);
    guest.receive.frame(plainFrame(100, 1));
    guest.run(guest.receive);
    if (answersBefore) port.answer();
    guest.setRegister(VFRXDCTL(0), 0);
    guest.receive.queueChanged(0);
    guest.openReceive();
    guest.post([BUFFERS_AT + 0x8000, BUFFERS_AT + 0x9000]);
    guest.receive.frame(plainFrame(100, 2));
    settle({ guest, port });
    // The first frame was still in the packet buffer.
    assert.deepEqual([guest.bytes(BUFFERS_AT + 0x8000, 100)[50], guest.bytes(BUFFERS_AT + 0x9000, 100)[50]], [1, 2]);
    assert.equal(guest.bytes(BUFFERS_AT, 100)[50], 0, "the old buffer is not the device's any more");
  }
});

test("a frame that is half read when its queue is disabled is not sent, and nothing of it is reported", () => {
  const { guest, port } = laterGuest();
  guest.openTransmit();
  const pieces = [txData(DATA_AT, 60, TX_RS), txData(DATA_AT + 60, 60)];
  guest.send(pieces);
  for (let i = 0; i < 2; i++) {
    guest.run(guest.transmit);
    assert.ok(port.answer());
  }
  guest.run(guest.transmit);
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  settle({ guest, port });
  assert.deepEqual([guest.sent.length, guest.transmitDescriptor(0)], [0, pieces[0]]);
  guest.openTransmit();
  guest.send(pieces);
  settle({ guest, port });
  assert.deepEqual(
    guest.sent.map((frame) => frame.length),
    [120],
  );
  assert.deepEqual([guest.transmitDescriptor(0), guest.transmitDescriptor(1)], [txDone, txDone]);
});

test("a ring that is moved while a frame of it is half read is read from its beginning", () => {
  const { guest, port } = laterGuest();
  guest.openTransmit();
  guest.memory.words().set([...txData(DATA_AT, 61), ...txData(DATA_AT, 62)], transmitRingAt(1) / 4);
  guest.send([txData(DATA_AT, 80, 0), txData(DATA_AT, 80)]);
  for (let i = 0; i < 2; i++) {
    guest.run(guest.transmit);
    port.answer();
  }
  guest.run(guest.transmit);
  guest.setRegister(VFTDBAL(0), transmitRingAt(1));
  guest.transmit.queueChanged(0);
  settle({ guest, port });
  assert.deepEqual(
    guest.sent.map((frame) => frame.length),
    [61, 62],
  );
});

test("stopping leaves a half read frame to be sent after the start, and reports all that was sent before it", () => {
  for (const threshold of [0, 8]) {
    const { guest, port } = laterGuest();
    guest.openTransmit(0, { control: threshold << TXDCTL_WTHRESH_SHIFT });
    guest.send([txData(DATA_AT, 60)]);
    while (guest.sent.length === 0) if (!guest.transmit.step()) port.answer();
    guest.send([txData(DATA_AT, 80, TX_RS), txData(DATA_AT, 80)]);
    guest.run(guest.transmit);
    for (let i = 0; i < 2; i++) {
      port.answer();
      guest.run(guest.transmit);
    }
    guest.transmit.stop();
    guest.run(guest.transmit);
    assert.ok(guest.transmit.isAtFrameBoundary);
    assert.deepEqual(guest.transmitDescriptor(0), txDone);
    assert.equal(guest.transmit.save().queues[0]?.reported, guest.register(VFTDH(0)));
    assert.equal(guest.transmitHead, 1);
    const written: number[] = [];
    guest.dma.addObserver({ after: (address) => written.push((address - guest.transmit.ring(0).base) / 16) });
    guest.transmit.start();
    settle({ guest, port });
    assert.deepEqual(
      guest.sent.map((frame) => frame.length),
      [60, 160],
    );
    assert.deepEqual(written, [1, 2], "each completion is written once");
  }
});

test("a restored queue finds the completions it owes by reads that are answered later, in their order and once", () => {
  const { guest, port } = laterGuest();
  guest.openTransmit(0, { descriptors: 16, control: 8 << TXDCTL_WTHRESH_SHIFT });
  guest.send([1, 2, 3].map((i) => txData(DATA_AT, 60 + i)));
  for (let frame = 1; frame <= 3; frame++) {
    while (guest.sent.length < frame) if (!guest.transmit.step()) port.answer();
  }
  const state = guest.transmit.save();
  assert.equal(state.queues[0]?.reported, 0);
  guest.transmit.restore(state);
  guest.send([txData(DATA_AT, 64)]);
  const written: number[] = [];
  guest.dma.addObserver({ after: (address) => written.push((address - guest.transmit.ring(0).base) / 16) });
  settle({ guest, port });
  assert.deepEqual(written, [0, 1, 2, 3]);
  assert.deepEqual(guest.transmit.save().queues[0]?.reported, 4);
});

test("a read that faults later is the fault that it is at once", () => {
  const domain = new Domain();
  const access = DmaAccess.read | DmaAccess.write;
  domain.map({ iova: 0x1000, address: 0x1000, lengthBytes: 0x1000, access });
  const { guest, port } = laterGuest({ domain });
  guest.openReceive();
  guest.openTransmit();
  guest.postMany(2);
  guest.receive.frame(plainFrame(100));
  guest.send([txData(DATA_AT, 60)]);
  settle({ guest, port });
  assert.equal(guest.receive.counters.bufferFaults, 1);
  assert.equal(guest.transmit.counters.descriptorFaults, 1);
  assert.equal(guest.transmit.ring(0).condition, "dma-fault");
  domain.map({ iova: 0x9000, address: 0x9000, lengthBytes: 0x1000, access });
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  guest.openTransmit(0, { control: TXDCTL_ENABLE });
  guest.send([txData(DATA_AT, 60)]);
  settle({ guest, port });
  assert.equal(guest.transmit.counters.dataFaults, 1);
  assert.deepEqual(guest.transmitDescriptor(0), txDone);
});
