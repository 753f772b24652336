import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaPurpose, tagIndex, tagPurpose, tagRelaxedOrdering } from "../iommu/dma-port.ts";
import { BUFFERS_AT, DatapathGuest, transmitRingAt } from "./datapath.fixture.ts";
import { buildFrame, type BuiltFrame, type FrameRecipe, type ProtocolName } from "./frames.fixture.ts";
import { DCA_TXCTRL_DESC_WRO_EN, VFDCA_TXCTRL, VFGOTC_LSB, VFGPTC, VFTDBAL, VFTDWBAL, VFTXDCTL } from "./registers.ts";

const DATA = 0x2030_0000;
const CONTEXT = 0x2020_0000;
const EOP = 0x0100_0000;
const RS = 0x0800_0000;
const VLE = 0x4000_0000;
const TSE = 0x8000_0000;
const IXSM = 0x100;
const TXSM = 0x200;
const L4T: Record<ProtocolName, number> = { tcp: 0x800, udp: 0, sctp: 0x1000 };
const done = [0, 0, 0, 1];

const data = (address: number, length: number, command = EOP | RS, options = 0): number[] => [
  address % 2 ** 32,
  Math.floor(address / 2 ** 32),
  (DATA | command | length) >>> 0,
  options,
];

interface ContextFields {
  macBytes?: number;
  ipBytes?: number;
  l4Bytes?: number;
  mss?: number;
  vlan?: number;
  ipv4?: boolean;
  protocol?: ProtocolName;
  index?: number;
}
const context = (fields: ContextFields): number[] => [
  (((fields.vlan ?? 0) << 16) | ((fields.macBytes ?? 14) << 9) | (fields.ipBytes ?? 0)) >>> 0,
  0,
  CONTEXT | ((fields.ipv4 ?? false) ? 0x400 : 0) | L4T[fields.protocol ?? "tcp"],
  (((fields.mss ?? 0) << 16) | ((fields.l4Bytes ?? 0) << 8) | ((fields.index ?? 0) << 4)) >>> 0,
];

const plain = (length: number, fill = 0x5a): Uint8Array => {
  const bytes = new Uint8Array(length).fill(fill);
  bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return bytes;
};

function open(setup: Parameters<DatapathGuest["openTransmit"]>[1] = {}, queuePairs = 1): DatapathGuest {
  const guest = new DatapathGuest({ queuePairs });
  for (let queue = 0; queue < queuePairs; queue++) guest.openTransmit(queue, setup);
  return guest;
}

function put(guest: DatapathGuest, bytes: Uint8Array, at = BUFFERS_AT): number {
  guest.memory.bytes().set(bytes, at);
  return at;
}

test("a frame is sent in one beat, completed in the next, and its cause comes last", () => {
  const guest = open();
  const frame = plain(100);
  guest.send([data(put(guest, frame), 100)]);

  assert.ok(guest.transmit.step());
  assert.deepEqual(guest.sent, [frame]);
  assert.equal(guest.transmitHead, 1);
  assert.notDeepEqual(guest.transmitDescriptor(0), done);
  assert.equal(guest.transmit.isAtFrameBoundary, false);

  assert.ok(guest.transmit.step());
  assert.deepEqual(guest.transmitDescriptor(0), done);
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
        const guest = open({ descriptors: 8 });
        // Anywhere in the ring, so that frames wrap around its end.
        for (let i = 0; i < start; i++) {
          guest.send([data(BUFFERS_AT, 60)]);
          guest.run(guest.transmit);
        }
        guest.sent.length = 0;
        const frame = plain(Math.max(60, cuts.reduce((a, b) => a + b) + 14)).map((byte, i) => (i < 14 ? byte : i));
        const descriptors: number[][] = [];
        let at = 0;
        for (const [i, cut] of [...cuts, frame.length].entries()) {
          const piece = frame.slice(at, Math.min(frame.length, at + cut));
          const isLast = i === cuts.length;
          const address = put(guest, piece, BUFFERS_AT + i * 0x1003);
          descriptors.push(data(address, piece.length, isLast ? EOP | RS : 0));
          at += piece.length;
        }
        guest.send(descriptors);
        guest.run(guest.transmit);
        assert.deepEqual(guest.sent, [frame]);
        assert.equal(guest.transmitHead, (start + descriptors.length) % 8);
        const isDone = (slot: number): boolean => guest.transmitDescriptor(slot).join() === done.join();
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
  const guest = open();
  let reads = 0;
  const readBytes = guest.dma.readBytes.bind(guest.dma);
  guest.dma.readBytes = (...request) => {
    reads++;
    return readBytes(...request);
  };
  const frame = plain(300);
  const at = put(guest, frame);
  for (let i = 0; i < 3; i++) {
    guest.send([data(at + i * 100, 100, i === 2 ? EOP | RS : 0)]);
    assert.equal(guest.transmit.step(), i === 2);
    assert.equal(reads, i === 2 ? 3 : 0);
  }
  assert.deepEqual(guest.sent, [frame]);
});

