// DMA by messages: the port by itself, and the whole VF on it beside the same VF on memory.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaStatus } from "../../../iommu/dma-port.ts";
import { IdentityDomain } from "../../../iommu/domain.ts";
import { FaultLog } from "../../../iommu/fault-log.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { BufferMemory } from "../../../memory/guest-memory.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "../../../nic/guest.fixture.ts";
import * as r from "../../../nic/registers.ts";
import { MessageClient } from "./message-client.fixture.ts";
import { MessageDma } from "./message-dma.ts";

const { ok, later, unmapped } = DmaStatus;
const MEMORY_BYTES = 1 << 20;

interface Bench {
  readonly memory: BufferMemory;
  readonly client: MessageClient;
  readonly faults: FaultLog;
  readonly dma: MessageDma;
}

function bench(transferBytesMax = 4096, memoryBytes = MEMORY_BYTES): Bench {
  const memory = new BufferMemory(memoryBytes);
  const client = new MessageClient(new GuestDma({ memory, domain: new IdentityDomain() }));
  const faults = new FaultLog();
  return {
    memory,
    client,
    faults,
    dma: new MessageDma({ requester: client, faults, transferBytesMax: () => transferBytesMax }),
  };
}

function answerAll(client: MessageClient): void {
  while (client.work() || client.arrive());
}

test("a read is answered later, once, and the next one asks again", () => {
  const { memory, client, dma } = bench();
  let woken = 0;
  dma.onAnswer = () => woken++;
  memory.bytes().set([1, 2, 3, 4], 0x100);
  const target = new Uint8Array(8);
  for (let i = 0; i < 3; i++) assert.equal(dma.readBytes(0x100, target, 2, 4), later);
  assert.deepEqual([client.sent.read, woken], [1, 0]);
  answerAll(client);
  assert.equal(woken, 1);
  assert.equal(dma.readBytes(0x100, target, 2, 4), ok);
  assert.deepEqual([...target], [0, 0, 1, 2, 3, 4, 0, 0]);
  memory.bytes()[0x100] = 9;
  assert.equal(dma.readBytes(0x100, target, 2, 4), later);
  answerAll(client);
  dma.readBytes(0x100, target, 2, 4);
  assert.equal(target[2], 9);
  assert.equal(dma.heldReads, 0);
});

test("long accesses go in pieces that a message can carry, and come to the same", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 0, max: 300 }), (length, at) => {
      const { memory, client, dma } = bench(100);
      const bytes = Uint8Array.from({ length }, (_, i) => i * 7 + 1);
      assert.equal(dma.writeBytes(0x2000 + at, bytes, 0, length, 0), ok);
      const target = new Uint8Array(length);
      assert.equal(dma.readBytes(0x2000 + at, target, 0, length), later);
      answerAll(client);
      assert.equal(dma.readBytes(0x2000 + at, target, 0, length), ok);
      assert.deepEqual(target, bytes);
      assert.deepEqual(memory.bytes().subarray(0x2000 + at, 0x2000 + at + length), bytes);
      assert.ok(client.longestBytes <= 96, "a piece is a whole number of descriptors");
    }),
    { seed: 20_151_030 },
  );
});

test("a read sees every write that was made before it, in words or in bytes", () => {
  const { client, dma } = bench();
  dma.writeWords(0x40, Uint32Array.of(1, 2, 3, 4), 4, 0);
  const words = new Uint32Array(6);
  assert.equal(dma.readWords(0x40, words, 4), later);
  dma.writeWords(0x44, Uint32Array.of(9), 1, 0);
  answerAll(client);
  assert.equal(dma.readWords(0x40, words, 4), ok);
  assert.deepEqual([...words], [1, 2, 3, 4, 0, 0]);
});

test("a read that the client refuses is a fault once, in the log, even if only a piece of it is refused", () => {
  const { client, faults, dma } = bench(64);
  const target = new Uint8Array(200);
  const iova = MEMORY_BYTES - 100;
  assert.equal(dma.readBytes(iova, target, 0, 200), later);
  answerAll(client);
  assert.equal(dma.readBytes(iova, target, 0, 200), unmapped);
  assert.deepEqual(faults.recorded, [{ iova, lengthBytes: 200, access: 1, status: unmapped }]);
  assert.equal(dma.readBytes(iova, target, 0, 200), later);
  assert.equal(
    target.every((byte) => byte === 0),
    true,
  );
});

