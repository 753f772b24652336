import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaPurpose, tagIndex, tagPurpose, tagQueue, tagRelaxedOrdering } from "../iommu/dma-port.ts";
import {
  BUFFERS_AT,
  DatapathGuest,
  plainFrame,
  receiveRingAt,
  receivingGuest,
  writtenBack,
} from "./datapath.fixture.ts";
import {
  PKTTYPE_IPV4,
  PKTTYPE_TCP,
  RssType,
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
  VFRDH,
  VFRETA,
  VFRSSRK,
  VFRXDCTL,
} from "./registers.ts";

const DONE = RXD_STAT_DD | RXD_STAT_EOP;
const GOOD_TCP = DONE | RXD_STAT_IPCS | RXD_STAT_L4CS;

test("a frame arrives in three beats: buffer, then descriptor and head, then cause", () => {
  const guest = receivingGuest();
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
        const guest = receivingGuest({ receive: { prefetchDescriptors } }, { descriptors: 16, bufferKiB });
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
          const frame = plainFrame(length, i + 1);
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
    const guest = receivingGuest({ receive: { prefetchDescriptors } });
    const seen: string[] = [];
    guest.dma.addObserver({ after: (...write) => void seen.push(write.join(" ")) });
    guest.postMany(7);
    for (let i = 0; i < 40; i++) {
      guest.receive.frame(plainFrame(60 + ((i * 997) % 1400)));
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
    guest.receive.frame(plainFrame(60));
    guest.run(guest.receive);
    return seen;
  };
  assert.deepEqual(relaxed(undefined), [true, false]);
  assert.deepEqual(relaxed(0), [false, false]);
  assert.deepEqual(relaxed(DCA_RXCTRL_DESC_WRO_EN), [false, true]);
  assert.deepEqual(relaxed(DCA_RXCTRL_DATA_WRO_EN | DCA_RXCTRL_DESC_WRO_EN), [true, true]);
});

test("without descriptors a frame is dropped and counted if the queue drops, and held in order if it does not", () => {
  const dropping = receivingGuest();
  dropping.receive.frame(plainFrame(60));
  assert.equal(dropping.receive.step(), false);
  assert.deepEqual([dropping.receive.counters.withoutDescriptors, dropping.receive.framesHeld], [1, 0]);

  const holding = receivingGuest({}, { drop: false });
  for (let i = 0; i < 3; i++) holding.receive.frame(plainFrame(60 + i, i));
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
  const guest = receivingGuest({}, { bufferKiB: 1, drop: false });
  guest.receive.frameBytesMax = 9728;
  guest.postMany(2, 1024);
  guest.receive.frame(plainFrame(3000));
  assert.equal(guest.receive.step(), false);
  guest.postMany(1, 1024);
  assert.equal(guest.run(guest.receive), 7);
});

test("a frame that its ring can never hold is dropped even by a queue that holds frames", () => {
  const guest = receivingGuest({}, { bufferKiB: 1, drop: false });
  guest.receive.frameBytesMax = 9728;
  guest.postMany(7, 1024);
  guest.receive.frame(plainFrame(8192));
  guest.receive.frame(plainFrame(100));
  guest.run(guest.receive);
  assert.equal(guest.receive.counters.withoutDescriptors, 1);
  assert.equal(writtenBack(guest.receiveDescriptor(0)).length, 100);
});

test("the packet buffer is bounded: what does not fit is dropped and counted", () => {
  const guest = receivingGuest({ receive: { packetBufferBytes: 4096 } }, { drop: false });
  let held = 0;
  for (let i = 0; i < 100; i++) if (guest.receive.frame(plainFrame(1000))) held++;
  assert.equal(held, 4);
  assert.deepEqual([guest.receive.framesHeld, guest.receive.counters.packetBufferFull], [4, 96]);
});

test("short frames are padded to 60 bytes with zeros, not with what the packet buffer held before", () => {
  const guest = receivingGuest();
  guest.postMany(7);
  guest.receive.frame(plainFrame(200, 0xff));
  guest.run(guest.receive);
  guest.receive.frame(plainFrame(14));
  guest.run(guest.receive);
  const padded = guest.bytes(BUFFERS_AT + 2048, 60);
  assert.deepEqual(padded.slice(0, 14), plainFrame(14));
  assert.ok(padded.slice(14).every((byte) => byte === 0));
  assert.equal(writtenBack(guest.receiveDescriptor(1)).length, 60);
});

test("frames up to the PF's limit pass and longer ones do not, with four bytes more for a tag", () => {
  const guest = receivingGuest({}, { descriptors: 64, bufferKiB: 16 });
  guest.postMany(40, 16_384);
  const tagged = (length: number): Uint8Array => {
    const frame = plainFrame(length);
    frame.set([0x81, 0x00], 12);
    return frame;
  };
  const accepts = (frame: Uint8Array): boolean => guest.receive.frame(frame);
  assert.deepEqual([plainFrame(1514), plainFrame(1515), tagged(1518), tagged(1519)].map(accepts), [
    true,
    false,
    true,
    false,
  ]);
  guest.receive.frameBytesMax = 9018;
  assert.deepEqual([plainFrame(9014), plainFrame(9015)].map(accepts), [true, false]);
  guest.receive.frameBytesMax = 1_000_000;
  assert.deepEqual([plainFrame(9724), plainFrame(9725), new Uint8Array(13)].map(accepts), [true, false, false]);
  assert.deepEqual([guest.receive.counters.oversized, guest.receive.counters.runts], [4, 1]);
});

test("with VME the tag leaves the frame and stands in the descriptor; without, the frame stays as it is", () => {
  const built = buildFrame({ version: 4, protocol: "tcp", payload: [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], vlan: 0x6123 });
  const untagged = Uint8Array.from([...built.bytes.slice(0, 12), ...built.bytes.slice(16)]);
  const receive = (control: number): { guest: DatapathGuest; done: ReturnType<typeof writtenBack> } => {
    const guest = receivingGuest({}, { control });
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
  const guest = receivingGuest();
  guest.postMany(7);
  for (const target of [
    [1, 0, 0x5e, 0, 0, 1],
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    [2, 0, 0, 0, 0, 1],
  ]) {
    const frame = plainFrame(60);
    frame.set(target);
    guest.receive.frame(frame);
  }
  guest.run(guest.receive);
  assert.deepEqual([guest.register(VFGPRC), guest.register(VFMPRC)], [3, 1]);
});

test("the octet counter carries into its upper half and wraps after 36 bits", () => {
  const guest = receivingGuest();
  guest.postMany(7);
  guest.setRegister(VFGORC_LSB, 0xffff_fff0);
  guest.setRegister(VFGORC_MSB, 0xf);
  guest.receive.frame(plainFrame(60));
  guest.run(guest.receive);
  assert.deepEqual([guest.register(VFGORC_LSB), guest.register(VFGORC_MSB)], [0x30, 0]);
});

test("at toy scale, with 64-byte pages and buffers, frames run over several descriptors and pages just the same", () => {
  const guest = receivingGuest({ pageBytes: 64, receive: { bufferUnitBytes: 64 } }, { bufferKiB: 1 });
  guest.postMany(7, 64);
  guest.receive.frame(plainFrame(150));
  assert.equal(guest.run(guest.receive), 7);
  assert.deepEqual(
    [0, 1, 2].map((slot) => writtenBack(guest.receiveDescriptor(slot)).length),
    [64, 64, 22],
  );
});