test("a doorbell costs a look at the new descriptors only, however long the frame's end is in coming", () => {
  const guest = open({ descriptors: 4096 });
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
  const guest = open();
  guest.send([data(put(guest, plain(200, 0xff)), 200)]);
  guest.run(guest.transmit);
  guest.send([data(put(guest, plain(20)), 20)]);
  guest.run(guest.transmit);
  const [, padded] = guest.sent;
  assert.deepEqual(padded, Uint8Array.from([...plain(20), ...Array.from({ length: 40 }, () => 0)]));
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
      const guest = open();
      const built = buildFrame(r);
      const bytes = unfinished(built, r);
      const { ipBytes } = built;
      guest.send([
        context({ ipBytes, ipv4: r.version === 4, protocol: r.protocol, index }),
        data(put(guest, bytes), bytes.length, EOP | RS, IXSM | TXSM | (index << 4)),
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
    const guest = open();
    guest.send([context({ ipBytes: 20, ipv4: true }), data(put(guest, bytes), bytes.length, EOP | RS, options)]);
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
  const guest = open();
  guest.send([
    context({ ipBytes: 20, ipv4: true, protocol: "udp" }),
    data(put(guest, bytes), bytes.length, EOP | RS, TXSM),
  ]);
  guest.run(guest.transmit);
  assert.deepEqual([...(guest.sent[0] ?? new Uint8Array()).subarray(l4 + 6, l4 + 8)], [0xff, 0xff]);
});

test("VLE puts the tag of the context into the frame, after the checksums and before the padding", () => {
  const r: FrameRecipe = { version: 4, protocol: "udp", payload: [1, 2, 3] };
  const built = buildFrame(r);
  const bytes = unfinished(built, r);
  const guest = open();
  const fields = { ipBytes: 20, ipv4: true, protocol: "udp" as const, vlan: 0xa123 };
  guest.send([context(fields), data(put(guest, bytes), bytes.length, EOP | RS | VLE, IXSM | TXSM)]);
  guest.run(guest.transmit);
  const expected = [...built.bytes.slice(0, 12), 0x81, 0x00, 0xa1, 0x23, ...built.bytes.slice(12)];
  while (expected.length < 60) expected.push(0);
  assert.deepEqual(guest.sent, [Uint8Array.from(expected)]);
  assert.equal(guest.register(VFGOTC_LSB), 64);
});

test("a context stays in its slot for later frames, in both slots, over a save and restore", () => {
  const guest = open({ descriptors: 32 });
  const frame = plain(60);
  const at = put(guest, frame);
  guest.send([context({ vlan: 5, index: 0 }), context({ vlan: 6, index: 1 })]);
  guest.run(guest.transmit);
  guest.transmit.restore(structuredClone(guest.transmit.save()));
  for (const index of [0, 1, 0]) guest.send([data(at, 60, EOP | RS | VLE, index << 4)]);
  guest.send([context({ vlan: 7, index: 0 }), data(at, 60, EOP | RS | VLE)]);
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
    const guest = open();
    guest.send([context({ index: 1 }), data(put(guest, plain(100)), 100, EOP | RS | command, options)]);
    guest.run(guest.transmit);
    assert.deepEqual([guest.sent.length, guest.transmit.counters.withoutContext], [0, 1]);
    assert.deepEqual(guest.transmitDescriptor(1), done);
    assert.equal(guest.causes.length, 1);
  }
});

test("descriptors that make no frame are skipped, completed and counted, and the next frame is sent", () => {
  const bad: [string, number[][]][] = [
    ["a legacy descriptor", [[BUFFERS_AT, 0, EOP | RS | 100, 0]]],
    ["a reserved type", [[BUFFERS_AT, 0, 0x2050_0000 + (EOP | RS | 100), 0]]],
    ["a context inside a frame", [data(BUFFERS_AT, 60, 0), context({}), data(BUFFERS_AT, 60)]],
    ["13 bytes", [data(BUFFERS_AT, 13)]],
    ["nothing", [data(BUFFERS_AT, 0)]],
    ["9725 bytes", [data(BUFFERS_AT, 9725)]],
    ["headers beyond the end", [context({ ipBytes: 60 }), data(BUFFERS_AT, 60, EOP | RS, TXSM)]],
    ["an IPv4 header beyond the end", [context({ ipBytes: 60, ipv4: true }), data(BUFFERS_AT, 60, EOP | RS, IXSM)]],
    ["a reserved layer 4", [[14 << 9, 0, CONTEXT | 0x1800, 0], data(BUFFERS_AT, 60, EOP | RS, TXSM)]],
    ["an IPv4 header of 8 bytes", [context({ ipBytes: 8, ipv4: true }), data(BUFFERS_AT, 60, EOP | RS, IXSM)]],
    [
      "segments of 15 bytes",
      [context({ ipBytes: 20, l4Bytes: 20, mss: 15, ipv4: true }), data(BUFFERS_AT, 200, EOP | RS | TSE, TXSM)],
    ],
    [
      "segments of UDP",
      [context({ ipBytes: 20, l4Bytes: 20, mss: 100, protocol: "udp" }), data(BUFFERS_AT, 200, EOP | RS | TSE, TXSM)],
    ],
    [
      "segments longer than a frame",
      [context({ ipBytes: 20, l4Bytes: 20, mss: 9700, ipv4: true }), data(BUFFERS_AT, 200, EOP | RS | TSE, TXSM)],
    ],
    ["a large frame of over 256 KiB", Array.from({ length: 6 }, (_, i) => data(0, 60_000, i === 5 ? EOP | RS : 0))],
  ];
  for (const [name, descriptors] of bad) {
    const guest = open({ descriptors: 32 });
    const next = plain(77);
    guest.send([...descriptors, data(put(guest, next), 77)]);
    guest.run(guest.transmit);
    assert.deepEqual(guest.sent, [next], name);
    assert.equal(guest.transmit.counters.malformed, 1, name);
    assert.deepEqual(guest.transmitDescriptor(descriptors.length - 1), done, name);
  }
});

test("a frame whose data cannot be read is completed without being sent", () => {
  const guest = open();
  guest.send([data(BUFFERS_AT, 60, 0), data(0xfee0_0000, 60), data(put(guest, plain(80)), 80)]);
  guest.run(guest.transmit);
  assert.deepEqual([guest.sent.length, guest.transmit.counters.dataFaults, guest.transmitHead], [1, 1, 3]);
  assert.deepEqual(guest.transmitDescriptor(1), done);
});

test("a ring that cannot be reached stops its queue, and only it, until it is disabled", () => {
  const guest = open({}, 2);
  guest.setRegister(VFTDBAL(0), 0x1000_0000);
  guest.transmit.queueChanged(0);
  guest.setTransmitTail(3);
  guest.send([data(put(guest, plain(60)), 60)], 1);
  guest.run(guest.transmit);
  assert.deepEqual(
    [0, 1].map((queue) => guest.transmit.ring(queue).condition),
    ["dma-fault", "ready"],
  );
  assert.deepEqual([guest.sent.length, guest.transmit.counters.descriptorFaults], [1, 1]);
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  guest.openTransmit(0);
  guest.send([data(BUFFERS_AT, 60)]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 2);
});

test("completions wait for WTHRESH while there is more to send, and no longer", () => {
  const trace = (threshold: number, flushAfter = -1): string => {
    const guest = open({ descriptors: 64, control: threshold << 16 });
    const at = put(guest, plain(60));
    guest.send(Array.from({ length: 10 }, () => data(at, 60)));
    let events = "";
    guest.dma.addObserver({ after: () => void (events += "d") });
    for (let step = 0; ; step++) {
      const before = guest.sent.length;
      if (!guest.transmit.step()) return events;
      if (guest.sent.length === before) continue;
      events += "s";
      if (guest.sent.length === flushAfter) guest.transmit.flush(0);
    }
  };
  assert.equal(trace(0), "sd".repeat(10));
  assert.equal(trace(4), "ssssddddssssddddssdd");
  assert.equal(trace(127), `${"s".repeat(10)}${"d".repeat(10)}`);
  assert.equal(trace(8, 3), "sssdddsssssssddddddd");
});

test("head write-back puts VFTDH as a word where VFTDWBAL says, instead of DD", () => {
  const guest = new DatapathGuest();
  guest.setRegister(VFTDWBAL(0), 0x8004 | 1);
  guest.openTransmit(0, { descriptors: 16 });
  const tags: number[] = [];
  guest.dma.addObserver({ after: (...write) => void tags.push(...write) });
  const at = put(guest, plain(60));
  guest.send([context({}), data(at, 60), data(at, 60)]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 2);
  const writes = Array.from({ length: tags.length / 3 }, (_, i) => tags.slice(i * 3, i * 3 + 3));
  const expected = writes.map(([address, length, tag = 0]) => [address, length, tagPurpose(tag), tagIndex(tag)]);
  assert.deepEqual(expected, [
    [0x8004, 4, DmaPurpose.txHeadWriteBack, 2],
    [0x8004, 4, DmaPurpose.txHeadWriteBack, 3],
  ]);
  assert.equal(guest.bytes(0x8004, 1)[0], 3);
  assert.notDeepEqual(guest.transmitDescriptor(2), done);
  assert.equal(guest.causes.length, 2);
});

test("write-backs carry the relaxed-ordering bit that VFDCA_TXCTRL asks for, on after a reset", () => {
  for (const [control, expected] of [
    [undefined, true],
    [0, false],
    [DCA_TXCTRL_DESC_WRO_EN, true],
  ] as const) {
    const guest = new DatapathGuest();
    if (control !== undefined) guest.setRegister(VFDCA_TXCTRL(0), control);
    guest.openTransmit();
    const seen: number[] = [];
    guest.dma.addObserver({ after: (address, _length, tag) => void seen.push(address, tag) });
    guest.send([data(put(guest, plain(60)), 60)]);
    guest.run(guest.transmit);
    const [address, tag = 0] = seen;
    assert.deepEqual(
      [address, tagRelaxedOrdering(tag), tagPurpose(tag)],
      [transmitRingAt(0), expected, DmaPurpose.txWriteBack],
    );
  }
});

test("queues take turns, a frame each", () => {
  const guest = open({ descriptors: 32 }, 3);
  for (const queue of [0, 1, 2]) {
    const at = put(guest, plain(60, queue), BUFFERS_AT + queue * 64);
    guest.send(
      Array.from({ length: 4 + queue }, () => data(at, 60, EOP)),
      queue,
    );
  }
  guest.run(guest.transmit);
  assert.equal(guest.sent.map((frame) => frame[14]).join(""), "012012012012122");
});

test("restored between any two beats, every frame is sent once and every RS descriptor gets its DD and its cause", () => {
  for (const threshold of [0, 4]) {
    for (let beats = 0; beats < 16; beats++) {
      const guest = open({ descriptors: 16, control: threshold << 16 });
      const at = put(guest, plain(60));
      guest.send([data(at, 60), data(at, 30, 0), data(at, 30), data(at, 60, EOP), data(at, 60), data(at, 60)]);
      for (let i = 0; i < beats; i++) guest.transmit.step();
      const state = structuredClone(guest.transmit.save());
      const causes = guest.causes.length;
      const isDone = (slot: number): boolean => guest.transmitDescriptor(slot).join() === done.join();
      const wasAllDone = [0, 2, 4, 5].every(isDone);
      guest.transmit.restore(state);
      assert.deepEqual(guest.transmit.save(), state, `after ${beats} beats`);
      guest.run(guest.transmit);
      assert.equal(guest.sent.length, 5, `after ${beats} beats`);
      assert.deepEqual([0, 1, 2, 3, 4, 5].filter(isDone), [0, 2, 4, 5], `after ${beats} beats`);
      const isCauseDue = !wasAllDone || (state.queues[0]?.causePending ?? false);
      assert.equal(guest.causes.length > causes, isCauseDue, `after ${beats} beats`);
    }
  }
});

test("stopped, the unit sends nothing more and reports all that it sent", () => {
  const guest = open({ descriptors: 32, control: 16 << 16 });
  const at = put(guest, plain(60));
  guest.send(Array.from({ length: 6 }, () => data(at, 60)));
  guest.transmit.step();
  guest.transmit.step();
  guest.transmit.stop();
  assert.equal(guest.transmit.isAtFrameBoundary, false);
  guest.run(guest.transmit);
  assert.equal(guest.transmit.isAtFrameBoundary, true);
  assert.deepEqual([guest.sent.length, guest.transmitHead], [2, 2]);
  assert.deepEqual(
    [0, 1, 2].map((slot) => guest.transmitDescriptor(slot)[3]),
    [1, 1, 0],
  );
  guest.transmit.start();
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 6);
});

