import assert from "node:assert/strict";
import { test } from "node:test";
import {
  BUFFERS_AT,
  DatapathGuest,
  plainFrame,
  receiveRingAt,
  receivingGuest,
  writtenBack,
} from "./datapath.fixture.ts";
import { RXD_ERR_CE, RXD_STAT_DD, RXD_STAT_EOP } from "./descriptors.ts";
import { RXDCTL_VME, VFGPRC, VFRDBAL, VFRXDCTL, VFSRRCTL } from "./registers.ts";

const DONE = RXD_STAT_DD | RXD_STAT_EOP;

test("stop finishes the frame under way with its cause, holds the rest, and start takes it up", () => {
  const guest = receivingGuest({}, { bufferKiB: 1 });
  guest.postMany(7, 1024);
  guest.receive.frame(plainFrame(1500));
  guest.receive.frame(plainFrame(100));
  guest.receive.step();
  assert.equal(guest.receive.isAtFrameBoundary, false);
  guest.receive.stop();
  assert.equal(guest.run(guest.receive), 4);
  assert.deepEqual([guest.receive.isAtFrameBoundary, guest.receiveHead, guest.receive.framesHeld], [true, 2, 1]);
  assert.equal(guest.causes.length, 1);
  guest.receive.start();
  guest.run(guest.receive);
  assert.equal(guest.receiveHead, 3);
});

test("enabling a queue sets its head to 0 and other writes to its registers do not", () => {
  const guest = receivingGuest();
  guest.postMany(5);
  guest.receive.frame(plainFrame(60));
  guest.run(guest.receive);
  guest.setRegister(VFRXDCTL(0), guest.register(VFRXDCTL(0)) | RXDCTL_VME);
  guest.receive.queueChanged(0);
  assert.equal(guest.receiveHead, 1);
  guest.setRegister(VFRXDCTL(0), 0);
  guest.receive.queueChanged(0);
  guest.openReceive();
  assert.equal(guest.receiveHead, 0);
});

test("a queue disabled between two beats forgets the frame and writes nothing more", () => {
  for (let beats = 1; beats <= 4; beats++) {
    const guest = receivingGuest({}, { bufferKiB: 1 });
    guest.postMany(7, 1024);
    guest.receive.frame(plainFrame(1500));
    for (let i = 0; i < beats; i++) guest.receive.step();
    guest.setRegister(VFRXDCTL(0), 0);
    guest.receive.queueChanged(0);
    const before = Uint8Array.from(guest.memory.bytes());
    assert.equal(guest.receive.step(), false);
    assert.deepEqual(guest.memory.bytes(), before);
    assert.equal(guest.receive.isAtFrameBoundary, true);
    guest.openReceive();
    guest.postMany(4);
    assert.equal(guest.receive.step(), false);
    assert.equal(guest.receive.save().queues[0]?.frameInProgress, false);
  }
});

/** What ixgbevf_clean_rx_irq does: length tells done, descriptors are chained up to EOP, errors drop the chain. */
function driverReads(
  guest: DatapathGuest,
  from: number,
): { frames: number[]; dropped: number; open: boolean; next: number } {
  const frames: number[] = [];
  let dropped = 0;
  let skb = -1;
  let slot = from;
  for (;;) {
    const { length, status } = writtenBack(guest.receiveDescriptor(slot));
    if (length === 0 || slot === guest.receive.ring(0).tail) break;
    skb = (skb < 0 ? 0 : skb) + length;
    slot = (slot + 1) % guest.receive.ring(0).descriptors;
    if ((status & RXD_STAT_EOP) === 0) continue;
    if ((status & RXD_ERR_CE) !== 0) dropped++;
    else frames.push(skb);
    skb = -1;
  }
  return { frames, dropped, open: skb >= 0, next: slot };
}

test("restored at any beat of a frame, the driver loses at most that frame and gets every later one whole", () => {
  for (const prefetchDescriptors of [0, 4]) {
    for (let beats = 0; beats <= 7; beats++) {
      const guest = receivingGuest({ receive: { prefetchDescriptors } }, { bufferKiB: 1, descriptors: 16 });
      guest.receive.frameBytesMax = 9728;
      guest.postMany(10, 1024);
      guest.receive.frame(plainFrame(3000));
      for (let i = 0; i < beats; i++) assert.ok(guest.receive.step());
      const causes = guest.causes.length;
      const state = structuredClone(guest.receive.save());
      guest.receive.restore(state);
      assert.deepEqual(guest.receive.save(), state);
      guest.receive.frame(plainFrame(500));
      guest.run(guest.receive);
      const { frames, dropped, open: isOpen } = driverReads(guest, 0);
      assert.equal(isOpen, false, `after ${beats} beats`);
      // The third write-back is beat 6; from then on the frame is whole.
      assert.deepEqual(frames, beats >= 6 ? [3000, 500] : [500], `after ${beats} beats`);
      assert.equal(dropped, beats >= 2 && beats < 6 ? 1 : 0, `after ${beats} beats`);
      assert.equal(guest.receive.counters.endsOwed, dropped);
      // A cause for the owed end or the write-back whose cause was still due, and one for the new frame.
      assert.equal(guest.causes.length - causes, beats >= 2 && beats < 7 ? 2 : 1, `after ${beats} beats`);
    }
  }
});

