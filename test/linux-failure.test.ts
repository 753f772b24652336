// What happens to a real Linux when a move fails or is cancelled: it runs on, on the source, with a working card.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { prepareAssets } from "../src/host/assets.ts";
import { defaultCacheDirectory } from "../src/host/assets/cache.ts";
import { Child } from "../src/host/child-rpc.ts";
import { hostClock } from "../src/host/clock.ts";
import { cablePath } from "../src/host/fabric-server.ts";
import { startFabric, type Fabric } from "../src/host/fabric.ts";
import { readCounts, type NetworkCounts } from "../src/host/guest-counts.ts";
import type { MoveResult, VmHostEvent, VmHostMethods, VmSettings } from "../src/host/vm-host-messages.ts";
import type { MigrationEvent } from "../src/migration/events.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { formatMac } from "../src/network/mac.ts";
import type { PingReport } from "../src/network/ping-log.ts";
import { networkPlan } from "../src/network/plan.ts";

/** The guest is pinged this long after a move, and answers are waited for this long. */
const PINGED_MS = 1000;
const PING_ANSWER_MS = 1000;

type VmHost = Child<VmHostMethods, VmHostEvent>;

let directory: string;
let fabric: Fabric;
let source: VmHost;
let good: VmHost | undefined;
let settings: Omit<VmSettings, "cable">;
let onSourceEvent: (event: MigrationEvent) => void = () => {};

const destinations = ["refusing", "killed-early", "killed-late", "cancelled", "cancelled-late", "good"] as const;
type DestinationName = (typeof destinations)[number];

function startHost(name: string, onEvent: (event: MigrationEvent) => void): VmHost {
  return new Child({
    name,
    module: new URL("../src/host/vm-host-process.ts", import.meta.url),
    onEvent: (event) => (event.kind === "migration" ? onEvent(event.event) : undefined),
  });
}

before(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "underway-"));
  const cables = ["source", ...destinations];
  fabric = await startFabric({ directory, cables, seed: 1 });
  const memoryBytes = 128 << 20;
  const mac = formatMac(networkPlan.guestMac);
  settings = {
    memoryBytes,
    mac,
    seed: 1,
    guest: { machine: "linux", assets: await prepareAssets() },
    cacheDirectory: defaultCacheDirectory(),
    directory,
  };
  source = startHost("source", (event) => onSourceEvent(event));
  await source.call("startGuest", { ...settings, cable: cablePath(directory, "source") });
});

after(async () => {
  await good?.close();
  await source.close();
  await fabric.close();
  await rm(directory, { recursive: true, force: true });
});

const move = { strategy: "rings-first", downtimeLimitMs: 1000, roundsMax: 10, ifNotConverging: "switch-over" } as const;

/** A move that has ended, and pings that have run since before it. */
interface Moved {
  readonly result: MoveResult;
  readonly pinger: DestinationName;
  readonly countsBefore: NetworkCounts;
  readonly notTakenBefore: number;
  readonly endedAtMs: number;
}

const countsOf = (host: VmHost): Promise<NetworkCounts> =>
  readCounts((parameters) => host.call("runCommand", parameters));

/** Frames for the source's guest that it took too slowly: dropped by the card, or by the fabric before its host's cable. */
async function framesNotTaken(): Promise<number> {
  const { packetBufferFull = 0, withoutDescriptors = 0 } = await source.call("framesDropped", null);
  const { switch: counters } = await fabric.call("counters", null);
  const port = counters.ports.find(({ name }) => name === "source");
  return packetBufferFull + withoutDescriptors + (port?.out.dropped.backlog ?? 0);
}

/** Moves to a destination of its own; `during` is called with each event of the source. */
async function moveTo(
  name: DestinationName,
  during: (event: MigrationEvent, destination: VmHost) => void,
  change: Partial<VmSettings> = {},
): Promise<Moved> {
  const countsBefore = await countsOf(source);
  const notTakenBefore = await framesNotTaken();
  const destination = startHost(name, () => {});
  try {
    const to = await destination.call("listen", { ...settings, cable: cablePath(directory, name), ...change });
    await fabric.call("startPinger", { name, intervalMs: 5, payloadBytes: 1000, seed: 1 });
    onSourceEvent = (event) => during(event, destination);
    const result = await source.call("moveOut", { ...move, to });
    return { result, pinger: name, countsBefore, notTakenBefore, endedAtMs: hostClock.nowMs() };
  } finally {
    onSourceEvent = () => {};
    if (name !== "good") await destination.close();
    else good = destination;
  }
}