test("a frame left unfinished by a queue that was disabled is not searched for in its next life", () => {
  const guest = open();
  const at = put(guest, plain(60));
  guest.send([data(at, 20, 0), data(at, 20, 0), data(at, 20, 0)]);
  assert.equal(guest.transmit.step(), false);
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  guest.openTransmit();
  guest.send([data(at, 60)]);
  guest.run(guest.transmit);
  assert.deepEqual(guest.sent, [plain(60)]);
});

test("descriptors fetched from a ring are not used in the ring that replaces it", () => {
  const guest = open();
  const at = put(guest, plain(60));
  guest.send([data(at, 60), data(at, 60)]);
  guest.transmit.step();
  const other = put(guest, plain(61), at + 4096);
  guest.memory.words().set(data(other, 61), (transmitRingAt(3) + 16) / 4);
  guest.setRegister(VFTDBAL(0), transmitRingAt(3));
  guest.transmit.queueChanged(0);
  guest.run(guest.transmit);
  assert.deepEqual(guest.sent, [plain(60), plain(61)]);
});

test("a queue disabled with completions owed writes none of them into memory that may be freed", () => {
  const guest = open();
  guest.send([data(put(guest, plain(60)), 60)]);
  guest.transmit.step();
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  const before = Uint8Array.from(guest.memory.bytes());
  assert.equal(guest.transmit.step(), false);
  assert.deepEqual(guest.memory.bytes(), before);
  guest.openTransmit();
  assert.equal(guest.transmitHead, 0);
  assert.equal(guest.transmit.step(), false);
});
