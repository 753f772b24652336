import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { BUFFERS_AT, DatapathGuest } from "./datapath.fixture.ts";
import { buildFrame, type BuiltFrame, type FrameRecipe } from "./frames.fixture.ts";
import { VFGPTC } from "./registers.ts";

const FIN = 0x01;
const PSH = 0x08;
const CWR = 0x80;

interface Case {
  readonly recipe: FrameRecipe;
  readonly mss: number;
  readonly vlan: number | undefined;
}

/** A large frame as ixgbevf_tso leaves it: no lengths, no IPv4 checksum, a pseudo header without its length. */
function asDriverLeavesIt(built: BuiltFrame, { version }: FrameRecipe): Uint8Array {
  const bytes = Uint8Array.from(built.bytes);
  const ip = built.macBytes;
  bytes.set([0, 0], version === 4 ? ip + 2 : ip + 4);
  if (version === 4) bytes.set([0, 0], ip + 10);
  const sum = built.pseudoSumWithoutLength;
  bytes.set([sum >>> 8, sum & 0xff], ip + built.ipBytes + 16);
  return bytes;
}

/** The segments as frames that a stack would have built one by one, right in every checksum. */
function reference({ recipe, mss, vlan }: Case): Uint8Array[] {
  const { payload } = recipe;
  const segments: Uint8Array[] = [];
  for (let at = 0, index = 0; at < payload.length || index === 0; at += mss, index++) {
    const isLast = at + mss >= payload.length;
    let flags = recipe.tcpFlags ?? 0;
    if (index > 0) flags &= ~CWR;
    if (!isLast) flags &= ~(FIN | PSH);
    const built = buildFrame({
      ...recipe,
      ...(vlan === undefined ? {} : { vlan }),
      payload: payload.slice(at, at + mss),
      tcpFlags: flags,
      sequence: ((recipe.sequence ?? 0) + at) % 2 ** 32,
      identification: ((recipe.identification ?? 0) + index) % 0x1_0000,
    });
    const padding = Array.from({ length: Math.max(0, 60 - built.bytes.length) }, () => 0);
    segments.push(Uint8Array.from([...built.bytes, ...padding]));
  }
  return segments;
}

function segmentsSent({ recipe, mss, vlan }: Case, options = 0x300): { sent: Uint8Array[]; guest: DatapathGuest } {
  const guest = new DatapathGuest();
  guest.openTransmit(0, { descriptors: 16 });
  const built = buildFrame(recipe);
  const bytes = asDriverLeavesIt(built, recipe);
  guest.memory.bytes().set(bytes, BUFFERS_AT);
  const isIpv4 = recipe.version === 4;
  const context = [
    (((vlan ?? 0) << 16) | (built.macBytes << 9) | built.ipBytes) >>> 0,
    0,
    0x2020_0000 | 0x800 | (isIpv4 ? 0x400 : 0),
    ((mss << 16) | (built.l4Bytes << 8) | 0x10) >>> 0,
  ];
  const command = (0x2030_0000 | 0x8000_0000 | (vlan === undefined ? 0 : 0x4000_0000)) >>> 0;
  // Header and payload apart, as the stack's skb has them; the payload length in PAYLEN.
  const header = built.macBytes + built.ipBytes + built.l4Bytes;
  const olinfo = ((recipe.payload.length << 14) | options | 0x10) >>> 0;
  guest.send([
    context,
    [BUFFERS_AT, 0, (command | header) >>> 0, olinfo],
    [BUFFERS_AT + header, 0, (command | 0x0900_0000 | (bytes.length - header)) >>> 0, 0],
  ]);
  guest.run(guest.transmit);
  return { sent: guest.sent, guest };
}

const payloads = fc
  .tuple(fc.integer({ min: 0, max: 700 }), fc.nat(255))
  .map(([length, step]) => Array.from({ length }, (_, i) => (i * step) & 0xff));

const cases: fc.Arbitrary<Case> = fc.record({
  recipe: fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    protocol: fc.constant("tcp" as const),
    payload: payloads,
    extra: fc.integer({ min: 0, max: 2 }),
    tcpOptionWords: fc.integer({ min: 0, max: 4 }),
    tcpFlags: fc.integer({ min: 0, max: 255 }),
    sequence: fc.oneof(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.constant(2 ** 32 - 5)),
    identification: fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.constant(0xffff)),
  }),
  mss: fc.integer({ min: 16, max: 300 }),
  vlan: fc.option(fc.integer({ min: 0, max: 0xffff }), { nil: undefined }),
});

