import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  BUFFERS_AT,
  DatapathGuest,
  plainFrame,
  transmittingGuest,
  TX_EOP,
  TX_RS,
  txContext,
  txData,
  txDone,
} from "./datapath.fixture.ts";
import { buildFrame, type BuiltFrame, type FrameRecipe } from "./frames.fixture.ts";
import { VFGOTC_LSB, VFGPTC } from "./registers.ts";

const VLE = 0x4000_0000;
const TSE = 0x8000_0000;
const IXSM = 0x100;
const TXSM = 0x200;

function put(guest: DatapathGuest, bytes: Uint8Array, at = BUFFERS_AT): number {
  guest.memory.bytes().set(bytes, at);
  return at;
}

test("a frame is sent in one beat, completed in the next, and its cause comes last", () => {
  const guest = transmittingGuest();
  const frame = plainFrame(100);
  guest.send([txData(put(guest, frame), 100)]);

  assert.ok(guest.transmit.step());
  assert.deepEqual(guest.sent, [frame]);
  assert.equal(guest.transmitHead, 1);
  assert.notDeepEqual(guest.transmitDescriptor(0), txDone);
  assert.equal(guest.transmit.isAtFrameBoundary, false);

  assert.ok(guest.transmit.step());
  assert.deepEqual(guest.transmitDescriptor(0), txDone);
  assert.equal(guest.causes.length, 0);

  assert.ok(guest.transmit.step());
  assert.deepEqual(guest.causes, [{ queue: 0, direction: 1 }]);
  assert.equal(guest.transmit.step(), false);
  assert.equal(guest.transmit.isAtFrameBoundary, true);
  assert.deepEqual([guest.register(VFGPTC), guest.register(VFGOTC_LSB)], [1, 104]);
});

test("a frame is the bytes of its descriptors in order, however it is cut and wherever the pieces lie", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 6 }),
      fc.nat(7),
      (cuts, start) => {
        const guest = transmittingGuest({ descriptors: 8 });
        // Anywhere in the ring, so that frames wrap around its end.
        for (let i = 0; i < start; i++) {
          guest.send([txData(BUFFERS_AT, 60)]);
          guest.run(guest.transmit);
        }
        guest.sent.length = 0;
        const frame = plainFrame(Math.max(60, cuts.reduce((a, b) => a + b) + 14)).map((byte, i) => (i < 14 ? byte : i));
        const descriptors: number[][] = [];
        let at = 0;
        for (const [i, cut] of [...cuts, frame.length].entries()) {
          const piece = frame.slice(at, Math.min(frame.length, at + cut));
          const isLast = i === cuts.length;
          const address = put(guest, piece, BUFFERS_AT + i * 0x1003);
          descriptors.push(txData(address, piece.length, isLast ? TX_EOP | TX_RS : 0));
          at += piece.length;
        }
        guest.send(descriptors);
        guest.run(guest.transmit);
        assert.deepEqual(guest.sent, [frame]);
        assert.equal(guest.transmitHead, (start + descriptors.length) % 8);
        const isDone = (slot: number): boolean => guest.transmitDescriptor(slot).join() === txDone.join();
        assert.ok(isDone((start + descriptors.length - 1) % 8));
        for (let i = 0; i < descriptors.length - 1; i++) {
          assert.deepEqual(guest.transmitDescriptor((start + i) % 8), descriptors[i]);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("nothing of a frame is sent or read before its end is posted", () => {
  const guest = transmittingGuest();
  let reads = 0;
  const readBytes = guest.dma.readBytes.bind(guest.dma);
  guest.dma.readBytes = (...request) => {
    reads++;
    return readBytes(...request);
  };
  const frame = plainFrame(300);
  const at = put(guest, frame);
  for (let i = 0; i < 3; i++) {
    guest.send([txData(at + i * 100, 100, i === 2 ? TX_EOP | TX_RS : 0)]);
    assert.equal(guest.transmit.step(), i === 2);
    assert.equal(reads, i === 2 ? 3 : 0);
  }
  assert.deepEqual(guest.sent, [frame]);
});

test("a doorbell costs a look at the new descriptors only, however long the frame's end is in coming", () => {
  const guest = transmittingGuest({ descriptors: 4096 });
  let words = 0;
  const readWords = guest.dma.readWords.bind(guest.dma);
  guest.dma.readWords = (iova, target, count) => {
    words += count;
    return readWords(iova, target, count);
  };
  for (let tail = 1; tail < 4096; tail++) {
    guest.setTransmitTail(tail);
    guest.transmit.step();
  }
  assert.ok(words <= 4096 * 4, `${words} words`);
});

test("frames are padded to 60 bytes with zeros, not with what was sent before", () => {
  const guest = transmittingGuest();
  guest.send([txData(put(guest, plainFrame(200, 0xff)), 200)]);
  guest.run(guest.transmit);
  guest.send([txData(put(guest, plainFrame(20)), 20)]);
  guest.run(guest.transmit);
  const [, padded] = guest.sent;
  assert.deepEqual(padded, Uint8Array.from([...plainFrame(20), ...Array.from({ length: 40 }, () => 0)]));
});

const recipe: fc.Arbitrary<FrameRecipe> = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom("tcp" as const, "udp" as const, "sctp" as const),
  payload: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 8, maxLength: 90, size: "max" }),
  extra: fc.integer({ min: 0, max: 3 }),
  tcpOptionWords: fc.integer({ min: 0, max: 3 }),
});

