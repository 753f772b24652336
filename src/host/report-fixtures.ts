// Made-up migrations for tests of whatever reads events and reports: one that went well, one that lost bytes, one that hangs.
import type { Corruption, Verdict } from "../audit/verdict.ts";
import { points, type Hazard, type Point } from "../audit/hazards.ts";
import type { DowntimePart, RoundSummary } from "../migration/events.ts";
import { ReportBuilder, type MigrateOptions, type MigrationReport, type SidedEvent } from "./report.ts";

export type FixtureKind = MigrationReport["verdict"];

const SHA256 = "3f9ab1c06e5d2f70418b9c5de2a7730c11f0e86d4b92a35c7f68d01e94ccab57";

export function fixtureOptions(kind: FixtureKind): MigrateOptions {
  return {
    machine: "linux",
    strategy: kind === "corrupt" ? "blind" : "rings-first",
    memoryBytes: 128 << 20,
    traffic: "download",
    downtimeLimitMs: 100,
    seed: 1_742_881_093,
    assets: {},
    roundsMax: 20,
    ifNotConverging: "switch-over",
  };
}

const rounds: readonly (readonly [
  pages: number,
  zeroPages: number,
  durationMs: number,
  dirtyAfter: number,
  expected: number,
])[] = [
  [9_216, 23_240, 214.3, 1_204, 41.2],
  [1_204, 0, 31.8, 418, 22.6],
  [418, 0, 11.2, 287, 18.9],
];

const downtime: readonly (readonly [DowntimePart, number])[] = [
  ["pause", 1.12],
  ["saveState", 0.08],
  ["rings", 0.94],
  ["pages", 3.61],
  ["saveState", 3.4],
  ["transfer", 6.72],
  ["resume", 0.63],
  ["loadMachine", 4.05],
  ["loadDevice", 0.31],
];

/** Plays the events of a whole migration, from `startMs` on, in the order in which they come. */
export function* fixtureEvents(startMs = 1000): Generator<SidedEvent> {
  const side = "source";
  let atMs = startMs;
  yield { side, atMs, kind: "phase", phase: "negotiate" };
  atMs += 3;
  yield { side, atMs, kind: "phase", phase: "pre-copy" };
  for (const [index, [pages, zeroPages, durationMs, dirtyAfter, expectedDowntimeMs]] of rounds.entries()) {
    const bytes = pages * 4096;
    const round = index + 1;
    const pagesTotal = pages + zeroPages;
    const halfway = { round, pagesDone: Math.floor(pagesTotal / 2), pagesTotal, bytes: bytes / 2 };
    yield { side, atMs: atMs + durationMs / 2, kind: "round-progress", ...halfway };
    atMs += durationMs;
    const bytesPerSecond = (bytes * 1000) / durationMs;
    const summary: RoundSummary = {
      round,
      pages,
      zeroPages,
      bytes,
      durationMs,
      dirtyAfter,
      bytesPerSecond,
      expectedDowntimeMs,
    };
    yield { side, atMs, kind: "round", summary };
  }
  yield { side, atMs, kind: "phase", phase: "switchover" };
  const pauseCommandAtMs = atMs;
  yield { side, atMs: pauseCommandAtMs + 1.12, kind: "vcpus-paused" };
  for (const [part, durationMs] of downtime)
    yield { side, atMs: pauseCommandAtMs + 16, kind: "downtime-part", part, durationMs };
  yield { side: "destination", atMs: pauseCommandAtMs + 16.7, kind: "running" };
  yield { side, atMs: pauseCommandAtMs + 17, kind: "running" };
  yield { side, atMs: pauseCommandAtMs + 17.4, kind: "phase", phase: "completed" };
}

export function fixtureReport(kind: FixtureKind): MigrationReport {
  const builder = new ReportBuilder(fixtureOptions(kind));
  for (const event of fixtureEvents()) builder.event(event);
  const isGood = kind !== "corrupt";
  return builder.build({
    audit: fixtureVerdict(kind),
    outageMs: isGood ? 21.94 : 412.6,
    bytesSent: 47_316_992,
    frames: { delivered: 6_214, lost: isGood ? 9 : 148, discarded: isGood ? 22 : 61 },
    guest: {
      downloadFinished: kind !== "stalled",
      sha256Expected: kind === "stalled" ? null : SHA256,
      sha256Actual: kind === "stalled" ? null : isGood ? SHA256 : SHA256.replace("3f9ab1c0", "b04d77e2"),
      pingsSent: 64,
      pingsLost: isGood ? 0 : 2,
      frames: null,
      panic: null,
      noticed: isGood ? [] : ["Its TCP stack counted 41 segments with a wrong checksum."],
    },
    load: null,
    methods: { cpuDirtyLog: "wasm", tracker: "descriptor-shadow" },
  });
}