test("an address that no number holds is a fault at once, and nobody is asked", () => {
  const { client, faults, dma } = bench();
  const bytes = new Uint8Array(8);
  assert.equal(dma.readBytes(Number.MAX_SAFE_INTEGER, bytes, 0, 8), unmapped);
  assert.equal(dma.writeBytes(Number.MAX_SAFE_INTEGER, bytes, 0, 8, 0), unmapped);
  assert.deepEqual([faults.total, client.sent.read, client.sent.write], [2, 0, 0]);
});

test("a forgotten read is never served, whether its answer was there or still comes", () => {
  for (const isAnswered of [false, true]) {
    const { memory, client, dma } = bench();
    const target = new Uint8Array(4);
    let woken = 0;
    dma.readBytes(0x100, target, 0, 4);
    client.work();
    if (isAnswered) client.arrive();
    memory.bytes()[0x100] = 5;
    dma.onAnswer = () => woken++;
    dma.forgetReads();
    assert.equal(woken, 1, "whoever waits must ask again");
    assert.equal(dma.readBytes(0x100, target, 0, 4), later);
    if (!isAnswered) client.arrive();
    assert.equal(dma.readBytes(0x100, target, 0, 4), later, "the late answer is not this read's");
    answerAll(client);
    assert.equal(dma.readBytes(0x100, target, 0, 4), ok);
    assert.equal(target[0], 5);
    assert.equal(dma.heldReads, 0);
  }
});

test("reads under way are bounded, whoever finds no room is woken when there is some, and old answers make room", () => {
  const { client, dma } = bench();
  const target = new Uint8Array(0x2_0000);
  for (let i = 0; i < 100; i++) assert.equal(dma.readBytes(i * 16, target, 0, 16), later);
  assert.deepEqual([client.sent.read, dma.heldReads], [16, 16]);
  dma.forgetReads();
  assert.equal(dma.readBytes(0, target, 0, 16), later);
  assert.equal(client.sent.read, 16, "forgotten reads that the client still works on count");
  let woken = 0;
  dma.onAnswer = () => woken++;
  client.work();
  client.arrive();
  assert.equal(woken, 1);
  answerAll(client);
  for (let i = 0; i < 100; i++) {
    dma.readBytes(i * 16, target, 0, 16);
    answerAll(client);
  }
  assert.equal(dma.heldReads, 16, "answers that nobody comes for are dropped");
  dma.forgetReads();
  const asked = client.sent.read;
  for (let i = 0; i < 20; i++) dma.readBytes(i, target, 0, 0x2_0000);
  assert.equal(client.sent.read - asked, 8 * 32, "and a mebibyte of them is under way at most");
});

test("without a client a read is a fault at once, and what the last one was asked is forgotten", () => {
  const { client, faults, dma } = bench();
  const target = new Uint8Array(64);
  for (let i = 0; i < 20; i++) dma.readBytes(i * 64, target, 0, 64);
  client.work();
  client.arrive();
  client.isGone = true;
  dma.clientGone();
  assert.equal(dma.heldReads, 0);
  assert.equal(dma.readBytes(0, target, 0, 64), unmapped);
  assert.equal(dma.writeBytes(0, target, 0, 64, 0), ok);
  assert.equal(faults.total, 1);
  client.isGone = false;
  assert.equal(dma.readBytes(0, target, 0, 64), later);
  for (let i = 0; i < 15; i++) client.work();
  for (let i = 0; i < 15; i++) client.arrive();
  assert.equal(dma.heldReads, 1, "answers to the last client's reads are nobody's");
  assert.equal(dma.readBytes(0, target, 0, 64), later);
  answerAll(client);
  assert.equal(dma.readBytes(0, target, 0, 64), ok);
});

test("a client that takes less than a descriptor in a message is asked for nothing", () => {
  for (const transferBytesMax of [0, 1, 15]) {
    const { client, faults, dma } = bench(transferBytesMax);
    assert.equal(dma.readBytes(0, new Uint8Array(32), 0, 32), unmapped);
    assert.equal(dma.writeBytes(0, new Uint8Array(32), 0, 32, 0), ok);
    assert.deepEqual([client.sent, faults.total, dma.heldReads], [{ read: 0, write: 0 }, 1, 0]);
  }
});

// The whole VF.

