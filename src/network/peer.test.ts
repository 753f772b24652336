import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import { ArpOperation, buildArpFrame, parseArpFrame } from "./arp.ts";
import { destinationOf } from "./ethernet.ts";
import { parseEchoFrame } from "./icmp.ts";
import { BROADCAST_MAC, parseMac, ZERO_MAC } from "./mac.ts";
import { Peer } from "./peer.ts";
import { networkPlan } from "./plan.ts";

const peerStation = { mac: networkPlan.peerMac, ip: networkPlan.peerIp };
const guestStation = { mac: parseMac("02:00:00:00:00:15"), ip: networkPlan.guestIp };

interface Rig {
  readonly clock: ManualClock;
  readonly peer: Peer;
  /** What happens to a frame from the peer to the guest, and back; undefined loses it. */
  tamper: (frame: Uint8Array) => Uint8Array | undefined;
  readonly run: (forMs: number, stepMs?: number) => void;
  readonly fromPeer: Uint8Array[];
}

/** Two peers back to back: the second plays the guest, since it answers ARP and echo as a guest does. */
function rig(): Rig {
  const clock = new ManualClock(500);
  const fromPeer: Uint8Array[] = [];
  const result: Rig = {
    clock,
    tamper: (frame) => frame,
    fromPeer,
    peer: new Peer({
      clock,
      station: peerStation,
      send: (frame) => {
        fromPeer.push(frame.slice());
        guest.frame(frame);
      },
    }),
    run: (forMs, stepMs = 1) => {
      for (const endMs = clock.nowMs() + forMs; clock.nowMs() < endMs; clock.advance(stepMs)) result.peer.service();
    },
  };
  const guest: Peer = new Peer({
    clock,
    station: guestStation,
    send: (frame) => {
      const answer = result.tamper(frame.slice());
      if (answer !== undefined) result.peer.frame(answer);
    },
  });
  return result;
}

const settings = { targetIp: guestStation.ip, intervalMs: 10, payloadBytes: 57, seed: 9 };
const isEcho = (frame: Uint8Array): boolean => parseEchoFrame(frame) !== undefined;

test("the peer answers ARP requests for its address and for no other", () => {
  const clock = new ManualClock();
  const sent: Uint8Array[] = [];
  const peer = new Peer({ clock, station: peerStation, send: (frame) => sent.push(frame.slice()) });
  const ask = { senderMac: guestStation.mac, senderIp: guestStation.ip, targetMac: ZERO_MAC };
  const question = { operation: ArpOperation.request, ...ask };
  peer.frame(buildArpFrame(BROADCAST_MAC, { ...question, targetIp: networkPlan.gatewayIp }));
  assert.equal(sent.length, 0);
  peer.frame(buildArpFrame(BROADCAST_MAC, { ...question, targetIp: peerStation.ip }));
  const reply = parseArpFrame(sent[0] ?? new Uint8Array());
  assert.equal(reply?.operation, ArpOperation.reply);
  assert.equal(reply?.senderMac, peerStation.mac);
  assert.equal(destinationOf(sent[0] ?? new Uint8Array()), guestStation.mac);
});

test("pings are answered with their payload, at their interval", () => {
  const { peer, run } = rig();
  peer.startPinger("a", settings);
  run(1000);
  const report = peer.pingReport("a");
  assert.deepEqual([report.sent, report.answered, report.lost, report.corrupt], [100, 100, 0, 0]);
  assert.equal(report.longestGapMs, 10);
  assert.deepEqual(peer.counters, { arpAnswered: 0, echoAnswered: 0, unexpectedReplies: 0, damaged: 0 });
});

test("lost pings are named, the gap they leave is measured, and the first answer after a moment is found", () => {
  const world = rig();
  world.peer.startPinger("a", settings);
  world.run(200);
  world.tamper = (frame) => (isEcho(frame) ? undefined : frame);
  const darkFromMs = world.clock.nowMs();
  world.run(50);
  world.tamper = (frame) => frame;
  world.run(2000);
  const report = world.peer.pingReport("a", { answeredAfterMs: darkFromMs });
  assert.deepEqual(report.lostSequences, [20, 21, 22, 23, 24]);
  assert.equal(report.lost, 5);
  assert.equal(report.longestGapMs, 60);
  assert.deepEqual(report.firstAnswerAfter, { sequence: 25, sentAtMs: darkFromMs + 50, answeredAtMs: darkFromMs + 50 });
  const after = world.peer.pingReport("a", { sentFromMs: darkFromMs + 50 });
  assert.equal(after.lost, 0);
  assert.equal(after.answered, after.sent);
  const before = world.peer.pingReport("a", { sentBeforeMs: darkFromMs });
  assert.equal(before.sent, 20);
});

test("an unanswered ping is pending until its time-out, then lost", () => {
  const world = rig();
  world.peer.startPinger("a", { ...settings, timeoutMs: 100 });
  world.tamper = (frame) => (isEcho(frame) ? undefined : frame);
  world.run(1);
  world.peer.stopPinger("a");
  world.run(99);
  assert.deepEqual([world.peer.pingReport("a").pending, world.peer.pingReport("a").lost], [1, 0]);
  world.run(2);
  assert.deepEqual([world.peer.pingReport("a").pending, world.peer.pingReport("a").lost], [0, 1]);
});

