import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaPurpose, tagIndex, tagPurpose, tagQueue, tagRelaxedOrdering } from "../iommu/dma-port.ts";
import { BUFFERS_AT, receiveRingAt, DatapathGuest, writtenBack, type GuestOptions } from "./datapath.fixture.ts";
import {
  PKTTYPE_IPV4,
  PKTTYPE_TCP,
  RssType,
  RXD_ERR_CE,
  RXD_STAT_DD,
  RXD_STAT_EOP,
  RXD_STAT_IPCS,
  RXD_STAT_L4CS,
  RXD_STAT_VP,
} from "./descriptors.ts";
import { buildFrame } from "./frames.fixture.ts";
import {
  DCA_RXCTRL_DATA_WRO_EN,
  DCA_RXCTRL_DESC_WRO_EN,
  RXDCTL_VME,
  VFDCA_RXCTRL,
  VFGORC_LSB,
  VFGORC_MSB,
  VFGPRC,
  VFMPRC,
  VFMRQC,
  VFPSRTYPE,
  VFRDBAL,
  VFRDH,
  VFRETA,
  VFRSSRK,
  VFRXDCTL,
  VFSRRCTL,
} from "./registers.ts";

const DONE = RXD_STAT_DD | RXD_STAT_EOP;
const GOOD_TCP = DONE | RXD_STAT_IPCS | RXD_STAT_L4CS;

/** A frame of any ethertype that nobody parses. */
const plain = (length: number, fill = 0x5a): Uint8Array => {
  const bytes = new Uint8Array(length).fill(fill);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return bytes;
};

function open(options: GuestOptions = {}, setup: Parameters<DatapathGuest["openReceive"]>[1] = {}): DatapathGuest {
  const guest = new DatapathGuest(options);
  guest.openReceive(0, setup);
  return guest;
}

test("a frame arrives in three beats: buffer, then descriptor and head, then cause", () => {
  const guest = open();
  guest.postMany(7);
  const { bytes } = buildFrame({ version: 4, protocol: "tcp", payload: [1, 2, 3, 4, 5, 6] });
  assert.ok(guest.receive.frame(bytes));
  const before = guest.receiveDescriptor(0);

  assert.ok(guest.receive.step());
  assert.deepEqual(guest.bytes(BUFFERS_AT, 60), bytes);
  assert.deepEqual(guest.receiveDescriptor(0), before);
  assert.equal(guest.receiveHead, 0);

  assert.ok(guest.receive.step());
  const done = writtenBack(guest.receiveDescriptor(0));
  assert.deepEqual(done, { packetInfo: PKTTYPE_IPV4 | PKTTYPE_TCP, rss: 0, status: GOOD_TCP, length: 60, vlan: 0 });
  assert.equal(guest.receiveHead, 1);
  assert.equal(guest.causes.length, 0);

  assert.ok(guest.receive.step());
  assert.deepEqual(guest.causes, [{ queue: 0, direction: 0 }]);
  assert.equal(guest.receive.step(), false);
  assert.equal(guest.register(VFGPRC), 1);
  assert.equal(guest.register(VFGORC_LSB), 64);
});

test("each buffer is written before its descriptor, whatever the frame and buffer sizes, and the bytes are the frame's", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 60, max: 9700 }), { minLength: 1, maxLength: 6 }),
      fc.integer({ min: 1, max: 8 }),
      fc.constantFrom(0, 1, 3, 16),
      (lengths, bufferKiB, prefetchDescriptors) => {
        const guest = open({ receive: { prefetchDescriptors } }, { descriptors: 16, bufferKiB });
        guest.receive.frameBytesMax = 9728;
        const bufferBytes = bufferKiB * 1024;
        const order: string[] = [];
        guest.dma.addObserver({
          after: (address, length, tag) => {
            const isBuffer = tagPurpose(tag) === DmaPurpose.rxBuffer;
            order.push(`${isBuffer ? "buffer" : "descriptor"} ${tagIndex(tag)}`);
            assert.equal(tagQueue(tag), 0);
            if (isBuffer) assert.equal(address, BUFFERS_AT + tagIndex(tag) * bufferBytes);
            else assert.deepEqual([address, length], [receiveRingAt(0) + tagIndex(tag) * 16, 16]);
          },
        });
        guest.postMany(15, bufferBytes);
        let slot = 0;
        const expected: string[] = [];
        for (const [i, length] of lengths.entries()) {
          const frame = plain(length, i + 1);
          guest.receive.frame(frame);
          guest.run(guest.receive);
          const received: number[] = [];
          const pieces = Math.ceil(length / bufferBytes);
          for (let piece = 1; piece <= pieces; piece++) {
            expected.push(`buffer ${slot}`, `descriptor ${slot}`);
            const { status, length: pieceBytes } = writtenBack(guest.receiveDescriptor(slot));
            assert.equal(status, piece === pieces ? DONE : RXD_STAT_DD);
            received.push(...guest.bytes(BUFFERS_AT + slot * bufferBytes, pieceBytes));
            slot = (slot + 1) % 16;
          }
          assert.deepEqual(Uint8Array.from(received), frame);
          assert.equal(guest.receiveHead, slot);
          guest.postMany(pieces, bufferBytes);
        }
        assert.deepEqual(order, expected);
        assert.equal(guest.causes.length, lengths.length);
      },
    ),
    { numRuns: 60 },
  );
});