const l4ChecksumAt = { tcp: 16, udp: 6, sctp: 8 } as const;

/** The frame as a driver hands it over: the pseudo header's sum in the checksum field, no IPv4 checksum. */
function unfinished(built: BuiltFrame, r: FrameRecipe, pseudoSum = built.pseudoSum): Uint8Array {
  const bytes = Uint8Array.from(built.bytes);
  const l4 = built.macBytes + built.ipBytes;
  if (r.version === 4) bytes.set([0, 0], built.macBytes + 10);
  const field = l4 + l4ChecksumAt[r.protocol];
  bytes.set(r.protocol === "sctp" ? [1, 2, 3, 4] : [pseudoSum >>> 8, pseudoSum & 0xff], field);
  return bytes;
}

test("checksums are inserted so that the frame is what the RFCs say", () => {
  fc.assert(
    fc.property(recipe, fc.integer({ min: 0, max: 1 }), (r, index) => {
      const guest = transmittingGuest();
      const built = buildFrame(r);
      const bytes = unfinished(built, r);
      const { ipBytes } = built;
      guest.send([
        txContext({ ipBytes, ipv4: r.version === 4, protocol: r.protocol, index }),
        txData(put(guest, bytes), bytes.length, TX_EOP | TX_RS, IXSM | TXSM | (index << 4)),
      ]);
      guest.run(guest.transmit);
      const padding = Array.from({ length: Math.max(0, 60 - built.bytes.length) }, () => 0);
      assert.deepEqual(guest.sent, [Uint8Array.from([...built.bytes, ...padding])]);
    }),
    { numRuns: 200 },
  );
});

test("only the checksums that POPTS asks for are touched", () => {
  const r: FrameRecipe = { version: 4, protocol: "tcp", payload: [1, 2, 3, 4, 5, 6, 7, 8] };
  const built = buildFrame(r);
  const bytes = unfinished(built, r);
  const send = (options: number): Uint8Array => {
    const guest = transmittingGuest();
    guest.send([
      txContext({ ipBytes: 20, ipv4: true }),
      txData(put(guest, bytes), bytes.length, TX_EOP | TX_RS, options),
    ]);
    guest.run(guest.transmit);
    return guest.sent[0] ?? new Uint8Array();
  };
  assert.deepEqual(send(0), bytes);
  assert.deepEqual(send(IXSM).slice(24, 26), built.bytes.slice(24, 26));
  assert.deepEqual(send(IXSM).slice(50, 52), bytes.slice(50, 52));
  assert.deepEqual(send(TXSM).slice(24, 26), bytes.slice(24, 26));
  assert.deepEqual(send(TXSM).slice(50, 52), built.bytes.slice(50, 52));
});

test("a UDP checksum that comes out as zero is sent as all ones", () => {
  const r: FrameRecipe = { version: 4, protocol: "udp", payload: [0, 0] };
  const l4 = 34;
  const sum = buildFrame(r).bytes.slice(l4 + 6, l4 + 8);
  const built = buildFrame({ ...r, payload: [...sum] });
  assert.deepEqual([...built.bytes.subarray(l4 + 6, l4 + 8)], [0xff, 0xff]);
  const bytes = unfinished(built, r);
  const guest = transmittingGuest();
  guest.send([
    txContext({ ipBytes: 20, ipv4: true, protocol: "udp" }),
    txData(put(guest, bytes), bytes.length, TX_EOP | TX_RS, TXSM),
  ]);
  guest.run(guest.transmit);
  assert.deepEqual([...(guest.sent[0] ?? new Uint8Array()).subarray(l4 + 6, l4 + 8)], [0xff, 0xff]);
});

test("VLE puts the tag of the context into the frame, after the checksums and before the padding", () => {
  const r: FrameRecipe = { version: 4, protocol: "udp", payload: [1, 2, 3] };
  const built = buildFrame(r);
  const bytes = unfinished(built, r);
  const guest = transmittingGuest();
  const fields = { ipBytes: 20, ipv4: true, protocol: "udp" as const, vlan: 0xa123 };
  guest.send([txContext(fields), txData(put(guest, bytes), bytes.length, TX_EOP | TX_RS | VLE, IXSM | TXSM)]);
  guest.run(guest.transmit);
  const expected = [...built.bytes.slice(0, 12), 0x81, 0x00, 0xa1, 0x23, ...built.bytes.slice(12)];
  while (expected.length < 60) expected.push(0);
  assert.deepEqual(guest.sent, [Uint8Array.from(expected)]);
  assert.equal(guest.register(VFGOTC_LSB), 64);
});