interface Pair {
  readonly direct: TestGuest;
  readonly messages: TestGuest;
  readonly client: MessageClient;
  readonly dma: MessageDma;
}

function pair(): Pair {
  const { memory, client, dma } = bench(2048);
  const direct = new TestGuest({ datapath: { prefetchDescriptors: 16 } }, new BufferMemory(MEMORY_BYTES));
  const messages = new TestGuest({ dma }, memory);
  dma.onAnswer = () => messages.vf.wake();
  for (const guest of [direct, messages]) guest.boot();
  return { direct, messages, client, dma };
}

/** Lets everything happen that is under way, in the order that `turn` gives. */
function settle({ direct, messages, client, dma }: Pair): void {
  direct.vf.run();
  for (let rounds = 0; rounds < 100_000; rounds++) {
    messages.vf.run();
    assert.ok(!messages.vf.hasWork, "a VF that ran has nothing to do");
    if (!client.work() && !client.arrive()) {
      assert.equal(dma.heldReads, 0, "nothing that was asked for is left behind");
      return;
    }
  }
  assert.fail("it is still busy");
}

const happening = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("receive" as const),
      frames: fc.integer({ min: 1, max: 12 }),
      bytes: fc.integer({ min: 60, max: 1500 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("transmit" as const),
      frames: fc.integer({ min: 1, max: 6 }),
      bytes: fc.integer({ min: 60, max: 1500 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("work" as const), count: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("arrive" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("run" as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("steps" as const), count: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("poll" as const) }) },
  fc.record({ kind: fc.constant("pause" as const) }),
  fc.record({ kind: fc.constant("busMaster" as const) }),
);
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

/** Frames received and descriptors reported since the last poll; the driver keeps the ring from overflowing. */
interface Outstanding {
  received: number;
  transmitted: number;
}

const ROOM = 50;

function happen(both: Pair, what: Happening, serial: number, outstanding: Outstanding): void {
  const { direct, messages, client } = both;
  const guests = [direct, messages];
  if (what.kind === "receive" || what.kind === "transmit") {
    const isReceive = what.kind === "receive";
    const used = isReceive ? outstanding.received : outstanding.transmitted;
    const frames = Math.min(what.frames, ROOM - used);
    for (let i = 0; i < frames; i++) {
      const [to, from] = isReceive ? [guestMac, otherMac] : [otherMac, guestMac];
      const frame = frameTo(to, from, what.bytes, serial * 16 + i);
      for (const guest of guests)
        if (isReceive) guest.vf.receiveFrame(frame);
        else guest.transmit(frame);
    }
    if (isReceive) outstanding.received += frames;
    else outstanding.transmitted += frames;
  } else if (what.kind === "work") {
    for (let i = 0; i < what.count; i++) client.work();
  } else if (what.kind === "arrive") {
    for (let i = 0; i < what.count; i++) client.arrive();
  } else if (what.kind === "run") {
    for (const guest of guests) guest.vf.run();
  } else if (what.kind === "steps") {
    for (let i = 0; i < what.count; i++) for (const guest of guests) guest.vf.step();
  } else if (what.kind === "pause") {
    messages.vf.stop();
    messages.vf.start();
  } else if (what.kind === "busMaster") {
    messages.vf.writeConfiguration(0x04, 2, 0x0002);
    messages.vf.run();
    messages.vf.writeConfiguration(0x04, 2, 0x0006);
  } else {
    settle(both);
    const interrupts = messages.interrupts.splice(0);
    const [expected, found] = guests.map((guest) => ({ frames: guest.poll(), done: guest.clean() }));
    assert.deepEqual(found, expected);
    if (outstanding.received + outstanding.transmitted > 0) assert.ok(interrupts.includes(0), "nobody told the driver");
    outstanding.received = 0;
    outstanding.transmitted = 0;
  }
}

const observed = (guest: TestGuest): unknown => ({
  sent: guest.sent.map((frame) => Buffer.from(frame).toString("hex")),
  heads: [guest.read(r.VFRDH(0)), guest.read(r.VFTDH(0))],
  rings: [guest.vf.rxRing(0), guest.vf.txRing(0)],
  received: guest.vf.statistics.receive,
  transmitted: guest.vf.statistics.transmit,
});

test("a VF whose reads are answered whenever it pleases the client does what one does that has the memory itself", () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 80, size: "max" }), (list) => {
      const both = pair();
      const outstanding: Outstanding = { received: 0, transmitted: 0 };
      list.forEach((what, serial) => happen(both, what, serial, outstanding));
      settle(both);
      assert.deepEqual(observed(both.messages), observed(both.direct));
      assert.equal(Buffer.compare(both.messages.memory.bytes(), both.direct.memory.bytes()), 0);
    }),
    { seed: 20_151_029, numRuns: 150 },
  );
});

