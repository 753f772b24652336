// The whole VF under a driver that does what ixgbevf does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PostedWrites } from "../iommu/posted-writes.ts";
import { OperationError } from "../base/errors.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "./guest.fixture.ts";
import { MailboxApi, MessageType } from "./mailbox-messages.ts";
import * as r from "./registers.ts";
import { decodeVfState, encodeVfState } from "./state.ts";

function booted(...changes: ConstructorParameters<typeof TestGuest>): TestGuest {
  const guest = new TestGuest(...changes);
  guest.boot();
  return guest;
}

const incoming = (fill: number, bytes = 100): Uint8Array => frameTo(guestMac, otherMac, bytes, fill);
const outgoing = (fill: number, bytes = 100): Uint8Array => frameTo(otherMac, guestMac, bytes, fill);

test("a driver finds the VF, resets it, negotiates, opens it and makes no mistake doing so", () => {
  for (const mailboxApiMax of Object.values(MailboxApi)) {
    if (mailboxApiMax < MailboxApi.v12) continue;
    const { vf, driver } = booted({ mailboxApiMax });
    assert.deepEqual(driver.checkLink(), { up: true, mustReset: false });
    const { guestMistakes } = vf.statistics;
    const refusedVersions = 8 - mailboxApiMax;
    assert.deepEqual(guestMistakes, {
      oddRegisterAccesses: 0,
      unknownRegisters: 0,
      missingQueues: 0,
      oddConfigurationAccesses: 0,
      oddVectorTableAccesses: 0,
      refusedRequests: refusedVersions,
    });
  }
});

test("a frame from the wire lands in a buffer, its descriptor is written back, and one message is delivered", () => {
  const guest = booted();
  guest.vf.receiveFrame(incoming(0xa5));
  assert.ok(guest.vf.hasWork);
  guest.vf.run();
  assert.equal(guest.vf.hasWork, false);
  assert.deepEqual(guest.interrupts, [0]);
  assert.deepEqual(guest.poll(), [incoming(0xa5)]);
  assert.equal(guest.read(r.VFGPRC), 1);
  assert.deepEqual(guest.vf.rxRing(0), {
    enabled: true,
    condition: "ready",
    base: 0x1000,
    descriptors: 64,
    head: 1,
    tail: 0,
  });
});

test("frames that come while the driver polls cause one further message, when it re-enables its vector", () => {
  const guest = booted();
  guest.vf.receiveFrame(incoming(1));
  guest.vf.run();
  for (let i = 2; i < 6; i++) guest.vf.receiveFrame(incoming(i));
  guest.vf.run();
  assert.deepEqual(guest.interrupts, [0]);
  assert.equal(guest.poll().length, 5);
  assert.deepEqual(guest.interrupts, [0, 0]);
  assert.equal(guest.poll().length, 0);
  assert.deepEqual(guest.interrupts, [0, 0]);
});

test("a frame the driver posts reaches the wire and is reported done with a message", () => {
  const guest = booted();
  guest.transmit(outgoing(0x77));
  assert.equal(guest.sent.length, 0);
  guest.vf.run();
  assert.deepEqual(guest.sent, [outgoing(0x77)]);
  assert.deepEqual(guest.interrupts, [0]);
  assert.equal(guest.clean(), 1);
  assert.equal(guest.vf.txRing(0).head, 1);
});

test("a thousand frames each way go round both rings many times, whole and in order", () => {
  const guest = booted();
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 20; i++) {
      guest.vf.receiveFrame(incoming(round + i, 60 + 7 * i));
      guest.transmit(outgoing(round + i, 60 + 5 * i));
    }
    guest.vf.run();
    assert.equal(guest.clean(), 20);
    const frames = guest.poll();
    for (const [i, frame] of frames.entries()) assert.deepEqual(frame, incoming(round + i, 60 + 7 * i));
    for (const [i, frame] of guest.sent.splice(0).entries()) assert.deepEqual(frame, outgoing(round + i, 60 + 5 * i));
  }
  assert.equal(guest.vf.statistics.receive.delivered, 1000);
  assert.equal(guest.vf.statistics.transmit.sent, 1000);
});

test("frames for others, oversized frames and spoofed frames are dropped and counted by cause", () => {
  const guest = booted();
  guest.vf.receiveFrame(frameTo(otherMac, otherMac, 100, 0));
  guest.vf.receiveFrame(incoming(0).subarray(0, 13));
  guest.vf.receiveFrame(incoming(0, 1515));
  const tagged = incoming(0);
  tagged.set([0x81, 0x00, 0x00, 0x64], 12);
  guest.vf.receiveFrame(tagged);
  guest.transmit(frameTo(otherMac, otherMac, 100, 0));
  guest.vf.run();
  assert.deepEqual(guest.poll(), []);
  assert.deepEqual(guest.sent, []);
  assert.equal(guest.clean(), 1);
  const { receive, receiveDrops, transmitDrops } = guest.vf.statistics;
  assert.equal(receive.oversized, 1);
  assert.deepEqual(receiveDrops, {
    stopped: 0,
    linkDown: 0,
    receiveDisabled: 0,
    runt: 1,
    otherAddress: 1,
    otherVlan: 1,
  });
  assert.deepEqual(transmitDrops, { linkDown: 0, spoofed: 1 });
});

