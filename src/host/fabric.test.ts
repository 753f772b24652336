import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import { announceFrames } from "../network/announce.ts";
import { conservationFaults, totalDropped, type PortCounters } from "../network/counters.ts";
import { writeEthernetHeader } from "../network/ethernet.ts";
import type { MacAddress } from "../network/mac.ts";
import { BROADCAST_MAC } from "../network/mac.ts";
import { Peer } from "../network/peer.ts";
import { networkPlan } from "../network/plan.ts";
import { hostClock } from "./clock.ts";
import { plugCable, type Cable } from "./fabric-client.ts";
import { startFabric, type Fabric } from "./fabric.ts";
import type { FabricCounters, FabricEvent } from "./fabric-messages.ts";
import { cablePath } from "./fabric-server.ts";
import { readWithTshark } from "./test-programs.ts";

const guestMac = 0x0200_0000_0015 as MacAddress;
const otherMac = 0x0200_0000_0016 as MacAddress;

interface Rig {
  readonly fabric: Fabric;
  readonly directory: string;
  readonly events: FabricEvent[];
  readonly plug: (name: string) => Promise<Cable>;
}

async function rig(t: TestContext): Promise<Rig> {
  const directory = await mkdtemp(path.join(tmpdir(), "underway-"));
  const events: FabricEvent[] = [];
  const cables = ["source", "destination"];
  const fabric = await startFabric({ directory, cables, seed: 11, onEvent: (event) => void events.push(event) });
  t.after(async () => {
    await fabric.close();
    await rm(directory, { recursive: true });
  });
  return {
    fabric,
    directory,
    events,
    plug: async (name) => {
      const cable = await plugCable(cablePath(directory, name));
      await until(async () => portOf(await fabric.call("counters", null), name).up);
      return cable;
    },
  };
}