test("a VF that waits for the client asks nothing twice, has no work, and is told once when there is", () => {
  const { messages, client } = pair();
  let told = 0;
  messages.vf.receiveFrame(frameTo(guestMac, otherMac, 100, 1));
  messages.transmit(frameTo(otherMac, guestMac, 100, 2));
  messages.vf.run();
  const asked = client.sent.read;
  assert.equal(asked, 2);
  messages.vf.onWork = () => told++;
  for (let i = 0; i < 10; i++) {
    messages.vf.run();
    assert.deepEqual([messages.vf.step(), messages.vf.hasWork], [false, false]);
  }
  assert.deepEqual([client.sent.read, told], [asked, 0]);
  while (client.work());
  assert.equal(told, 0);
  while (client.arrive());
  assert.equal(told, 1, "two answers are one reason to work");
});

const resets = {
  "a software reset": (guest: TestGuest): void => guest.write(r.VFCTRL, r.VFCTRL_RST),
  "a function-level reset": (guest: TestGuest): void => guest.vf.writeConfiguration(0xa8, 2, 0xa810),
  "a reset by the PF": (guest: TestGuest): void => guest.vf.pfReset(),
} as const;

for (const [name, reset] of Object.entries(resets)) {
  test(`${name} forgets what was asked for, and the driver that starts over gets what it then posts`, () => {
    const { messages, client, dma } = pair();
    messages.vf.receiveFrame(frameTo(guestMac, otherMac, 100, 1));
    messages.transmit(frameTo(otherMac, guestMac, 100, 2));
    messages.vf.run();
    while (client.work());
    client.arrive();
    reset(messages);
    messages.memory.bytes().fill(0);
    while (client.work() || client.arrive()) messages.vf.run();
    assert.equal(dma.heldReads, 0);
    messages.boot();
    messages.vf.receiveFrame(frameTo(guestMac, otherMac, 200, 3));
    messages.transmit(frameTo(otherMac, guestMac, 200, 4));
    do messages.vf.run();
    while (client.work() || client.arrive());
    assert.deepEqual(
      messages.poll().map((frame) => [frame.length, frame[50]]),
      [[200, 3]],
    );
    assert.deepEqual(
      messages.sent.map((frame) => [frame.length, frame[50]]),
      [[200, 4]],
    );
    assert.equal(messages.clean(), 1);
  });
}

test("what was asked for before bus mastering went off is not taken for what memory holds when it is on again", () => {
  const { messages, client } = pair();
  const words = messages.memory.words();
  messages.vf.receiveFrame(frameTo(guestMac, otherMac, 100, 1));
  messages.vf.run();
  while (client.work());
  messages.vf.writeConfiguration(0x04, 2, 0x0002);
  const buffer = words[0x1000 / 4] ?? 0;
  words[0x1000 / 4] = 0x8_0000;
  messages.vf.writeConfiguration(0x04, 2, 0x0006);
  do messages.vf.run();
  while (client.work() || client.arrive());
  assert.deepEqual([messages.memory.bytes()[buffer + 50], messages.memory.bytes()[0x8_0000 + 50]], [0, 1]);
});

test("a buffer, a descriptor or a ring that the client refuses is a fault of the guest, and the VF goes on", () => {
  const { messages, client } = pair();
  messages.memory.words()[0x3000 / 4] = 0;
  messages.transmit(frameTo(otherMac, guestMac, 100, 2));
  messages.memory.words()[0x3000 / 4] = 0x4000_0000;
  do messages.vf.run();
  while (client.work() || client.arrive());
  assert.equal(messages.vf.statistics.transmit.dataFaults, 1);
  assert.equal(messages.clean(), 1);
  messages.transmit(frameTo(otherMac, guestMac, 100, 3));
  do messages.vf.run();
  while (client.work() || client.arrive());
  assert.equal(messages.sent.length, 1);
});
