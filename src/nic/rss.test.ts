import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameBytes } from "./checksum.ts";
import { RssType } from "./descriptors.ts";
import { buildFrame, type FrameRecipe } from "./frames.fixture.ts";
import { PacketHeaders } from "./packet-headers.ts";
import { REGISTER_COUNT, VFMRQC, VFPSRTYPE, VFRETA, VFRSSRK } from "./registers.ts";
import { Rss } from "./rss.ts";

/** Microsoft, "Verifying the RSS Hash Calculation": the key and the vectors. */
const key = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa";
const vectors4 = [
  ["66.9.149.187", 2794, "161.142.100.80", 1766, 0x323e_8fc2, 0x51cc_c178],
  ["199.92.111.2", 14_230, "65.69.140.83", 4739, 0xd718_262a, 0xc626_b0ea],
  ["24.19.198.95", 12_898, "12.22.207.184", 38_024, 0xd2d0_a5de, 0x5c2b_394a],
  ["38.27.205.30", 48_228, "209.142.163.6", 2217, 0x8298_9176, 0xafc7_327f],
  ["153.39.163.191", 44_251, "202.188.127.2", 1303, 0x5d18_09c5, 0x10e8_28a2],
] as const;
const vectors6 = [
  ["3ffe25010200 1fff 0000000000000007", 2794, "3ffe25010200 0003 0000000000000001", 1766, 0x2cc1_8cd5, 0x4020_7d3d],
  ["3ffe05010008 0000 026097fffe40efab", 14_230, "ff0200000000 0000 0000000000000001", 4739, 0x0f0c_461c, 0xdde5_1bbf],
  [
    "3ffe19004545 0003 0200f8fffe2167cf",
    44_251,
    "fe8000000000 0000 0200f8fffe2167cf",
    38_024,
    0x4b61_e985,
    0x02d1_feef,
  ],
] as const;

const fields = { ipv4Tcp: 1 << 16, ipv4: 1 << 17, ipv6: 1 << 20, ipv6Tcp: 1 << 21, ipv4Udp: 1 << 22, ipv6Udp: 1 << 23 };
const allFields = Object.values(fields).reduce((a, b) => a | b);

const dotted = (text: string): number[] => text.split(".").map(Number);
const hex = (text: string): number[] => [...Buffer.from(text.replaceAll(" ", ""), "hex")];

function makeRss(mrqc: number): { rss: Rss; registers: Uint32Array } {
  const registers = new Uint32Array(REGISTER_COUNT);
  const bytes = Buffer.from(key, "hex");
  for (let i = 0; i < 10; i++) registers[VFRSSRK(i) >>> 2] = bytes.readUInt32LE(i * 4);
  for (let entry = 0; entry < 64; entry++) {
    registers[VFRETA(entry >>> 2) >>> 2] =
      (registers[VFRETA(entry >>> 2) >>> 2] ?? 0) | (((entry + 5) % 8) << (8 * (entry % 4)));
  }
  registers[VFMRQC >>> 2] = mrqc;
  registers[VFPSRTYPE >>> 2] = (3 << 29) >>> 0;
  return { rss: new Rss(registers), registers };
}

function classify(rss: Rss, bytes: Uint8Array): { queue: number; hash: number; type: RssType } {
  const frame = new FrameBytes(2048);
  frame.bytes.set(bytes);
  const headers = new PacketHeaders();
  headers.parse(frame, 0, bytes.length);
  return { queue: rss.classify(frame, headers), hash: rss.hash, type: rss.type };
}

const recipe = (version: 4 | 6, vector: readonly [string, number, string, number, number, number]): FrameRecipe => {
  const parse = version === 4 ? dotted : hex;
  const [source, sourcePort, target, targetPort] = vector;
  const ports: [number, number] = [sourcePort, targetPort];
  return { version, protocol: "tcp", payload: [], source: parse(source), target: parse(target), ports };
};

test("the hash over addresses and ports is that of Microsoft's published vectors", () => {
  const { rss } = makeRss(1 | allFields);
  for (const vector of vectors4) {
    const { hash, type } = classify(rss, buildFrame(recipe(4, vector)).bytes);
    assert.deepEqual([hash, type], [vector[5], RssType.ipv4Tcp]);
  }
  for (const vector of vectors6) {
    const { hash, type } = classify(rss, buildFrame(recipe(6, vector)).bytes);
    assert.deepEqual([hash, type], [vector[5], RssType.ipv6Tcp]);
  }
});

test("the hash over addresses alone is that of Microsoft's published vectors", () => {
  const { rss } = makeRss(1 | fields.ipv4 | fields.ipv6);
  for (const [version, list] of [
    [4, vectors4],
    [6, vectors6],
  ] as const) {
    for (const vector of list) {
      const { hash, type } = classify(rss, buildFrame(recipe(version, vector)).bytes);
      assert.deepEqual([hash, type], [vector[4], version === 4 ? RssType.ipv4 : RssType.ipv6]);
    }
  }
});

test("UDP is hashed with its ports only where the UDP field is set", () => {
  const udp = buildFrame({ ...recipe(4, vectors4[0]), protocol: "udp" }).bytes;
  assert.equal(classify(makeRss(1 | allFields).rss, udp).type, RssType.ipv4Udp);
  assert.equal(classify(makeRss(1 | allFields).rss, udp).hash, vectors4[0][5]);
  assert.equal(classify(makeRss(1 | fields.ipv4 | fields.ipv4Tcp).rss, udp).hash, vectors4[0][4]);
});

test("the low bits of the hash name an entry of the table, cut to the bits that PSRTYPE allows", () => {
  const { rss, registers } = makeRss(1 | allFields);
  const { bytes } = buildFrame(recipe(4, vectors4[0]));
  const entry = 0x78 & 0x3f;
  assert.equal(classify(rss, bytes).queue, 5);
  assert.equal((entry + 5) % 8, 5);
  for (let bits = 0; bits < 4; bits++) {
    registers[VFPSRTYPE >>> 2] = (bits << 29) >>> 0;
    assert.equal(classify(rss, bytes).queue, 5 & ((1 << bits) - 1));
  }
});

test("with RSS off, and for what is not IP, there is no hash and the queue is 0", () => {
  const { bytes } = buildFrame(recipe(4, vectors4[0]));
  assert.deepEqual(classify(makeRss(allFields).rss, bytes), { queue: 0, hash: 0, type: RssType.none });
  const arp = Uint8Array.from(bytes);
  arp.set([0x08, 0x06], 12);
  assert.deepEqual(classify(makeRss(1 | allFields).rss, arp), { queue: 0, hash: 0, type: RssType.none });
});

test("all fragments of a datagram go by its addresses alone, so that they meet in one queue", () => {
  const { rss } = makeRss(1 | allFields);
  const { bytes } = buildFrame(recipe(4, vectors4[0]));
  for (const fragment of [
    [0x20, 0x00],
    [0x00, 0x10],
  ]) {
    bytes.set(fragment, 20);
    const { hash, type } = classify(rss, bytes);
    assert.deepEqual([hash, type], [vectors4[0][4], RssType.ipv4]);
  }
});

test("a new key takes effect when the unit is told", () => {
  const { rss, registers } = makeRss(1 | allFields);
  const { bytes } = buildFrame(recipe(4, vectors4[0]));
  for (let i = 0; i < 10; i++) registers[VFRSSRK(i) >>> 2] = 0;
  assert.equal(classify(rss, bytes).hash, vectors4[0][5]);
  rss.configure();
  assert.equal(classify(rss, bytes).hash, 0);
});