test("a large frame leaves as exactly the frames that a stack without offload would have sent", () => {
  fc.assert(
    fc.property(cases, (large) => {
      const expected = reference(large);
      const { sent, guest } = segmentsSent(large);
      assert.deepEqual(sent, expected);
      assert.equal(guest.register(VFGPTC), expected.length);
      assert.deepEqual(guest.transmitDescriptor(2), [0, 0, 0, 1]);
    }),
    { numRuns: 150 },
  );
});

test("64 KiB of payload leave as 45 segments of 1448 bytes and a rest", () => {
  const payload = Array.from({ length: 65_536 }, (_, i) => (i * 7) & 0xff);
  const recipe: FrameRecipe = { version: 4, protocol: "tcp", payload, tcpOptionWords: 3, tcpFlags: 0x18 };
  const guest = new DatapathGuest();
  guest.openTransmit(0, { descriptors: 16 });
  const built = buildFrame({ ...recipe, payload: [] });
  guest.memory.bytes().set([...asDriverLeavesIt(built, recipe), ...payload], BUFFERS_AT);
  guest.send([
    [(14 << 9) | 20, 0, 0x2020_0c00, (1448 << 16) | (32 << 8) | 0x10],
    [BUFFERS_AT, 0, 0xa030_0000 + 66, 0x310],
    [BUFFERS_AT + 66, 0, 0xa030_0000 + 16_384, 0],
    [BUFFERS_AT + 66 + 16_384, 0, 0xa030_0000 + 49_152 + 0x0900_0000, 0],
  ]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 46);
  const received = guest.sent.flatMap((frame) => [...frame.subarray(66)]);
  assert.deepEqual(received, payload);
  assert.deepEqual(
    guest.sent.map((frame) => frame[47]),
    [...Array.from({ length: 45 }, () => 0x10), 0x18],
  );
});

test("checksums that POPTS does not ask for stay as the driver left them", () => {
  const recipe: FrameRecipe = { version: 4, protocol: "tcp", payload: [1, 2, 3, 4] };
  const { sent } = segmentsSent({ recipe, mss: 100, vlan: undefined }, 0);
  const { pseudoSumWithoutLength } = buildFrame(recipe);
  assert.deepEqual([...(sent[0] ?? new Uint8Array()).subarray(24, 26)], [0, 0]);
  assert.deepEqual(
    [...(sent[0] ?? new Uint8Array()).subarray(50, 52)],
    [pseudoSumWithoutLength >>> 8, pseudoSumWithoutLength & 0xff],
  );
});

test("a tunnel header that the driver folded into the IP length is carried over, its checksum still right", () => {
  // GSO_PARTIAL: the outer IPv4 header, then UDP and inner headers up to TCP, all inside IPLEN (ixgbevf_tso).
  const inner = buildFrame({ version: 4, protocol: "tcp", payload: Array.from({ length: 300 }, (_, i) => i & 0xff) });
  const tunnel = Array.from({ length: 16 }, (_, i) => i * 11);
  const outer = [0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
  const innerIpAndAll = [...asDriverLeavesIt(inner, { version: 4, protocol: "tcp", payload: [] })].slice(14);
  const between = [...tunnel, ...innerIpAndAll.slice(0, 20)];
  let sum = 0;
  for (let i = 0; i < between.length; i += 2) sum += (between[i] ?? 0) * 256 + (between[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  outer.splice(10, 2, (0xffff - sum) >>> 8, (0xffff - sum) & 0xff);
  const frame = [...inner.bytes.slice(0, 14), ...outer, ...between, ...innerIpAndAll.slice(20)];
  const ipBytes = 20 + between.length;
  const guest = new DatapathGuest();
  guest.openTransmit(0, { descriptors: 16 });
  guest.memory.bytes().set(frame, BUFFERS_AT);
  guest.send([
    [(14 << 9) | ipBytes, 0, 0x2020_0c00, (100 << 16) | (20 << 8) | 0x10],
    [BUFFERS_AT, 0, 0xa930_0000 + frame.length, 0x310],
  ]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 3);
  for (const [index, sent] of guest.sent.entries()) {
    const header = [...sent.subarray(14, 34)];
    let headerSum = 0;
    for (let i = 0; i < 20; i += 2) headerSum += (header[i] ?? 0) * 256 + (header[i + 1] ?? 0);
    while (headerSum > 0xffff) headerSum = (headerSum & 0xffff) + (headerSum >>> 16);
    assert.equal(headerSum, 0xffff);
    assert.deepEqual([...sent.subarray(16, 18)], [0, ipBytes + 20 + 100]);
    assert.deepEqual([...sent.subarray(18, 20)], [0, 9 + index]);
    assert.deepEqual([...sent.subarray(34, 34 + between.length)], between);
  }
});