test("prefetching changes nothing in what the guest sees, over several laps of the ring", () => {
  const trace = (prefetchDescriptors: number): string[] => {
    const guest = open({ receive: { prefetchDescriptors } });
    const seen: string[] = [];
    guest.dma.addObserver({ after: (...write) => void seen.push(write.join(" ")) });
    guest.postMany(7);
    for (let i = 0; i < 40; i++) {
      guest.receive.frame(plain(60 + ((i * 997) % 1400)));
      guest.run(guest.receive);
      // Each lap posts at other addresses, so that a stale descriptor would show.
      guest.post([BUFFERS_AT + i * 2048]);
    }
    return seen;
  };
  const without = trace(0);
  for (const depth of [1, 2, 5, 8, 64]) assert.deepEqual(trace(depth), without, `depth ${depth}`);
});

test("relaxed ordering follows VFDCA_RXCTRL, and after a reset buffers have it and write-backs do not", () => {
  const relaxed = (control: number | undefined): boolean[] => {
    const guest = new DatapathGuest();
    if (control !== undefined) guest.setRegister(VFDCA_RXCTRL(0), control);
    guest.openReceive();
    guest.postMany(4);
    const seen: boolean[] = [];
    guest.dma.addObserver({ after: (_address, _length, tag) => void seen.push(tagRelaxedOrdering(tag)) });
    guest.receive.frame(plain(60));
    guest.run(guest.receive);
    return seen;
  };
  assert.deepEqual(relaxed(undefined), [true, false]);
  assert.deepEqual(relaxed(0), [false, false]);
  assert.deepEqual(relaxed(DCA_RXCTRL_DESC_WRO_EN), [false, true]);
  assert.deepEqual(relaxed(DCA_RXCTRL_DATA_WRO_EN | DCA_RXCTRL_DESC_WRO_EN), [true, true]);
});

test("without descriptors a frame is dropped and counted if the queue drops, and held in order if it does not", () => {
  const dropping = open();
  dropping.receive.frame(plain(60));
  assert.equal(dropping.receive.step(), false);
  assert.deepEqual([dropping.receive.counters.withoutDescriptors, dropping.receive.framesHeld], [1, 0]);

  const holding = open({}, { drop: false });
  for (let i = 0; i < 3; i++) holding.receive.frame(plain(60 + i, i));
  assert.equal(holding.receive.step(), false);
  assert.equal(holding.receive.framesHeld, 3);
  holding.postMany(4);
  holding.run(holding.receive);
  assert.deepEqual(
    [0, 1, 2].map((slot) => writtenBack(holding.receiveDescriptor(slot)).length),
    [60, 61, 62],
  );
  assert.equal(holding.receive.counters.withoutDescriptors, 0);
});

test("a frame is begun only when descriptors for all of it are there", () => {
  const guest = open({}, { bufferKiB: 1, drop: false });
  guest.receive.frameBytesMax = 9728;
  guest.postMany(2, 1024);
  guest.receive.frame(plain(3000));
  assert.equal(guest.receive.step(), false);
  guest.postMany(1, 1024);
  assert.equal(guest.run(guest.receive), 7);
});

test("a frame that its ring can never hold is dropped even by a queue that holds frames", () => {
  const guest = open({}, { bufferKiB: 1, drop: false });
  guest.receive.frameBytesMax = 9728;
  guest.postMany(7, 1024);
  guest.receive.frame(plain(8192));
  guest.receive.frame(plain(100));
  guest.run(guest.receive);
  assert.equal(guest.receive.counters.withoutDescriptors, 1);
  assert.equal(writtenBack(guest.receiveDescriptor(0)).length, 100);
});

test("the packet buffer is bounded: what does not fit is dropped and counted", () => {
  const guest = open({ receive: { packetBufferBytes: 4096 } }, { drop: false });
  let held = 0;
  for (let i = 0; i < 100; i++) if (guest.receive.frame(plain(1000))) held++;
  assert.equal(held, 4);
  assert.deepEqual([guest.receive.framesHeld, guest.receive.counters.packetBufferFull], [4, 96]);
});