const staleFrames: readonly Corruption[] = [
  {
    hazard: "invisible-dma",
    sentence: "the page of a frame that the guest has taken was not sent again after the device filled it",
    address: "0x5a31802",
    lengthBytes: 1_514,
    page: 23_089,
    queue: 0,
    descriptor: 211,
    frame: 1_203,
    frameSummary: "TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 1742881 len 1448",
    expectedHex: "525400123456525400aabbcc08004500",
    actualHex: "00000000000000000000000008000000",
    isStale: true,
  },
  {
    hazard: "read-ahead",
    sentence: "a descriptor says done and its buffer does not hold the frame",
    address: "0x5a40002",
    lengthBytes: 1_514,
    page: 23_104,
    queue: 0,
    descriptor: 214,
    frame: 1_206,
    frameSummary: "TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 1747225 len 1448",
    expectedHex: "525400123456525400aabbcc08004500",
    actualHex: "525400123456525400aabbcc08003500",
    isStale: true,
  },
  {
    hazard: "head-ahead",
    sentence: "the receive head is past the first descriptor that is not done: the queue hangs",
    address: "0x1010",
    lengthBytes: 0,
    page: -1,
    queue: 0,
    expectedHex: "",
    actualHex: "",
    isStale: false,
  },
];

export function fixtureVerdict(kind: FixtureKind): Verdict {
  const isGood = kind !== "corrupt";
  const hazards: Partial<Record<Hazard, number>> = isGood
    ? {}
    : { "invisible-dma": 39, "read-ahead": 14, "head-ahead": 1 };
  return {
    outcome: isGood ? "consistent" : "corrupt",
    points: Object.entries(points).map(([point, sentence]) => ({
      point: Number(point) as Point,
      sentence,
      violations: isGood ? 0 : ({ 1: 39, 3: 14, 4: 1 }[Number(point)] ?? 0),
    })),
    receive: [
      {
        queue: 0,
        ringDescriptors: 512,
        headAtPause: 203,
        tail: 190,
        cut: 208,
        headAtResume: isGood ? 208 : 230,
        headAtSourceEnd: 230,
        descriptorsCarried: 5,
        framesCarried: 5,
        isInsideFrame: false,
      },
    ],
    transmit: [
      {
        queue: 0,
        ringDescriptors: 512,
        headAtPause: 77,
        headAtResume: 77,
        headAtSourceEnd: 77,
        tail: 77,
        framesSentTwice: 0,
      },
    ],
    frames: {
      delivered: 6_214,
      discarded: isGood ? 22 : 61,
      unfinished: 0,
      dropped: { "no-descriptor": 0 },
      sentTwice: 0,
      stale: isGood ? 0 : 53,
    },
    corruptions: isGood ? [] : staleFrames,
    totals: isGood
      ? { corruptions: 0, frames: 0, pages: 0, bytes: 0 }
      : { corruptions: 54, frames: 53, pages: 51, bytes: 80_242 },
    hazards,
    excusedBytes: 622_592,
    verifies: [
      "every byte of guest memory on the destination when its vCPUs began, except the buffers of posted, not-done receive descriptors",
      "each receive ring shows a prefix of the device's write-backs, whole frames only, and the VF resumes behind it",
      "every queue with news for the driver has an interrupt coming",
    ],
    doesNotVerify: [
      "CPU and platform state beyond memory (registers, interrupt controller, timers)",
      "what happens after the destination's vCPUs began",
    ],
  };
}

/** A guest that QEMU moved alone, with its VF unplugged meanwhile. */
export function fixtureBaseline(): MigrationReport {
  const report = fixtureReport("consistent");
  return {
    ...report,
    machine: "qemu",
    strategy: "failover",
    options: { ...report.options, machine: "qemu", strategy: "failover", qemu: { iommu: "none" } },
    outageMs: 262.31,
    cuts: { receive: [], transmit: [] },
    baseline: { qemuDowntimeMs: 20, withoutVfMs: 1_722, pingGapsMs: { unplug: 63.9, pause: 151.9, plugIn: 262.31 } },
  };
}
