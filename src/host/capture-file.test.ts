import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { announceFrames } from "../network/announce.ts";
import { networkPlan } from "../network/plan.ts";
import { CaptureFile } from "./capture-file.ts";
import { notRun, readWithTshark } from "./test-programs.ts";

const interfaces = [{ name: "source" }, { name: "destination", description: "the other host" }];
const frames = announceFrames(networkPlan.peerMac, networkPlan.peerIp);

test("tshark reads a capture: interfaces, nanoseconds, directions, comments and bytes", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "underway-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "a.pcapng");
  const clock = new ManualClock(5);
  const capture = await CaptureFile.create({ path: file, interfaces, clock });
  capture.frame({ interfaceIndex: 0, direction: "in", bytes: frames[0] ?? new Uint8Array() });
  clock.advance(0.25);
  capture.frame({
    interfaceIndex: 1,
    direction: "out",
    bytes: frames[1] ?? new Uint8Array(),
    comment: "dropped: loss",
  });
  const summary = await capture.close();
  assert.deepEqual(summary, { packets: 2, bytes: (await stat(file)).size, leftOut: 0 });
  const fields = [
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.comment",
    "frame.protocols",
    "frame.len",
  ];
  const rows = readWithTshark(t, file, fields);
  if (rows === undefined) return;
  assert.deepEqual(rows, [
    ["source", "0x00000001", "", "eth:ethertype:arp", "60"],
    ["destination", "0x00000002", "dropped: loss", "eth:ethertype:arp", "60"],
  ]);
  const times = readWithTshark(t, file, ["frame.time_delta", "arp.src.proto_ipv4"]);
  // The clock moved by 250 microseconds; a double of milliseconds since 1970 holds them to a quarter of one.
  assert.ok(Math.abs(Number(times?.[1]?.[0]) - 0.000_25) < 0.000_000_6, String(times));
  assert.equal(times?.[1]?.[1], "10.0.2.3");
});

test("a capture that falls behind leaves packets out and counts them, in the file too", async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), "underway-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = path.join(folder, "b.pcapng");
  const capture = await CaptureFile.create({ path: file, interfaces, clock: new ManualClock(), bufferBytesMax: 5000 });
  const bytes = new Uint8Array(1000);
  bytes.set(frames[0] ?? []);
  for (let i = 0; i < 20; i++) capture.frame({ interfaceIndex: 0, direction: "in", bytes });
  const summary = await capture.close();
  assert.equal(summary.packets + summary.leftOut, 20);
  assert.ok(summary.packets >= 4 && summary.packets <= 6, `${summary.packets} packets`);
  assert.equal(readWithTshark(t, file, ["frame.number"])?.length ?? summary.packets, summary.packets);
});

test("a capture that cannot be written is a typed error", async () => {
  const create = CaptureFile.create({ path: "/nonexistent/a.pcapng", interfaces, clock: new ManualClock() });
  await assert.rejects(create, (error) => error instanceof OperationError && error.code === "capture-failed");
});

test("a disk that fills up is reported when the capture ends", async (t) => {
  if (!(await stat("/dev/full").catch(() => undefined))?.isCharacterDevice()) {
    notRun(t, "there is no /dev/full");
    return;
  }
  const capture = await CaptureFile.create({ path: "/dev/full", interfaces, clock: new ManualClock() });
  capture.frame({ interfaceIndex: 0, direction: "in", bytes: new Uint8Array(60) });
  await assert.rejects(capture.close(), (error) => error instanceof OperationError && error.code === "capture-failed");
});
