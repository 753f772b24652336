// The source of a model guest when the move comes to nothing: its VM, on its own thread, goes on as if nothing had been.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "./child-rpc.ts";
import { hostClock } from "./clock.ts";
import type { ModelHostMethods } from "./model-host-process.ts";
import type { ModelVmSettings } from "./model/vm.ts";
import { listenTcp } from "./tcp-transport.ts";
import type { VmHostEvent } from "./vm-host-messages.ts";

const MIB = 1 << 20;
const TURNS_MAX = 2000;

type Host = Child<ModelHostMethods, VmHostEvent>;

function startHost(context: TestContext, name: string, onEvent: (event: VmHostEvent) => void = () => {}): Host {
  const host: Host = new Child({ name, module: new URL("./model-host-process.ts", import.meta.url), onEvent });
  context.after(() => host.close());
  return host;
}

function settings(memoryBytes = 16 * MIB): ModelVmSettings {
  const load = { bitsPerSecond: 1e8, frameBytes: "1518" } as const;
  return { memoryBytes, seed: 1, cooperation: "none", load, epochMs: hostClock.nowMs() };
}

const move = { strategy: "rings-first", downtimeLimitMs: 100, roundsMax: 5, ifNotConverging: "switch-over" } as const;

async function assertReceives(source: Host): Promise<void> {
  const before = (await source.call("counts", null)).guest.verified;
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    const { guest, panic } = await source.call("counts", null);
    const { corrupt, repeated, verified } = guest;
    assert.deepEqual({ corrupt, repeated, panic }, { corrupt: 0, repeated: 0, panic: null });
    if (verified > before + 1000) return;
    await sleep(5);
  }
  assert.fail("the guest does not receive any more");
}

test("a peer that hangs up at once leaves the guest running", async (context) => {
  const source = startHost(context, "source");
  await source.call("startGuest", settings());
  const listener = await listenTcp({ host: "127.0.0.1", port: 0 }, (transport) => {
    transport.start({ onData: () => {}, onClose: () => {} });
    transport.close();
  });
  context.after(() => listener.close());
  const result = await source.call("moveOut", { ...move, to: listener.address });
  assert.equal(result.kind, "resumed");
  await assertReceives(source);
});

test("a destination of another size refuses, and the guest goes on", async (context) => {
  const [source, destination] = [startHost(context, "source"), startHost(context, "destination")];
  await source.call("startGuest", settings());
  const to = await destination.call("listen", settings(32 * MIB));
  const result = await source.call("moveOut", { ...move, to });
  assert.equal(result.kind === "resumed" ? result.failure.code : result.kind, "refused");
  await assertReceives(source);
});

test("a move that is cancelled under way gives the guest back, and the next one may be cancelled too", async (context) => {
  const source = startHost(context, "source", (event) => {
    const isRound = event.kind === "migration" && event.event.kind === "round";
    if (isRound) void source.call("cancel", null);
  });
  await source.call("startGuest", settings());
  for (let attempt = 1; attempt <= 2; attempt++) {
    const to = await startHost(context, "destination").call("listen", settings());
    const result = await source.call("moveOut", { ...move, bandwidthBytesPerSecond: 10 * MIB, to });
    assert.equal(result.kind === "resumed" ? result.failure.code : result.kind, "cancelled");
    await assertReceives(source);
  }
});