test("without bus mastering nothing is fetched or sent, and it all happens when it comes on", () => {
  const guest = booted();
  let calls = 0;
  guest.vf.writeConfiguration(0x04, 2, 0x0002);
  guest.vf.run();
  guest.vf.onWork = () => calls++;
  guest.vf.receiveFrame(incoming(1));
  guest.transmit(outgoing(2));
  guest.vf.run();
  assert.deepEqual([guest.interrupts, guest.sent], [[], []]);
  guest.vf.writeConfiguration(0x04, 2, 0x0006);
  assert.equal(calls, 2);
  guest.vf.run();
  assert.equal(guest.sent.length, 1);
  assert.equal(guest.poll().length, 1);
});

test("work is announced once until a step has found none", () => {
  const guest = booted();
  guest.vf.run();
  let calls = 0;
  guest.vf.onWork = () => calls++;
  guest.vf.receiveFrame(incoming(1));
  guest.vf.receiveFrame(incoming(2));
  guest.transmit(outgoing(3));
  assert.equal(calls, 1);
  guest.vf.run();
  guest.transmit(outgoing(4));
  assert.equal(calls, 2);
});

test("a moderated interrupt comes at its deadline, which the host is told of", () => {
  const guest = booted();
  guest.write(r.VTEITR(0), 200);
  guest.vf.receiveFrame(incoming(1));
  guest.vf.run();
  guest.poll();
  guest.vf.run();
  let calls = 0;
  guest.vf.onWork = () => calls++;
  guest.write(r.VTEICS, 1);
  assert.equal(calls, 1);
  guest.vf.run();
  assert.deepEqual(guest.interrupts, [0]);
  assert.equal(guest.vf.deadlineMs(), guest.clock.nowMs() + 0.05);
  assert.equal(guest.vf.hasWork, false);
  guest.clock.advance(0.06);
  assert.ok(guest.vf.hasWork);
  guest.vf.advance();
  assert.deepEqual(guest.interrupts, [0, 0]);
  assert.equal(guest.vf.deadlineMs(), Infinity);
});

test("a stopped VF finishes its frame, sends nothing more, keeps doorbells and drops frames from the wire", () => {
  const guest = booted();
  guest.vf.receiveFrame(incoming(1));
  guest.vf.receiveFrame(incoming(2));
  assert.ok(guest.vf.step());
  guest.vf.stop();
  assert.ok(guest.vf.isStopped);
  assert.deepEqual(guest.interrupts, [0]);
  const before = guest.memory.bytes().slice();
  guest.vf.receiveFrame(incoming(3));
  const words = guest.memory.words().slice();
  guest.write(r.VTEIMS, 1);
  guest.write(r.VTEICS, 1);
  guest.vf.run();
  assert.equal(guest.vf.hasWork, false);
  assert.deepEqual(guest.memory.bytes(), before);
  assert.deepEqual(guest.memory.words(), words);
  assert.deepEqual(guest.interrupts, [0]);
  guest.transmit(outgoing(4));
  guest.vf.run();
  assert.deepEqual(guest.sent, []);
  assert.equal(guest.vf.statistics.receiveDrops.stopped, 1);

  guest.vf.start();
  assert.deepEqual(guest.interrupts, [0, 0]);
  guest.vf.run();
  assert.deepEqual(guest.sent, [outgoing(4)]);
  assert.deepEqual(guest.poll(), [incoming(1), incoming(2)]);
});

test("stop pushes the last posted write out with a read", () => {
  const bus: { writes?: PostedWrites } = {};
  const guest = booted({ wrapDma: (port) => (bus.writes = new PostedWrites(port)) });
  guest.vf.receiveFrame(incoming(9));
  guest.vf.run();
  assert.ok((bus.writes?.pending ?? 0) > 0);
  assert.deepEqual(guest.poll(), []);
  guest.vf.stop();
  assert.equal(bus.writes?.pending, 0);
  assert.deepEqual(guest.poll(), [incoming(9)]);
});

test("what a saved state says was written is in memory, though the device goes on", () => {
  const bus: { writes?: PostedWrites } = {};
  const guest = booted({ wrapDma: (port) => (bus.writes = new PostedWrites(port)) });
  for (let frame = 0; frame < 5; frame++) guest.vf.receiveFrame(incoming(frame));
  for (let beat = 0; beat < 8; beat++) guest.vf.step();
  assert.ok((bus.writes?.pending ?? 0) > 0);
  assert.equal(guest.vf.save().registers["VFRDH"]?.[0], 3);
  assert.deepEqual(guest.poll(), [incoming(0), incoming(1), incoming(2)]);
});