test("short frames are padded to 60 bytes with zeros, not with what the packet buffer held before", () => {
  const guest = open();
  guest.postMany(7);
  guest.receive.frame(plain(200, 0xff));
  guest.run(guest.receive);
  guest.receive.frame(plain(14));
  guest.run(guest.receive);
  const padded = guest.bytes(BUFFERS_AT + 2048, 60);
  assert.deepEqual(padded.slice(0, 14), plain(14));
  assert.ok(padded.slice(14).every((byte) => byte === 0));
  assert.equal(writtenBack(guest.receiveDescriptor(1)).length, 60);
});

test("frames up to the PF's limit pass and longer ones do not, with four bytes more for a tag", () => {
  const guest = open({}, { descriptors: 64, bufferKiB: 16 });
  guest.postMany(40, 16_384);
  const tagged = (length: number): Uint8Array => {
    const frame = plain(length);
    frame.set([0x81, 0x00], 12);
    return frame;
  };
  const accepts = (frame: Uint8Array): boolean => guest.receive.frame(frame);
  assert.deepEqual([plain(1514), plain(1515), tagged(1518), tagged(1519)].map(accepts), [true, false, true, false]);
  guest.receive.frameBytesMax = 9018;
  assert.deepEqual([plain(9014), plain(9015)].map(accepts), [true, false]);
  guest.receive.frameBytesMax = 1_000_000;
  assert.deepEqual([plain(9724), plain(9725), new Uint8Array(13)].map(accepts), [true, false, false]);
  assert.deepEqual([guest.receive.counters.oversized, guest.receive.counters.runts], [4, 1]);
});

test("with VME the tag leaves the frame and stands in the descriptor; without, the frame stays as it is", () => {
  const built = buildFrame({ version: 4, protocol: "tcp", payload: [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], vlan: 0x6123 });
  const untagged = Uint8Array.from([...built.bytes.slice(0, 12), ...built.bytes.slice(16)]);
  const receive = (control: number): { guest: DatapathGuest; done: ReturnType<typeof writtenBack> } => {
    const guest = open({}, { control });
    guest.postMany(4);
    guest.receive.frame(built.bytes);
    guest.run(guest.receive);
    return { guest, done: writtenBack(guest.receiveDescriptor(0)) };
  };
  const stripped = receive(RXDCTL_VME);
  assert.deepEqual([stripped.done.status, stripped.done.vlan], [GOOD_TCP | RXD_STAT_VP, 0x6123]);
  assert.equal(stripped.done.length, built.bytes.length - 4);
  assert.deepEqual(stripped.guest.bytes(BUFFERS_AT, untagged.length), untagged);

  const kept = receive(0);
  assert.deepEqual([kept.done.status, kept.done.vlan, kept.done.length], [GOOD_TCP, 0, built.bytes.length]);
  assert.deepEqual(kept.guest.bytes(BUFFERS_AT, built.bytes.length), built.bytes);
});

test("RSS spreads frames over the queues and reports hash and type; queues that are off drop theirs", () => {
  const guest = new DatapathGuest({ queuePairs: 2 });
  for (let i = 0; i < 10; i++) guest.setRegister(VFRSSRK(i), 0x9e37_79b9 * (i + 1));
  for (let i = 0; i < 16; i++) guest.setRegister(VFRETA(i), 0x0100_0100);
  guest.setRegister(VFMRQC, 0x0033_0001);
  guest.setRegister(VFPSRTYPE, 1 << 29);
  guest.receive.rssChanged();
  guest.openReceive(0, { descriptors: 64 });
  guest.openReceive(1, { descriptors: 64 });
  for (const queue of [0, 1]) guest.postMany(63, 2048, queue);
  const frames = Array.from(
    { length: 40 },
    (_, i) => buildFrame({ version: 4, protocol: "tcp", payload: [i], ports: [1000 + i, 80] }).bytes,
  );
  for (const frame of frames) guest.receive.frame(frame);
  guest.run(guest.receive);
  const heads = [guest.register(VFRDH(0)), guest.register(VFRDH(1))];
  assert.equal(
    heads.reduce((a, b) => a + b),
    40,
  );
  assert.ok(
    heads.every((head) => head > 5),
    heads.join(),
  );
  for (const [queue, head] of heads.entries()) {
    for (let slot = 0; slot < head; slot++) {
      const { packetInfo, rss } = writtenBack(guest.receiveDescriptor(slot, queue));
      assert.equal(packetInfo & 0xf, RssType.ipv4Tcp);
      assert.equal(rss & 1, queue);
    }
  }
  assert.equal(new Set(guest.causes.map((cause) => cause.queue)).size, 2);

  guest.setRegister(VFRXDCTL(1), 0);
  guest.receive.queueChanged(1);
  for (const frame of frames) guest.receive.frame(frame);
  guest.run(guest.receive);
  assert.equal(guest.receive.counters.queueNotReady, heads[1]);
});