test("a context stays in its slot for later frames, in both slots, over a save and restore", () => {
  const guest = transmittingGuest({ descriptors: 32 });
  const frame = plainFrame(60);
  const at = put(guest, frame);
  guest.send([txContext({ vlan: 5, index: 0 }), txContext({ vlan: 6, index: 1 })]);
  guest.run(guest.transmit);
  guest.transmit.restore(structuredClone(guest.transmit.save()));
  for (const index of [0, 1, 0]) guest.send([txData(at, 60, TX_EOP | TX_RS | VLE, index << 4)]);
  guest.send([txContext({ vlan: 7, index: 0 }), txData(at, 60, TX_EOP | TX_RS | VLE)]);
  guest.run(guest.transmit);
  assert.deepEqual(
    guest.sent.map((sent) => sent[15]),
    [5, 6, 5, 7],
  );
});

test("a frame that needs a context nobody wrote is not sent, but completed and counted", () => {
  for (const [command, options] of [
    [VLE, 0],
    [0, TXSM],
    [0, IXSM],
    [TSE, TXSM],
  ] as const) {
    const guest = transmittingGuest();
    guest.send([txContext({ index: 1 }), txData(put(guest, plainFrame(100)), 100, TX_EOP | TX_RS | command, options)]);
    guest.run(guest.transmit);
    assert.deepEqual([guest.sent.length, guest.transmit.counters.withoutContext], [0, 1]);
    assert.deepEqual(guest.transmitDescriptor(1), txDone);
    assert.equal(guest.causes.length, 1);
  }
});

test("descriptors that make no frame are skipped, completed and counted, and the next frame is sent", () => {
  const bad: [string, number[][]][] = [
    ["a legacy descriptor", [[BUFFERS_AT, 0, TX_EOP | TX_RS | 100, 0]]],
    ["a reserved type", [[BUFFERS_AT, 0, 0x2050_0000 + (TX_EOP | TX_RS | 100), 0]]],
    ["a context inside a frame", [txData(BUFFERS_AT, 60, 0), txContext({}), txData(BUFFERS_AT, 60)]],
    ["13 bytes", [txData(BUFFERS_AT, 13)]],
    ["nothing", [txData(BUFFERS_AT, 0)]],
    ["9725 bytes", [txData(BUFFERS_AT, 9725)]],
    ["headers beyond the end", [txContext({ ipBytes: 60 }), txData(BUFFERS_AT, 60, TX_EOP | TX_RS, TXSM)]],
    [
      "an IPv4 header beyond the end",
      [txContext({ ipBytes: 60, ipv4: true }), txData(BUFFERS_AT, 60, TX_EOP | TX_RS, IXSM)],
    ],
    ["a reserved layer 4", [[14 << 9, 0, 0x2020_0000 | 0x1800, 0], txData(BUFFERS_AT, 60, TX_EOP | TX_RS, TXSM)]],
    [
      "an IPv4 header of 8 bytes",
      [txContext({ ipBytes: 8, ipv4: true }), txData(BUFFERS_AT, 60, TX_EOP | TX_RS, IXSM)],
    ],
    [
      "segments of 15 bytes",
      [
        txContext({ ipBytes: 20, l4Bytes: 20, mss: 15, ipv4: true }),
        txData(BUFFERS_AT, 200, TX_EOP | TX_RS | TSE, TXSM),
      ],
    ],
    [
      "segments of UDP",
      [
        txContext({ ipBytes: 20, l4Bytes: 20, mss: 100, protocol: "udp" }),
        txData(BUFFERS_AT, 200, TX_EOP | TX_RS | TSE, TXSM),
      ],
    ],
    [
      "segments longer than a frame",
      [
        txContext({ ipBytes: 20, l4Bytes: 20, mss: 9700, ipv4: true }),
        txData(BUFFERS_AT, 200, TX_EOP | TX_RS | TSE, TXSM),
      ],
    ],
    [
      "a large frame of over 256 KiB",
      Array.from({ length: 6 }, (_, i) => txData(0, 60_000, i === 5 ? TX_EOP | TX_RS : 0)),
    ],
  ];
  for (const [name, descriptors] of bad) {
    const guest = transmittingGuest({ descriptors: 32 });
    const next = plainFrame(77);
    guest.send([...descriptors, txData(put(guest, next), 77)]);
    guest.run(guest.transmit);
    assert.deepEqual(guest.sent, [next], name);
    assert.equal(guest.transmit.counters.malformed, 1, name);
    assert.deepEqual(guest.transmitDescriptor(descriptors.length - 1), txDone, name);
  }
});

test("a frame whose data cannot be read is completed without being sent", () => {
  const guest = transmittingGuest();
  guest.send([txData(BUFFERS_AT, 60, 0), txData(0xfee0_0000, 60), txData(put(guest, plainFrame(80)), 80)]);
  guest.run(guest.transmit);
  assert.deepEqual([guest.sent.length, guest.transmit.counters.dataFaults, guest.transmitHead], [1, 1, 3]);
  assert.deepEqual(guest.transmitDescriptor(1), txDone);
});
