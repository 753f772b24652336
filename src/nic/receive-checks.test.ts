import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FrameBytes } from "./checksum.ts";
import {
  PKTTYPE_IPV4,
  PKTTYPE_IPV4_OPTIONS,
  PKTTYPE_IPV6,
  PKTTYPE_IPV6_EXTENSIONS,
  PKTTYPE_SCTP,
  PKTTYPE_TCP,
  PKTTYPE_UDP,
  RXD_ERR_IPE,
  RXD_ERR_TCPE,
  RXD_STAT_IPCS,
  RXD_STAT_L4CS,
  RXD_STAT_UDPCS,
} from "./descriptors.ts";
import { buildFrame, type BuiltFrame, type FrameRecipe } from "./frames.fixture.ts";
import { PacketHeaders } from "./packet-headers.ts";
import { checksumStatus } from "./receive-checks.ts";

const room = 4096;
/** Anywhere in the packet buffer a frame may start, and with leftovers after it. */
function look(bytes: Uint8Array, offset = 64): { status: number; headers: PacketHeaders } {
  const frame = new FrameBytes(room);
  frame.bytes.fill(0xff);
  frame.bytes.set(bytes, offset);
  const headers = new PacketHeaders();
  headers.parse(frame, offset, bytes.length);
  return { status: checksumStatus(frame, headers) >>> 0, headers };
}

const recipeFields = {
  version: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom("tcp" as const, "udp" as const, "sctp" as const),
  payload: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 8, maxLength: 60, size: "max" }),
  extra: fc.integer({ min: 0, max: 3 }),
  tcpOptionWords: fc.integer({ min: 0, max: 3 }),
};
const recipe: fc.Arbitrary<FrameRecipe> = fc.record(recipeFields);
const recipeWithTag = fc.oneof(recipe, fc.record({ ...recipeFields, vlan: fc.constant(5) }));

const expectedGood = (r: FrameRecipe): number =>
  (r.version === 4 ? RXD_STAT_IPCS : 0) | RXD_STAT_L4CS | (r.protocol === "udp" ? RXD_STAT_UDPCS : 0);

test("a good frame has its checksums looked at and found right, tagged or not, padded or not, with options or not", () => {
  fc.assert(
    fc.property(recipeWithTag, fc.integer({ min: 0, max: 40 }), (r, padding) => {
      const bytes = Uint8Array.from([...buildFrame(r).bytes, ...Array.from({ length: padding }, () => 0x77)]);
      const { status, headers } = look(bytes);
      assert.equal(status, expectedGood(r));
      const ip = r.version === 4 ? PKTTYPE_IPV4 : PKTTYPE_IPV6;
      const options = r.version === 4 ? PKTTYPE_IPV4_OPTIONS : PKTTYPE_IPV6_EXTENSIONS;
      const l4 = { tcp: PKTTYPE_TCP, udp: PKTTYPE_UDP, sctp: PKTTYPE_SCTP }[r.protocol];
      assert.equal(headers.packetType, ip | ((r.extra ?? 0) > 0 ? options : 0) | l4);
    }),
    { numRuns: 300 },
  );
});

test("one flipped bit in the IPv4 header is IPE, in the layer 4 packet TCPE, in the Ethernet header neither", () => {
  fc.assert(
    fc.property(recipe, fc.nat(), fc.integer({ min: 0, max: 7 }), (r, where, bit) => {
      const built: BuiltFrame = buildFrame(r);
      const bytes = Uint8Array.from(built.bytes);
      const l4 = built.macBytes + built.ipBytes;
      const at = where % bytes.length;
      // Lengths, versions, fragments and protocol numbers decide what is looked at, not whether it is right.
      const ip = at - built.macBytes;
      const isAddress = r.version === 4 ? ip >= 12 && ip < 20 : ip >= 8 && ip < 40;
      const isTtl = r.version === 4 && (ip === 8 || ip === 10 || ip === 11);
      fc.pre(at >= l4 || isAddress || isTtl || at < 12);
      // A UDP checksum field that becomes zero means that there is none.
      fc.pre(!(r.protocol === "udp" && at >= l4 + 6 && at < l4 + 8));
      bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      const hasL4Error = at >= l4 || (isAddress && r.protocol !== "sctp");
      const hasIpError = at >= built.macBytes && at < l4 && r.version === 4;
      const errors = (hasL4Error ? RXD_ERR_TCPE : 0) | (hasIpError ? RXD_ERR_IPE : 0);
      assert.equal(look(bytes).status, (expectedGood(r) | errors) >>> 0);
    }),
    { numRuns: 600 },
  );
});

test("a UDP datagram without a checksum is neither checked nor found wrong", () => {
  const built = buildFrame({ version: 4, protocol: "udp", payload: [1, 2, 3] });
  const l4 = built.macBytes + built.ipBytes;
  built.bytes.set([0, 0], l4 + 6);
  assert.equal(look(built.bytes).status, RXD_STAT_IPCS);
});

test("of a fragment, or a datagram longer than its frame, only the IPv4 header is checked", () => {
  const built = buildFrame({ version: 4, protocol: "tcp", payload: [1, 2, 3] });
  const cut = built.bytes.slice(0, -1);
  assert.equal(look(cut).status, RXD_STAT_IPCS);
  assert.equal(look(cut).headers.packetType, PKTTYPE_IPV4);
  built.bytes[20] = 0x20;
  const { status, headers } = look(built.bytes);
  assert.equal(status, (RXD_STAT_IPCS | RXD_ERR_IPE) >>> 0);
  assert.equal(headers.l4Protocol, 0);
});

test("whatever the bytes, the headers found lie inside the frame", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 60, maxLength: 200, size: "max" }),
      fc.constantFrom([0x08, 0x00, 0x45], [0x86, 0xdd, 0x60], [0x81, 0x00, 0x00], [0x08, 0x00, 0x4f]),
      fc.constantFrom(0, 6, 17, 43, 60, 132),
      (bytes, start, protocol) => {
        bytes.set(start, 12);
        bytes[start[0] === 0x86 ? 20 : 23] = protocol;
        const offset = 128;
        const { headers } = look(bytes, offset);
        const end = offset + bytes.length;
        if (headers.ipVersion !== 0) assert.ok(headers.ipOffset >= offset && headers.ipOffset + 20 <= end);
        if (headers.ipVersion === 4) assert.ok(headers.ipOffset + headers.ipBytes <= end);
        if (headers.l4Protocol !== 0) assert.ok(headers.l4Offset + 8 <= headers.l4End && headers.l4End <= end);
      },
    ),
    { numRuns: 2000 },
  );
});