test("an answer with any byte changed behind the Ethernet header is never taken for a right one", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), fc.boolean(), (position, change, repair) => {
      const world = rig();
      world.peer.startPinger("a", settings);
      world.tamper = (frame) => {
        const echo = parseEchoFrame(frame);
        if (echo === undefined) return frame;
        const at = 14 + (position % (frame.length - 14));
        frame[at] = (frame[at] ?? 0) ^ change;
        // Stale payload arrives with a checksum that is right: damage the payload and mend the sum.
        if (repair && at >= echo.payloadStart) mendChecksum(frame, echo.payloadStart - 8);
        return frame;
      };
      world.run(5);
      assert.equal(world.peer.pingReport("a").answered, 0);
    }),
  );
});

function mendChecksum(frame: Uint8Array, icmpStart: number): void {
  frame.fill(0, icmpStart + 2, icmpStart + 4);
  let sum = 0;
  for (let at = icmpStart; at < frame.length; at += 2) sum += ((frame[at] ?? 0) << 8) | (frame[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame[icmpStart + 2] = (~sum >>> 8) & 255;
  frame[icmpStart + 3] = ~sum & 255;
}

test("the payload of an earlier ping under a right checksum counts as corrupt", () => {
  const world = rig();
  world.peer.startPinger("a", settings);
  let earlier: Uint8Array | undefined;
  world.tamper = (frame) => {
    const echo = parseEchoFrame(frame);
    if (echo === undefined) return frame;
    const payload = frame.slice(echo.payloadStart, echo.payloadEnd);
    if (earlier !== undefined) frame.set(earlier, echo.payloadStart);
    mendChecksum(frame, echo.payloadStart - 8);
    earlier = payload;
    return frame;
  };
  world.run(30);
  const report = world.peer.pingReport("a");
  assert.deepEqual([report.sent, report.answered, report.corrupt], [3, 1, 2]);
  assert.deepEqual(report.corruptSequences, [1, 2]);
});

test("a second answer to the same ping counts as a duplicate", () => {
  const world = rig();
  world.peer.startPinger("a", settings);
  world.tamper = (frame) => {
    if (isEcho(frame)) world.peer.frame(frame);
    return frame;
  };
  world.run(30);
  const report = world.peer.pingReport("a");
  assert.deepEqual([report.answered, report.duplicates], [3, 3]);
});

test("a high rate is met from coarse timers, and slots that were slept through are skipped and counted", () => {
  const world = rig();
  world.peer.startPinger("echo", { ...settings, intervalMs: 0.1, payloadBytes: 1472 });
  world.run(2000);
  const report = world.peer.pingReport("echo");
  assert.ok(Math.abs(report.sent - 20_000) <= 10, `${report.sent} sent`);
  assert.equal(report.answered, report.sent);
  assert.equal(report.skipped, 0);
  world.clock.advance(100);
  world.peer.service();
  const late = world.peer.pingReport("echo");
  assert.equal(late.sent - report.sent, 64);
  assert.ok(Math.abs(late.skipped - (1000 - 64)) <= 11, `${late.skipped} skipped`);
});

test("sequence numbers run over into the next identifier without confusion", () => {
  const world = rig();
  world.peer.startPinger("echo", { ...settings, intervalMs: 0.01, payloadBytes: 8 });
  world.run(1400, 0.5);
  const report = world.peer.pingReport("echo");
  assert.ok(report.sent > 2 * 65_536);
  assert.equal(report.answered, report.sent);
  assert.equal(report.duplicates, 0);
});

test("two pingers do not take each other's answers", () => {
  const world = rig();
  world.peer.startPinger("a", settings);
  world.peer.startPinger("b", { ...settings, intervalMs: 7, payloadBytes: 100 });
  world.run(500);
  for (const name of ["a", "b"]) {
    const report = world.peer.pingReport(name);
    assert.equal(report.answered, report.sent);
    assert.equal(report.corrupt, 0);
  }
});

test("the peer asks again for a station that does not answer, and starts pinging when it does", () => {
  const world = rig();
  world.peer.startPinger("a", settings);
  world.tamper = () => undefined;
  world.run(1000);
  assert.equal(world.peer.pingReport("a").sent, 0);
  assert.equal(world.fromPeer.length, 5);
  world.tamper = (frame) => frame;
  world.run(1000);
  assert.ok(world.peer.pingReport("a").answered > 70);
});

test("an unknown pinger is a typed error, and so is a name used twice", () => {
  const { peer } = rig();
  const isCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;
  assert.throws(() => peer.pingReport("nobody"), isCode("pinger-unknown"));
  peer.startPinger("a", settings);
  assert.throws(() => peer.startPinger("a", settings), isCode("pinger-exists"));
});

test("arbitrary frames never make the peer throw", () => {
  const seed = 77;
  const random = new SeededRandom(seed);
  const { peer, clock } = rig();
  peer.startPinger("a", settings);
  peer.service();
  const model = buildArpFrame(peerStation.mac, {
    operation: 1,
    senderMac: guestStation.mac,
    senderIp: guestStation.ip,
    targetMac: ZERO_MAC,
    targetIp: peerStation.ip,
  });
  const noise = new Uint8Array(100);
  for (let i = 0; i < 5000; i++) {
    const frame = random.chance(0.5) ? model.slice(0, random.below(61)) : noise.slice(0, random.below(100));
    for (let at = 0; at < noise.length; at++) noise[at] = random.u32();
    if (frame.length > 16 && random.chance(0.5)) frame.set([0x08, 0x00, 0x45], 12);
    if (frame.length > 0) frame[random.below(frame.length)] = random.u32();
    peer.frame(frame);
    clock.advance(0.1);
  }
  assert.equal(typeof peer.counters.damaged, "number", `seed ${seed}`);
});