test("an owed end waits for a descriptor and goes before every frame", () => {
  const guest = receivingGuest({}, { drop: false });
  guest.receive.restore({ queues: [{ frameInProgress: true, causePending: false, dmaFault: false }] });
  guest.receive.frame(plainFrame(80));
  assert.equal(guest.receive.step(), false);
  assert.equal(guest.receive.save().queues[0]?.frameInProgress, true);
  guest.postMany(3);
  guest.run(guest.receive);
  assert.deepEqual(writtenBack(guest.receiveDescriptor(0)), {
    packetInfo: 0,
    rss: 0,
    status: DONE | RXD_ERR_CE,
    length: 1,
    vlan: 0,
  });
  assert.equal(writtenBack(guest.receiveDescriptor(1)).length, 80);
  assert.equal(guest.bytes(BUFFERS_AT, 1)[0], 0);
  assert.equal(guest.register(VFGPRC), 1);
});

test("a stopped unit pays no owed end before it is started", () => {
  const guest = receivingGuest();
  guest.postMany(3);
  guest.receive.restore({ queues: [{ frameInProgress: true, causePending: true, dmaFault: false }] });
  guest.receive.stop();
  assert.equal(guest.receive.step(), false);
  assert.deepEqual(guest.receive.save().queues[0], { frameInProgress: true, causePending: true, dmaFault: false });
  guest.receive.start();
  guest.run(guest.receive);
  assert.equal(guest.causes.length, 2);
});

test("a buffer that cannot be written costs its frame, and the driver gets the descriptor back with an error", () => {
  for (const bad of [0, 1, 2]) {
    const guest = receivingGuest({}, { bufferKiB: 1 });
    const addresses = [0, 1, 2, 3, 4, 5].map((i) => BUFFERS_AT + i * 1024);
    addresses[bad] = 0xfee0_0000;
    guest.post(addresses);
    guest.receive.frameBytesMax = 9728;
    guest.receive.frame(plainFrame(2500));
    guest.receive.frame(plainFrame(70));
    guest.run(guest.receive);
    const { frames, dropped, open: isOpen } = driverReads(guest, 0);
    assert.deepEqual([frames, dropped, isOpen], [[70], 1, false]);
    assert.equal(guest.receive.counters.bufferFaults, 1);
    assert.equal(guest.domain.faults.total, 1);
  }
});

test("a ring that cannot be reached stops its queue until it is disabled, and only that queue", () => {
  const guest = new DatapathGuest({ queuePairs: 2 });
  guest.openReceive(1);
  guest.postMany(4, 2048, 1);
  guest.openReceive(0, { base: 0x1000_0000 });
  guest.setReceiveTail(4);
  guest.receive.frame(plainFrame(60));
  guest.run(guest.receive);
  assert.equal(guest.receive.ring(0).condition, "dma-fault");
  assert.equal(guest.receive.counters.descriptorFaults, 1);
  guest.setReceiveTail(5);
  guest.setRegister(VFSRRCTL(0), guest.register(VFSRRCTL(0)));
  guest.receive.queueChanged(0);
  assert.equal(guest.receive.ring(0).condition, "dma-fault");
  assert.deepEqual(
    guest.receive.save().queues.map((queue) => queue.dmaFault),
    [true, false],
  );
  assert.equal(guest.receive.ring(1).condition, "ready");
  guest.setRegister(VFRXDCTL(0), 0);
  guest.receive.queueChanged(0);
  guest.openReceive(0);
  assert.equal(guest.receive.ring(0).condition, "ready");
});

test("a frame cut short by a bad tail is owed its end, and gets it when the tail is good again", () => {
  const guest = receivingGuest({}, { bufferKiB: 1 });
  guest.postMany(6, 1024);
  guest.receive.frame(plainFrame(1500));
  guest.receive.step();
  guest.receive.step();
  guest.setReceiveTail(99);
  assert.equal(guest.receive.step(), false);
  guest.setReceiveTail(6);
  guest.receive.frame(plainFrame(70));
  guest.run(guest.receive);
  const { frames, dropped, open: isOpen } = driverReads(guest, 0);
  assert.deepEqual([frames, dropped, isOpen], [[70], 1, false]);
});

test("descriptors prefetched from a ring are not used in the ring that replaces it", () => {
  const guest = receivingGuest({ receive: { prefetchDescriptors: 8 } });
  guest.postMany(7);
  guest.receive.frame(plainFrame(60));
  guest.run(guest.receive);
  guest.memory.words().fill(0, receiveRingAt(3) / 4, receiveRingAt(4) / 4);
  guest.memory.words()[receiveRingAt(3) / 4 + 4] = 0x8_0000;
  guest.setRegister(VFRDBAL(0), receiveRingAt(3));
  guest.receive.queueChanged(0);
  guest.receive.frame(plainFrame(61));
  guest.run(guest.receive);
  assert.deepEqual(guest.bytes(0x8_0000, 61), plainFrame(61));
});

test("a reset loses the frames held, counts them, and leaves nothing under way", () => {
  const guest = receivingGuest({}, { drop: false });
  for (let i = 0; i < 3; i++) guest.receive.frame(plainFrame(60));
  guest.setRegister(VFRXDCTL(0), 0);
  guest.receive.reset();
  assert.deepEqual([guest.receive.framesHeld, guest.receive.counters.queueNotReady], [0, 3]);
  assert.equal(guest.receive.step(), false);
});