function portOf(counters: FabricCounters, name: string): PortCounters {
  const port = counters.switch.ports.find((one) => one.name === name);
  assert.ok(port !== undefined, `there is no port ${name}`);
  return port;
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

function frame(source: MacAddress, destination: MacAddress, lengthBytes: number, fill = 0): Uint8Array {
  const bytes = new Uint8Array(lengthBytes).fill(fill);
  writeEthernetHeader(bytes, { source, destination, etherType: 0x88b5 });
  return bytes;
}

/** A guest behind a cable: another peer, which answers ARP and echo. */
function guestBehind(cable: Cable): { leave(): void } {
  const station = { mac: guestMac, ip: networkPlan.guestIp };
  const guest = new Peer({ clock: hostClock, station, send: (bytes) => cable.frame(bytes) });
  cable.onFrame = (bytes) => guest.frame(bytes);
  return {
    leave: () => {
      cable.onFrame = () => {};
    },
  };
}

const hasCode = (code: string) => (error: unknown) => error instanceof OperationError && error.code === code;

test("frames cross the fabric process unchanged, in order, and every one is accounted for", async (t) => {
  const { fabric, plug } = await rig(t);
  const [source, destination] = [await plug("source"), await plug("destination")];
  const seed = 21;
  const random = new SeededRandom(seed);
  const sent = createHash("sha256");
  const received = createHash("sha256");
  destination.onFrame = (bytes) => void received.update(bytes);
  destination.frame(frame(otherMac, BROADCAST_MAC, 60));
  await until(() => source.counters.framesIn === 1);
  for (let i = 0; i < 3000; i++) {
    const bytes = frame(guestMac, otherMac, 14 + random.below(1600), i);
    sent.update(bytes);
    source.frame(bytes);
    if (i % 100 === 99) await until(() => destination.counters.framesIn === i + 1);
  }
  assert.equal(received.digest("hex"), sent.digest("hex"), `seed ${seed}`);
  const counters = await fabric.call("counters", null);
  assert.deepEqual(conservationFaults(counters.switch), []);
  const { in: inward } = portOf(counters, "source");
  assert.deepEqual([inward.frames, inward.bytes], [source.counters.framesOut, source.counters.bytesOut]);
  const { out } = portOf(counters, "destination");
  assert.deepEqual([out.frames, out.bytes], [destination.counters.framesIn, destination.counters.bytesIn]);
  assert.equal(source.counters.dropped, 0);
});

test("a guest that moves keeps answering verified pings behind its new port, and the capture shows it", async (t) => {
  const { fabric, directory, events, plug } = await rig(t);
  const capture = path.join(directory, "move.pcapng");
  await fabric.call("startCapture", { path: capture });
  const [source, destination] = [await plug("source"), await plug("destination")];
  const before = guestBehind(source);
  await fabric.call("startPinger", { name: "ping", intervalMs: 2, payloadBytes: 600, seed: 31 });
  const answered = async (): Promise<number> => (await fabric.call("pingReport", { name: "ping" })).answered;
  await until(async () => (await answered()) >= 20);
  before.leave();
  const darkFromMs = hostClock.nowMs();
  await until(async () => (await fabric.call("pingReport", { name: "ping", sentFromMs: darkFromMs })).sent >= 5);
  guestBehind(destination);
  const movedAtMs = hostClock.nowMs();
  for (const bytes of announceFrames(guestMac, networkPlan.guestIp)) destination.frame(bytes);
  await until(() => events.some(({ kind }) => kind === "mac-moved"));
  const arrivedAtMs = hostClock.nowMs();
  await until(async () => (await answered()) >= 60);
  await fabric.call("stopPinger", { name: "ping" });

  const whole = await fabric.call("pingReport", { name: "ping", answeredAfterMs: movedAtMs });
  assert.deepEqual([whole.corrupt, whole.duplicates], [0, 0]);
  assert.ok(whole.sent - whole.answered >= 5, "the dark time lost no ping");
  assert.ok(whole.longestGapMs > 0);
  assert.ok((whole.firstAnswerAfter?.sentAtMs ?? 0) > darkFromMs);
  await until(async () => {
    const after = await fabric.call("pingReport", { name: "ping", sentFromMs: arrivedAtMs });
    return after.answered === after.sent;
  });
  const moves = events.filter((event) => event.kind === "mac-moved");
  assert.equal(moves.length, 1);
  assert.deepEqual([moves[0]?.from, moves[0]?.to, moves[0]?.mac], ["source", "destination", guestMac]);
  const counters = await fabric.call("counters", null);
  assert.deepEqual(conservationFaults(counters.switch), []);
  assert.equal(counters.switch.macMoves, 1);

  const summary = await fabric.call("stopCapture", null);
  assert.equal(summary?.leftOut, 0);
  assert.equal(summary?.bytes, (await stat(capture)).size);
  const rows = readWithTshark(t, capture, ["frame.interface_name", "icmp.checksum.status"], "icmp.type == 0");
  if (rows === undefined) return;
  assert.equal(rows.filter(([port]) => port === "peer").length, whole.answered);
  assert.ok(rows.some(([port]) => port === "source") && rows.some(([port]) => port === "destination"));
  assert.ok(
    rows.every(([, status]) => status === "1"),
    "tshark found a wrong checksum",
  );
});

test("a host that does not read loses frames at its own port, which are counted, and slows nobody else", async (t) => {
  const { fabric, directory, plug } = await rig(t);
  const source = await plug("source");
  const deaf = connect({ path: cablePath(directory, "destination") }).pause();
  t.after(() => deaf.destroy());
  await until(async () => portOf(await fabric.call("counters", null), "destination").up);
  // The announced station is behind the deaf port: its cable is written to by hand, once.
  const announcement = announceFrames(otherMac)[0] ?? new Uint8Array();
  deaf.write(Uint8Array.of(0, 0, 0, announcement.length));
  deaf.write(announcement);
  await until(() => source.counters.framesIn === 1);
  guestBehind(source);
  const total = 4000;
  for (let i = 0; i < total; i++) {
    source.frame(frame(guestMac, otherMac, 1514));
    if (i % 100 === 99) await until(() => source.counters.queued === 0);
  }
  await until(async () => portOf(await fabric.call("counters", null), "destination").out.offered === total);
  await fabric.call("startPinger", { name: "ping", intervalMs: 1, payloadBytes: 1400, seed: 41 });
  await until(async () => (await fabric.call("pingReport", { name: "ping" })).answered >= 50);

  const blocked = portOf(await fabric.call("counters", null), "destination").out;
  assert.ok(blocked.dropped.backlog > 0 && blocked.queued > 0);
  assert.ok(blocked.queued * 1514 <= 600_000, `${blocked.queued} frames are queued`);
  deaf.destroy();
  await until(async () => !portOf(await fabric.call("counters", null), "destination").up);
  const counters = await fabric.call("counters", null);
  assert.deepEqual(conservationFaults(counters.switch), []);
  const { out } = portOf(counters, "destination");
  assert.equal(out.dropped.unplugged, blocked.queued);
  assert.equal(out.queued, 0);
});

test("speed and loss of a link are as set, and a port that is taken down gets nothing until it is up again", async (t) => {
  const { fabric, plug } = await rig(t);
  const [source, destination] = [await plug("source"), await plug("destination")];
  destination.frame(frame(otherMac, BROADCAST_MAC, 60));
  await until(() => source.counters.framesIn === 1);
  await fabric.call("setLink", { port: "destination", speedBitsPerSecond: 50_000_000 });
  const startMs = hostClock.nowMs();
  for (let i = 0; i < 300; i++) source.frame(frame(guestMac, otherMac, 1514));
  await until(() => destination.counters.framesIn === 300);
  // 300 frames of 1538 byte times, less what may go at once.
  assert.ok(hostClock.nowMs() - startMs >= ((299 * 1538) / 50_000_000) * 8000 - 2, "faster than the link");

  await fabric.call("setLink", { port: "destination", speedBitsPerSecond: null, lossRate: 0.5 });
  for (let i = 0; i < 300; i++) source.frame(frame(guestMac, otherMac, 60));
  await until(async () => portOf(await fabric.call("counters", null), "destination").out.offered === 600);
  const lossy = portOf(await fabric.call("counters", null), "destination").out;
  assert.ok(Math.abs(lossy.dropped.loss - 150) < 60, `${lossy.dropped.loss} lost`);
  await until(() => destination.counters.framesIn === 600 - lossy.dropped.loss);

  await fabric.call("setLink", { port: "destination", up: false, lossRate: 0 });
  const before = destination.counters.framesIn;
  for (let i = 0; i < 10; i++) source.frame(frame(guestMac, BROADCAST_MAC, 60));
  await until(async () => portOf(await fabric.call("counters", null), "source").in.offered === 610);
  await fabric.call("setLink", { port: "destination", up: true });
  source.frame(frame(guestMac, BROADCAST_MAC, 60));
  await until(() => destination.counters.framesIn === before + 1);
  assert.deepEqual(conservationFaults((await fabric.call("counters", null)).switch), []);
});

test("a port takes one cable, unplugs one that sends nonsense, and takes the next", async (t) => {
  const { fabric, directory, plug } = await rig(t);
  const first = await plug("source");
  const second = await plugCable(cablePath(directory, "source"));
  await second.closed;
  assert.equal((await fabric.call("counters", null)).cablesTurnedAway, 1);
  first.close();
  assert.equal(await first.closed, undefined);
  await until(async () => !portOf(await fabric.call("counters", null), "source").up);
  const hostile = connect({ path: cablePath(directory, "source") });
  await new Promise((resolve) =>
    hostile
      .on("close", resolve)
      .on("error", () => {})
      .write("GET / HTTP/1.0\r\n\r\n"),
  );
  const counters = await fabric.call("counters", null);
  assert.equal(counters.cablesGarbled, 1);
  assert.equal(totalDropped(portOf(counters, "source").in), 0);
  const third = await plug("source");
  third.frame(frame(guestMac, BROADCAST_MAC, 60));
  await until(async () => portOf(await fabric.call("counters", null), "source").in.offered === 1);
});

test("requests that make no sense are refused with typed errors, and the fabric goes on", async (t) => {
  const { fabric, directory } = await rig(t);
  const ping = { name: "p", intervalMs: 1, payloadBytes: 64, seed: 1 };
  await assert.rejects(fabric.call("setLink", { port: "nobody", up: true }), hasCode("port-unknown"));
  const invalid = hasCode("fabric-request-invalid");
  await assert.rejects(fabric.call("setLink", { port: "source", lossRate: 1.5 }), invalid);
  await assert.rejects(fabric.call("setLink", { port: "source", speedBitsPerSecond: 0 }), invalid);
  await assert.rejects(fabric.call("startPinger", { ...ping, payloadBytes: 100_000 }), invalid);
  await assert.rejects(fabric.call("startPinger", { ...ping, intervalMs: Number.NaN }), invalid);
  await assert.rejects(fabric.call("pingReport", { name: "nobody" }), hasCode("pinger-unknown"));
  await assert.rejects(fabric.call("startCapture", { path: directory }), hasCode("capture-failed"));
  await assert.rejects(fabric.call("connectPasst", { program: "/nonexistent/passt" }), hasCode("passt-failed"));
  assert.equal(await fabric.call("stopCapture", null), null);
  assert.deepEqual(conservationFaults((await fabric.call("counters", null)).switch), []);
});

test("a fabric that cannot listen says where and why", async () => {
  const options = { cables: ["source"], seed: 1 };
  const unusable = hasCode("socket-path-unusable");
  await assert.rejects(startFabric({ ...options, directory: "/nonexistent" }), unusable);
  await assert.rejects(startFabric({ ...options, directory: `/${"x".repeat(120)}` }), unusable);
  await assert.rejects(startFabric({ cables: ["peer"], seed: 1, directory: tmpdir() }), hasCode("port-exists"));
  await assert.rejects(plugCable("/nonexistent/source.sock"), hasCode("fabric-unreachable"));
});

test("the fabric ends by itself when its parent lets go, takes its sockets with it, and the cables notice", async (t) => {
  const { fabric, directory, plug } = await rig(t);
  const cable = await plug("source");
  await fabric.close();
  await cable.closed;
  cable.frame(frame(guestMac, BROADCAST_MAC, 60));
  assert.equal(cable.counters.dropped, 1);
  await assert.rejects(stat(cablePath(directory, "source")));
});