test("multicast frames are counted, broadcasts not among them", () => {
  const guest = open();
  guest.postMany(7);
  for (const target of [
    [1, 0, 0x5e, 0, 0, 1],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    [2, 0, 0, 0, 0, 1],
  ]) {
    const frame = plain(60);
    frame.set(target);
    guest.receive.frame(frame);
  }
  guest.run(guest.receive);
  assert.deepEqual([guest.register(VFGPRC), guest.register(VFMPRC)], [3, 1]);
});

test("the octet counter carries into its upper half and wraps after 36 bits", () => {
  const guest = open();
  guest.postMany(7);
  guest.setRegister(VFGORC_LSB, 0xffff_fff0);
  guest.setRegister(VFGORC_MSB, 0xf);
  guest.receive.frame(plain(60));
  guest.run(guest.receive);
  assert.deepEqual([guest.register(VFGORC_LSB), guest.register(VFGORC_MSB)], [0x30, 0]);
});

test("stop finishes the frame under way with its cause, holds the rest, and start takes it up", () => {
  const guest = open({}, { bufferKiB: 1 });
  guest.postMany(7, 1024);
  guest.receive.frame(plain(1500));
  guest.receive.frame(plain(100));
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
  const guest = open();
  guest.postMany(5);
  guest.receive.frame(plain(60));
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
    const guest = open({}, { bufferKiB: 1 });
    guest.postMany(7, 1024);
    guest.receive.frame(plain(1500));
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
      const guest = open({ receive: { prefetchDescriptors } }, { bufferKiB: 1, descriptors: 16 });
      guest.receive.frameBytesMax = 9728;
      guest.postMany(10, 1024);
      guest.receive.frame(plain(3000));
      for (let i = 0; i < beats; i++) assert.ok(guest.receive.step());
      const causes = guest.causes.length;
      const state = structuredClone(guest.receive.save());
      guest.receive.restore(state);
      assert.deepEqual(guest.receive.save(), state);
      guest.receive.frame(plain(500));
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
  const guest = open({}, { drop: false });
  guest.receive.restore({ queues: [{ frameInProgress: true, causePending: false, dmaFault: false }] });
  guest.receive.frame(plain(80));
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
  const guest = open();
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
    const guest = open({}, { bufferKiB: 1 });
    const addresses = [0, 1, 2, 3, 4, 5].map((i) => BUFFERS_AT + i * 1024);
    addresses[bad] = 0xfee0_0000;
    guest.post(addresses);
    guest.receive.frameBytesMax = 9728;
    guest.receive.frame(plain(2500));
    guest.receive.frame(plain(70));
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
  guest.receive.frame(plain(60));
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
  const guest = open({}, { bufferKiB: 1 });
  guest.postMany(6, 1024);
  guest.receive.frame(plain(1500));
  guest.receive.step();
  guest.receive.step();
  guest.setReceiveTail(99);
  assert.equal(guest.receive.step(), false);
  guest.setReceiveTail(6);
  guest.receive.frame(plain(70));
  guest.run(guest.receive);
  const { frames, dropped, open: isOpen } = driverReads(guest, 0);
  assert.deepEqual([frames, dropped, isOpen], [[70], 1, false]);
});

test("descriptors prefetched from a ring are not used in the ring that replaces it", () => {
  const guest = open({ receive: { prefetchDescriptors: 8 } });
  guest.postMany(7);
  guest.receive.frame(plain(60));
  guest.run(guest.receive);
  guest.memory.words().fill(0, receiveRingAt(3) / 4, receiveRingAt(4) / 4);
  guest.memory.words()[receiveRingAt(3) / 4 + 4] = 0x8_0000;
  guest.setRegister(VFRDBAL(0), receiveRingAt(3));
  guest.receive.queueChanged(0);
  guest.receive.frame(plain(61));
  guest.run(guest.receive);
  assert.deepEqual(guest.bytes(0x8_0000, 61), plain(61));
});

test("a reset loses the frames held, counts them, and leaves nothing under way", () => {
  const guest = open({}, { drop: false });
  for (let i = 0; i < 3; i++) guest.receive.frame(plain(60));
  guest.setRegister(VFRXDCTL(0), 0);
  guest.receive.reset();
  assert.deepEqual([guest.receive.framesHeld, guest.receive.counters.queueNotReady], [0, 3]);
  assert.equal(guest.receive.step(), false);
});

test("at toy scale, with 64-byte pages and buffers, frames run over several descriptors and pages just the same", () => {
  const guest = open({ pageBytes: 64, receive: { bufferUnitBytes: 64 } }, { bufferKiB: 1 });
  guest.postMany(7, 64);
  guest.receive.frame(plain(150));
  assert.equal(guest.run(guest.receive), 7);
  assert.deepEqual(
    [0, 1, 2].map((slot) => writtenBack(guest.receiveDescriptor(slot)).length),
    [64, 64, 22],
  );
});
