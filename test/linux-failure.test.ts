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
  settings = { memoryBytes, mac, seed: 1, assets: await prepareAssets(), cacheDirectory: defaultCacheDirectory() };
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
  readonly endedAtMs: number;
}

const countsOf = (host: VmHost): Promise<NetworkCounts> =>
  readCounts((parameters) => host.call("runCommand", parameters));

/** Moves to a destination of its own; `during` is called with each event of the source. */
async function moveTo(
  name: DestinationName,
  during: (event: MigrationEvent, destination: VmHost) => void,
  change: Partial<VmSettings> = {},
): Promise<Moved> {
  const countsBefore = await countsOf(source);
  await fabric.call("startPinger", { name, intervalMs: 5, payloadBytes: 1000, seed: 1 });
  const destination = startHost(name, () => {});
  try {
    const to = await destination.call("listen", { ...settings, cable: cablePath(directory, name), ...change });
    onSourceEvent = (event) => during(event, destination);
    const result = await source.call("moveOut", { ...move, to });
    return { result, pinger: name, countsBefore, endedAtMs: hostClock.nowMs() };
  } finally {
    onSourceEvent = () => {};
    if (name !== "good") await destination.close();
    else good = destination;
  }
}

/** The source has the guest, and no ping was lost on it: not during the move that failed, and not after it. */
async function assertSourceWorks(moved: Moved, code: RegExp): Promise<void> {
  const { result } = moved;
  assert.equal(result.kind, "resumed", JSON.stringify(result));
  assert.match(result.kind === "resumed" ? result.failure.code : "", code);
  const { whole, afterMove, discarded } = await pingsOf(moved, source);
  const about = JSON.stringify({ whole, afterMove, discarded });
  assert.ok(afterMove.answered > 50, about);
  assert.equal(whole.answered + discarded, whole.sent, about);
}

/**
 * Lets the guest ping and be pinged for a while, and asks what became of the pings. One that was not answered is no loss
 * if the guest's own kernel counted that it threw the answer away: it does so when a host that got no processor for a
 * third of a second brings it more than sixty pings at once. The fabric's pings are counted, not the guest's: busybox
 * ping reads a raw socket that gets every request of the fabric as well, and may overflow.
 */
async function pingsOf(
  { pinger: name, countsBefore, endedAtMs: sentFromMs }: Moved,
  host: VmHost,
): Promise<{ whole: PingReport; afterMove: PingReport; discarded: number }> {
  const command = `ping -c 5 -i 0.2 -W 2 ${formatIpv4(networkPlan.peerIp)}`;
  const { output, exitStatus } = await host.call("runCommand", { command, timeoutMs: 20_000 });
  assert.equal(exitStatus, 0, output);
  await fabric.call("stopPinger", { name });
  await sleep(PING_ANSWER_MS);
  const whole = await fabric.call("pingReport", { name });
  const afterMove = await fabric.call("pingReport", { name, sentFromMs });
  return { whole, afterMove, discarded: (await countsOf(host)).answersDiscarded - countsBefore.answersDiscarded };
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
});
