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
import type { MoveResult, VmHostEvent, VmHostMethods, VmSettings } from "../src/host/vm-host-messages.ts";
import type { MigrationEvent } from "../src/migration/events.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { formatMac } from "../src/network/mac.ts";
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
  await fabric.call("startPinger", { name: "ping", intervalMs: 5, payloadBytes: 1000, seed: 1 });
});

after(async () => {
  await good?.close();
  await source.close();
  await fabric.close();
  await rm(directory, { recursive: true, force: true });
});

const move = { strategy: "rings-first", downtimeLimitMs: 1000, roundsMax: 10, ifNotConverging: "switch-over" } as const;

/** Moves to a destination of its own; `during` is called with each event of the source. */
async function moveTo(
  name: DestinationName,
  during: (event: MigrationEvent, destination: VmHost) => void,
  change: Partial<VmSettings> = {},
): Promise<MoveResult> {
  const destination = startHost(name, () => {});
  try {
    const to = await destination.call("listen", { ...settings, cable: cablePath(directory, name), ...change });
    onSourceEvent = (event) => during(event, destination);
    return await source.call("moveOut", { ...move, to });
  } finally {
    onSourceEvent = () => {};
    if (name !== "good") await destination.close();
    else good = destination;
  }
}

async function assertSourceWorks(result: MoveResult, code: RegExp): Promise<void> {
  assert.equal(result.kind, "resumed", JSON.stringify(result));
  assert.match(result.kind === "resumed" ? result.failure.code : "", code);
  await assertCardWorks(source);
}

/**
 * The guest pings and is pinged. That no ping is lost is asked of the fabric's: busybox ping reads a raw socket that gets
 * every request of the fabric as well, and may overflow.
 */
async function assertCardWorks(host: VmHost): Promise<void> {
  const sentFromMs = hostClock.nowMs();
  const command = `ping -c 5 -i 0.2 -W 2 ${formatIpv4(networkPlan.peerIp)}`;
  const { output, exitStatus } = await host.call("runCommand", { command, timeoutMs: 20_000 });
  assert.equal(exitStatus, 0, output);
  const sentBeforeMs = hostClock.nowMs();
  await sleep(PING_ANSWER_MS);
  const pings = await fabric.call("pingReport", { name: "ping", sentFromMs, sentBeforeMs });
  assert.ok(pings.sent > 50, JSON.stringify(pings));
  assert.equal(pings.answered, pings.sent, JSON.stringify(pings));
}

const isPhase = (event: MigrationEvent, phase: string): boolean => event.kind === "phase" && event.phase === phase;

test("a destination that refuses the guest leaves it running on the source", async () => {
  const result = await moveTo("refusing", () => {}, { memoryBytes: 64 << 20 });
  await assertSourceWorks(result, /^refused/);
});

test("a destination killed during pre-copy leaves the guest running on the source", async () => {
  const result = await moveTo("killed-early", (event, destination) => {
    if (event.kind === "round-progress") destination.kill();
  });
  await assertSourceWorks(result, /^peer-/);
});

test("a destination killed after the pause and before `go` leaves the guest running on the source", async () => {
  const result = await moveTo("killed-late", (event, destination) => {
    if (event.kind === "vcpus-paused") destination.kill();
  });
  // Where the kill takes effect after `go`, nobody can be asked, and nobody may resume: that is no failure of this test.
  if (result.kind === "resumed") await assertSourceWorks(result, /^peer-/);
  else assert.fail(`the destination outlived its kill until go: ${JSON.stringify(result)}`);
});

test("a move cancelled during pre-copy leaves the guest running on the source", async () => {
  const result = await moveTo("cancelled", (event) => {
    if (event.kind === "round") void source.call("cancel", null);
  });
  await assertSourceWorks(result, /^cancelled$/);
});

test("a move cancelled as the switchover begins ends with the guest on exactly one side", async () => {
  const result = await moveTo("cancelled-late", (event) => {
    if (isPhase(event, "pre-copy")) void source.call("cancel", null);
  });
  await assertSourceWorks(result, /^cancelled$/);
});

test("after all these failures the guest moves, and its card works on the destination", async () => {
  const result = await moveTo("good", () => {});
  assert.equal(result.kind, "completed", JSON.stringify(result));
  assert.ok(good !== undefined);
  await assertCardWorks(good);
});