/** The source has the guest, and no ping was lost on it: not during the move that failed, and not after it. */
async function assertSourceWorks(moved: Moved, code: RegExp): Promise<void> {
  const { result, notTakenBefore } = moved;
  assert.equal(result.kind, "resumed", JSON.stringify(result));
  assert.match(result.kind === "resumed" ? result.failure.code : "", code);
  const { whole, afterMove, discarded } = await pingsOf(moved, source);
  const notTaken = (await framesNotTaken()) - notTakenBefore;
  const about = JSON.stringify({ whole, afterMove, discarded, notTaken });
  assert.ok(afterMove.answered > 50, about);
  const lost = whole.sent - whole.answered;
  assert.ok(lost >= discarded && lost <= discarded + notTaken, about);
  await assertPings(source);
}

/**
 * Ends the pings a while after the move, and asks what became of them. Where the host gets too little processor, some are
 * not answered, and each of these is accounted for. The guest's own kernel throws answers away, and counts that, when
 * more than sixty pings come at once, after a third of a second. And after some seconds the ring, the packet buffer or
 * the cable's backlog is full; the card and the fabric count what they drop then.
 */
async function pingsOf(
  { pinger: name, countsBefore, endedAtMs: sentFromMs }: Moved,
  host: VmHost,
): Promise<{ whole: PingReport; afterMove: PingReport; discarded: number }> {
  await sleep(PINGED_MS);
  await fabric.call("stopPinger", { name });
  // Answers of a slow guest come late: when its shell has run twice and none came between, none is to come.
  for (let answered = -1; ;) {
    const discarded = (await countsOf(host)).answersDiscarded - countsBefore.answersDiscarded;
    const whole = await fabric.call("pingReport", { name });
    const afterMove = await fabric.call("pingReport", { name, sentFromMs });
    if (whole.answered === answered) return { whole, afterMove, discarded };
    answered = whole.answered;
    await sleep(PING_ANSWER_MS);
  }
}

/** The guest pings. Nobody else does meanwhile: busybox ping reads a raw socket that gets every ping there is, and may overflow. */
async function assertPings(host: VmHost): Promise<void> {
  const command = `ping -c 5 -i 0.2 -W 2 ${formatIpv4(networkPlan.peerIp)}`;
  const { output, exitStatus } = await host.call("runCommand", { command, timeoutMs: 20_000 });
  assert.equal(exitStatus, 0, output);
}

const isPhase = (event: MigrationEvent, phase: string): boolean => event.kind === "phase" && event.phase === phase;

test("a destination that refuses the guest leaves it running on the source", async () => {
  const moved = await moveTo("refusing", () => {}, { memoryBytes: 64 << 20 });
  await assertSourceWorks(moved, /^refused/);
});

test("a destination killed during pre-copy leaves the guest running on the source", async () => {
  const moved = await moveTo("killed-early", (event, destination) => {
    if (event.kind === "round-progress") destination.kill();
  });
  await assertSourceWorks(moved, /^peer-/);
});

test("a destination killed after the pause and before `go` leaves the guest running on the source", async () => {
  const moved = await moveTo("killed-late", (event, destination) => {
    if (event.kind === "vcpus-paused") destination.kill();
  });
  // Where the kill takes effect after `go`, nobody can be asked, and nobody may resume: that is no failure of this test.
  if (moved.result.kind === "resumed") await assertSourceWorks(moved, /^peer-/);
  else assert.fail(`the destination outlived its kill until go: ${JSON.stringify(moved.result)}`);
});

test("a move cancelled during pre-copy leaves the guest running on the source", async () => {
  const moved = await moveTo("cancelled", (event) => {
    if (event.kind === "round") void source.call("cancel", null);
  });
  await assertSourceWorks(moved, /^cancelled$/);
});

test("a move cancelled as the switchover begins ends with the guest on exactly one side", async () => {
  const moved = await moveTo("cancelled-late", (event) => {
    if (isPhase(event, "pre-copy")) void source.call("cancel", null);
  });
  await assertSourceWorks(moved, /^cancelled$/);
});

test("after all these failures the guest moves, and its card works on the destination", async () => {
  const moved = await moveTo("good", () => {});
  assert.equal(moved.result.kind, "completed", JSON.stringify(moved.result));
  assert.ok(good !== undefined);
  const { afterMove, discarded } = await pingsOf(moved, good);
  const about = JSON.stringify({ afterMove, discarded });
  assert.ok(afterMove.answered > 50, about);
  assert.ok(afterMove.answered + discarded >= afterMove.sent, about);
  await assertPings(good);
});
