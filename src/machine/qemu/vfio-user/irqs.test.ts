// SET_IRQS: which eventfd is signalled when, what is refused, and that no descriptor is lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import { VTEICS, VTEIMS } from "../../../nic/registers.ts";
import { Command, Errno } from "./protocol.ts";
import { pack, ServedGuest, u32 } from "./served.fixture.ts";

const MSIX = 2;
const NONE = 1;
const BOOL = 2;
const EVENTFD = 4;
const MASK = 8;
const UNMASK = 0x10;
const TRIGGER = 0x20;

interface Set {
  readonly flags: number;
  readonly index?: number;
  readonly start?: number;
  readonly count?: number;
  readonly data?: Uint8Array;
  readonly descriptors?: readonly number[];
}

function setIrqs(
  guest: ServedGuest,
  { flags, index = MSIX, start = 0, count = 0, data, descriptors = [] }: Set,
): number {
  const payload = Buffer.concat([u32(20 + (data?.length ?? 0), flags, index, start, count), data ?? new Uint8Array(0)]);
  return guest.errorOf(Command.deviceSetIrqs, payload, { descriptors });
}

const served = (): ServedGuest => new ServedGuest().negotiate().enable();

/** Eventfds for the vectors from `start` on. */
function assign(guest: ServedGuest, count = 3, start = 0): number[] {
  const descriptors = Array.from({ length: count }, () => guest.descriptors.make("eventfd"));
  assert.equal(setIrqs(guest, { flags: EVENTFD | TRIGGER, start, count, descriptors }), Errno.none);
  return descriptors;
}

/** The device raises a vector, which must be enabled. */
const raise = (guest: ServedGuest, vector: number): void => guest.write(0, VTEICS, u32(1 << vector));
const open = (guest: ServedGuest): void => guest.write(0, VTEIMS, u32(7));

test("interrupt types are MSI-X with three vectors that can be masked, and one each for errors and requests", () => {
  const guest = served();
  const expected = [
    [0, 0],
    [0, 0],
    [3, 3],
    [1, 1],
    [1, 1],
  ] as const;
  for (const [index, [flags, count]] of expected.entries()) {
    assert.deepEqual(guest.ask(Command.deviceGetIrqInfo, u32(16, 0, index, 0)), u32(16, flags, index, count));
  }
  assert.equal(guest.errorOf(Command.deviceGetIrqInfo, u32(16, 0, 5, 0)), Errno.invalid);
  assert.equal(guest.errorOf(Command.deviceGetIrqInfo, u32(12, 0, 2, 0)), Errno.invalid);
});

test("a vector signals its own eventfd, once for each message", () => {
  const guest = served();
  const [first = 0, second = 0] = assign(guest);
  guest.messages.deliver(0xfee0_0000, 0, 1);
  assert.equal(guest.descriptors.signals(first), 0);
  assert.equal(guest.descriptors.signals(second), 1);
  guest.messages.deliver(0xfee0_0000, 0, 7);
  guest.messages.deliver(0xfee0_1000, 0, 1);
  guest.messages.deliver(0xfee0_0000, 1, 1);
  assert.equal(guest.descriptors.signals(second), 1, "other messages are nobody's");
});

test("the device's table holds each vector's number, masked where there is no eventfd", () => {
  const guest = served();
  assign(guest, 1, 1);
  const entries = [0, 1, 2].map((vector) => u32(0xfee0_0000, 0, vector, vector === 1 ? 0 : 1));
  assert.deepEqual(guest.read(3, 0, 48), new Uint8Array(Buffer.concat(entries)));
});

test("a vector raised before it has an eventfd is signalled when it gets one", () => {
  const guest = served();
  open(guest);
  raise(guest, 0);
  guest.vf.run();
  const [descriptor = 0] = assign(guest, 1);
  assert.equal(guest.descriptors.signals(descriptor), 1);
});

test("a masked vector keeps its message until it is unmasked", () => {
  const guest = served();
  open(guest);
  const [descriptor = 0] = assign(guest);
  assert.equal(setIrqs(guest, { flags: NONE | MASK, count: 3 }), Errno.none);
  raise(guest, 0);
  guest.vf.run();
  assert.equal(guest.descriptors.signals(descriptor), 0);
  assert.equal(setIrqs(guest, { flags: BOOL | UNMASK, count: 2, data: Uint8Array.of(0, 1) }), Errno.none);
  assert.equal(guest.descriptors.signals(descriptor), 0);
  assert.equal(setIrqs(guest, { flags: BOOL | UNMASK, count: 2, data: Uint8Array.of(1, 0) }), Errno.none);
  assert.equal(guest.descriptors.signals(descriptor), 1);
});

test("a client can trigger its own interrupts, all or chosen ones", () => {
  const guest = served();
  const descriptors = assign(guest);
  assert.equal(setIrqs(guest, { flags: NONE | TRIGGER, start: 1, count: 2 }), Errno.none);
  assert.equal(setIrqs(guest, { flags: BOOL | TRIGGER, count: 3, data: Uint8Array.of(1, 0, 1) }), Errno.none);
  assert.deepEqual(
    descriptors.map((descriptor) => guest.descriptors.signals(descriptor)),
    [1, 1, 2],
  );
});