test("stopTransmit reports what was sent and sends nothing more while receiving goes on", () => {
  const guest = booted();
  guest.transmit(outgoing(1));
  guest.transmit(outgoing(2));
  while (guest.sent.length === 0) guest.vf.step();
  guest.vf.stopTransmit();
  assert.equal(guest.clean(), 1);
  guest.vf.receiveFrame(incoming(3));
  guest.vf.run();
  assert.equal(guest.sent.length, 1);
  assert.deepEqual(guest.poll(), [incoming(3)]);
  guest.vf.start();
  guest.vf.run();
  assert.equal(guest.sent.length, 2);
  assert.equal(guest.clean(), 1);
});

test("a VF moved in the middle of traffic goes on with the same rings, address and vectors", () => {
  const source = booted();
  for (let i = 0; i < 5; i++) source.vf.receiveFrame(incoming(i));
  source.transmit(outgoing(1));
  source.vf.run();
  source.vf.stop();
  const state = decodeVfState(encodeVfState(source.vf.save()));

  const destination = new TestGuest({}, source.memory);
  destination.clock.advance(77_000);
  destination.vf.restore(state);
  destination.continueFrom(source);
  assert.ok(destination.vf.isStopped);
  assert.deepEqual(destination.interrupts, []);
  assert.deepEqual(destination.vf.save(), source.vf.save());
  destination.vf.start();
  destination.vf.raiseAllEnabled();
  assert.equal(destination.poll().length, 5);
  assert.equal(destination.clean(), 1);
  assert.deepEqual(
    [...destination.interrupts].sort((a, b) => a - b),
    [0, 1],
  );
  destination.vf.receiveFrame(incoming(9));
  destination.transmit(outgoing(9));
  destination.vf.run();
  assert.deepEqual(destination.poll(), [incoming(9)]);
  assert.deepEqual(destination.sent, [outgoing(9)]);
});

test("a message held back by a stop is sent by whoever starts the VF again, here or elsewhere", () => {
  const source = booted();
  source.vf.stop();
  source.write(r.VTEICS, 1);
  assert.deepEqual(source.interrupts, []);
  const destination = new TestGuest({}, source.memory);
  destination.vf.restore(source.vf.save());
  destination.vf.start();
  assert.deepEqual(destination.interrupts, [0]);
  source.vf.start();
  assert.deepEqual(source.interrupts, [0]);
});

test("a state of another number of queue pairs is refused and leaves the VF as it was", () => {
  const source = booted({ queuePairsMax: 1 });
  const destination = booted();
  const before = destination.vf.save();
  assert.throws(
    () => destination.vf.restore(source.vf.save()),
    (error) => error instanceof OperationError && error.code === "vf-state-invalid",
  );
  assert.deepEqual(destination.vf.save(), before);
  assert.equal(destination.vf.isStopped, false);
});

test("head write-back survives VFCTRL.RST and a function-level reset, until the PF hears RESET", () => {
  for (const reset of ["software", "function-level"] as const) {
    const guest = booted();
    guest.write(r.VFTDWBAL(0), 0x9000 | r.TDWBAL_HEAD_WB_ENABLE);
    if (reset === "software") guest.write(r.VFCTRL, r.VFCTRL_RST);
    else {
      guest.vf.writeConfiguration(0xa8, 2, 0x8000);
      guest.enumerate();
    }
    assert.equal(guest.read(r.VFTDWBAL(0)), 0x9001, reset);
    assert.equal(guest.read(r.VFRXDCTL(0)), 0);
    assert.equal(guest.read(r.VTEIMS), 0);
    guest.probe();
    assert.equal(guest.read(r.VFTDWBAL(0)), 0);
    guest.open();
    guest.vf.receiveFrame(incoming(1));
    guest.vf.run();
    assert.equal(guest.poll().length, 1);
  }
});

test("a function-level reset takes the VF off the bus until it is enumerated again", () => {
  const guest = booted();
  guest.vf.writeConfiguration(0xa8, 2, 0x8000);
  assert.equal(guest.read(r.VFLINKS), 0xffff_ffff);
  assert.equal(guest.vf.barAddress(0), -1);
  assert.equal(guest.vf.busMasterEnabled, false);
  assert.deepEqual(guest.vf.statistics.resets, { functionLevel: 1, software: 1, physicalFunction: 0 });
});

test("a reset by the PF stops the rings at once, reaches the driver by its mailbox vector, and it comes up again", () => {
  for (const mailboxApiMax of [MailboxApi.v14, MailboxApi.v15]) {
    const guest = booted({ mailboxApiMax });
    guest.driver.checkLink();
    guest.vf.run();
    guest.interrupts.length = 0;
    guest.write(r.VTEIMS, 3);
    guest.interrupts.length = 0;
    guest.vf.pfReset();
    assert.deepEqual(guest.interrupts, [1]);
    assert.equal(guest.vf.rxRing(0).enabled, false);
    const before = guest.memory.bytes().slice();
    guest.vf.receiveFrame(incoming(1));
    guest.transmit(outgoing(1));
    guest.vf.run();
    assert.equal(guest.vf.statistics.receiveDrops.receiveDisabled, 1);
    assert.deepEqual(guest.sent, []);
    // Nothing but what the driver itself wrote: the posted frame and its descriptor.
    const changed = guest.memory.bytes().filter((byte, i) => byte !== before[i]);
    assert.ok(changed.length <= 116);

    guest.driver.getLinkStatus = true;
    assert.deepEqual(guest.driver.checkLink(), { up: false, mustReset: true });
    guest.probe();
    guest.open();
    assert.deepEqual(guest.driver.checkLink(), { up: true, mustReset: false });
    guest.vf.receiveFrame(incoming(2));
    guest.transmit(outgoing(2));
    guest.vf.run();
    assert.deepEqual(guest.poll(), [incoming(2)]);
    assert.deepEqual(guest.sent, [outgoing(2)]);
  }
});

test("until it resets, the driver is refused again 10 ms after each acknowledgement", () => {
  const guest = booted();
  guest.vf.pfReset();
  guest.driver.getLinkStatus = true;
  assert.ok(guest.driver.checkLink().mustReset);
  assert.equal(guest.vf.deadlineMs(), guest.clock.nowMs() + 10);
  guest.clock.advance(10);
  guest.vf.run();
  assert.ok(guest.driver.checkLink().mustReset);
});

test("a transmit hang shows descriptors that are never fetched, and keeps the PF's trust", () => {
  const guest = booted();
  guest.transmit(outgoing(1));
  guest.vf.run();
  guest.vf.pfReset("transmit-hang");
  assert.notEqual(guest.read(r.VFTDH(0)), guest.read(r.VFTDT(0)));
  guest.transmit(outgoing(2));
  guest.vf.run();
  assert.notEqual(guest.read(r.VFTDH(0)), guest.read(r.VFTDT(0)));
  assert.equal(guest.sent.length, 1);
  assert.ok(guest.driver.isAccepted([MessageType.getLinkState, 0]));
});

test("pulling the cable stops frames both ways and tells the driver", () => {
  const guest = booted();
  guest.driver.checkLink();
  guest.interrupts.length = 0;
  guest.write(r.VTEIMS, 3);
  guest.interrupts.length = 0;
  guest.vf.setLink({ up: false, speedMbps: 10_000 });
  assert.deepEqual(guest.interrupts, [1]);
  guest.driver.getLinkStatus = true;
  assert.deepEqual(guest.driver.checkLink(), { up: false, mustReset: false });
  guest.vf.receiveFrame(incoming(1));
  guest.transmit(outgoing(1));
  guest.vf.run();
  const { receiveDrops, transmitDrops } = guest.vf.statistics;
  assert.deepEqual([receiveDrops.linkDown, transmitDrops.linkDown], [1, 1]);
});

test("the timer counts microseconds and goes on where the saved one was", () => {
  const guest = booted();
  const before = guest.read(r.VFFRTIMER);
  guest.clock.advance(2.5);
  assert.equal(guest.read(r.VFFRTIMER), before + 2500);
  const destination = new TestGuest();
  destination.vf.restore(guest.vf.save());
  assert.equal(destination.read(r.VFFRTIMER), before + 2500);
});

test("a conventional reset leaves nothing of the guest before but the link, and the next one boots", () => {
  const guest = booted();
  const powerOn = new TestGuest().vf.save();
  guest.vf.setLink({ up: true, speedMbps: 1000 });
  guest.vf.receiveFrame(incoming(1));
  guest.vf.stop();
  guest.interrupts.length = 0;
  guest.vf.reset();
  assert.equal(guest.vf.isStopped, false);
  assert.equal(guest.vf.busMasterEnabled, false);
  assert.equal(guest.vf.barAddress(0), -1);
  const registers = { ...powerOn.registers, VFLINKS: [r.VFLINKS_UP | r.VFLINKS_SPEED_1G] };
  assert.deepEqual(guest.vf.save(), { ...powerOn, registers });
  guest.vf.run();
  assert.deepEqual(guest.interrupts, [], "a frame of the guest before is not the next one's");

  guest.boot();
  guest.vf.receiveFrame(incoming(2));
  guest.vf.run();
  assert.deepEqual(guest.poll(), [incoming(2)]);
});