test("a new eventfd takes the old one's place, none takes it away, and a count of 0 takes all away", () => {
  const guest = served();
  const [first = 0] = assign(guest, 2);
  assert.equal(guest.descriptors.openCount, 2);
  assign(guest, 1);
  assert.equal(guest.descriptors.isOpen(first), false);
  assert.equal(guest.descriptors.openCount, 2);
  assert.equal(setIrqs(guest, { flags: EVENTFD | TRIGGER, count: 1 }), Errno.none);
  assert.equal(guest.descriptors.openCount, 1);
  assert.equal(setIrqs(guest, { flags: NONE | TRIGGER }), Errno.none);
  assert.equal(guest.descriptors.openCount, 0);
  guest.messages.deliver(0xfee0_0000, 0, 1);
});

test("wrong requests are refused, and their descriptors closed", () => {
  const guest = served();
  const eventfds = (count: number): number[] => Array.from({ length: count }, () => guest.descriptors.make("eventfd"));
  const wrong: readonly Set[] = [
    { flags: NONE | TRIGGER, index: 5, count: 1 },
    { flags: NONE | TRIGGER, index: 0, count: 1 },
    { flags: NONE | TRIGGER, start: 3, count: 1 },
    { flags: NONE | TRIGGER, start: 0xffff_ffff, count: 2 },
    { flags: NONE | TRIGGER, start: 1 },
    { flags: NONE | MASK },
    { flags: NONE | BOOL | TRIGGER, count: 1 },
    { flags: NONE | MASK | UNMASK, count: 1 },
    { flags: NONE | TRIGGER | 0x40, count: 1 },
    { flags: TRIGGER, count: 1 },
    { flags: BOOL | TRIGGER, count: 3, data: Uint8Array.of(1, 1) },
    { flags: NONE | MASK, index: 3, count: 1 },
    { flags: EVENTFD | TRIGGER, count: 2, descriptors: eventfds(1) },
    { flags: EVENTFD | TRIGGER, count: 1, descriptors: eventfds(2) },
    { flags: EVENTFD | MASK, count: 1, descriptors: eventfds(1) },
    { flags: NONE | TRIGGER, count: 1, descriptors: eventfds(1) },
    { flags: NONE | TRIGGER, count: 0, descriptors: eventfds(1) },
    { flags: EVENTFD | TRIGGER, count: 2, descriptors: [...eventfds(1), guest.descriptors.make("other")] },
  ];
  for (const change of wrong) assert.equal(setIrqs(guest, change), Errno.invalid, JSON.stringify(change));
  assert.equal(guest.errorOf(Command.deviceSetIrqs, u32(20, NONE | TRIGGER, 2, 0)), Errno.invalid);
  assert.equal(guest.errorOf(Command.deviceSetIrqs, u32(19, NONE | TRIGGER, 2, 0, 1)), Errno.invalid);
  assert.equal(guest.descriptors.openCount, 0);
});

test("the vectors work again after a function-level reset, and after memory decoding was off", () => {
  const guest = served();
  const [descriptor = 0] = assign(guest);
  guest.write(7, 0xa8, pack([2, 0x8000]));
  assert.equal(guest.vf.statistics.resets.functionLevel, 1);
  guest.enable();
  open(guest);
  raise(guest, 0);
  guest.vf.run();
  assert.equal(guest.descriptors.signals(descriptor), 1);
});

test("the eventfds for errors and requests are kept, and a client can trigger them itself", () => {
  const guest = served();
  for (const index of [3, 4]) {
    const descriptor = guest.descriptors.make("eventfd");
    const descriptors = [descriptor];
    assert.equal(setIrqs(guest, { flags: EVENTFD | TRIGGER, index, count: 1, descriptors }), Errno.none);
    assert.equal(setIrqs(guest, { flags: NONE | TRIGGER, index, count: 1 }), Errno.none);
    assert.equal(guest.descriptors.signals(descriptor), 1);
  }
});

test("without descriptors the vectors of a SET_IRQS are raised by message, until all are disabled", () => {
  const raised: number[] = [];
  const raiseByMessage = (vector: number): void => void raised.push(vector);
  const guest = new ServedGuest({ isNative: false, raiseByMessage }).negotiate().enable();
  open(guest);
  raise(guest, 1);
  guest.vf.run();
  assert.deepEqual(raised, []);
  assert.equal(setIrqs(guest, { flags: EVENTFD | TRIGGER, count: 2 }), Errno.none);
  assert.deepEqual(raised, [1]);
  assert.equal(setIrqs(guest, { flags: NONE | TRIGGER }), Errno.none);
  raise(guest, 0);
  guest.vf.run();
  assert.deepEqual(raised, [1]);
});
