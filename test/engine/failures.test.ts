// Moves that fail or are cancelled, anywhere: one side runs the guest at the end, whole, and the next move succeeds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { OperationError } from "../../src/base/errors.ts";
import { insistOnOutcome } from "../../src/migration/outcome-query.ts";
import type { MigrationEvent } from "../../src/migration/events.ts";
import type { Transport } from "../../src/migration/wire/transport.ts";
import type { Strategy } from "../../src/strategy/strategy.ts";
import { strategyByName } from "../../src/strategy/strategies.ts";
import { assertWorks } from "./checks.ts";
import { guestKinds, shippedStrategies } from "./guests.ts";
import { settle } from "./settle.ts";
import { complaints, refusal, Scene, type Moved, type MoveOptions } from "./move.ts";

const ringsFirst = strategyByName("rings-first");

/** After a move, however it ended: the guest works where it is, and can be moved from the source if it still is there. */
async function assertSound(
  scene: Scene,
  moved: Moved,
  strategy: Strategy,
  what: string,
): Promise<"source" | "destination"> {
  const side = await settle(scene, moved);
  const verdictBefore = side === "destination" ? scene.verdict(strategy) : undefined;
  await scene.world.settle();
  if (side === "destination") {
    assert.ok(scene.arrival !== undefined && verdictBefore !== undefined);
    assert.deepEqual(complaints(verdictBefore), [], what);
    assertWorks(scene.world, scene.arrival, what);
    return side;
  }
  assertWorks(scene.world, scene.source, what);
  for (let turn = 0; turn < 200; turn++) scene.world.turn();
  const again = await scene.move({ strategy });
  assert.equal(again.source.kind, "completed", `${what}, second move`);
  const verdict = scene.verdict(strategy);
  assert.deepEqual(complaints(verdict), [], `${what}, second move`);
  assert.ok(scene.arrival !== undefined);
  await scene.world.settle();
  assertWorks(scene.world, scene.arrival, `${what}, second move`);
  return side;
}

async function moveOf(seed: number, options: MoveOptions): Promise<{ scene: Scene; moved: Moved }> {
  const scene = await Scene.begin(seed, guestKinds.toy(), 300);
  return { scene, moved: await scene.move(options) };
}

/** Bytes at which to break a stream: everywhere near its end, where the hand-over is, and scattered before. */
function breaks(total: number, closeBytes: number, scattered: number): number[] {
  const places = new Set<number>([0, 1, 23, 24, 25]);
  for (let i = 0; i < scattered; i++) places.add(Math.floor((total * i) / scattered));
  for (let at = Math.max(0, total - closeBytes); at <= total; at++) places.add(at);
  return [...places];
}

for (const strategy of shippedStrategies) {
  const scattered = strategy === ringsFirst ? 30 : 6;

  test(`${strategy.name}: wherever the link breaks on its way to the destination, one side has the guest`, async () => {
    const seed = 11;
    const { moved: whole } = await moveOf(seed, { strategy });
    const ended = { source: 0, destination: 0, unknown: 0 };
    for (const fromFirst of breaks(whole.bytesSent, 52, scattered)) {
      const { scene, moved } = await moveOf(seed, { strategy, breakAfterBytes: { fromFirst } });
      const what = `broken after ${fromFirst} of ${whole.bytesSent} bytes`;
      if (moved.source.kind === "outcome-unknown") ended.unknown++;
      ended[await assertSound(scene, moved, strategy, what)]++;
    }
    assert.ok(ended.source > 10 && ended.destination > 5 && ended.unknown > 5, JSON.stringify(ended));
  });

  test(`${strategy.name}: wherever the link breaks on its way back, one side has the guest`, async () => {
    const seed = 12;
    const { moved: whole } = await moveOf(seed, { strategy });
    const ended = { source: 0, destination: 0, unknown: 0 };
    for (const fromSecond of breaks(whole.bytesReceived, 30, scattered)) {
      const { scene, moved } = await moveOf(seed, { strategy, breakAfterBytes: { fromSecond } });
      const what = `broken after ${fromSecond} of ${whole.bytesReceived} bytes`;
      if (moved.source.kind === "outcome-unknown") ended.unknown++;
      ended[await assertSound(scene, moved, strategy, what)]++;
    }
    assert.ok(ended.source > 10 && ended.unknown > 5, JSON.stringify(ended));
  });

  test(`${strategy.name}: cancelled at any event, the source runs on, unless it had said go`, async () => {
    const seed = 13;
    const { moved: whole } = await moveOf(seed, { strategy });
    const ended = { source: 0, destination: 0 };
    for (let index = 0; index < whole.events.length; index++) {
      const { scene, moved } = await cancelledAt(seed, strategy, index);
      const what = `cancelled at event ${index}, ${whole.events[index]?.kind}`;
      if (moved.source.kind === "resumed") assert.equal(moved.source.error.code, "cancelled", what);
      ended[await assertSound(scene, moved, strategy, what)]++;
    }
    assert.ok(ended.source > 8 && ended.destination > 0, JSON.stringify(ended));
  });
}

async function cancelledAt(seed: number, strategy: Strategy, index: number): Promise<{ scene: Scene; moved: Moved }> {
  const controller = new AbortController();
  let events = 0;
  return await moveOf(seed, {
    strategy,
    signal: controller.signal,
    onSourceEvent: () => {
      if (events++ === index) controller.abort();
    },
  });
}

test("cancelled at any step of the switchover, the source runs on with its interrupts", async () => {
  const ended = { source: 0, destination: 0 };
  for (let seed = 20; seed < 60; seed++) {
    const scene = await Scene.begin(seed, guestKinds.toy(), 300);
    const controller = new AbortController();
    let isArmed = false;
    const at = scene.world.random.below(90);
    let race = 0;
    const moving = scene.move({
      strategy: ringsFirst,
      signal: controller.signal,
      onSourceEvent: (event) => {
        if (event.kind === "phase" && event.phase === "switchover") isArmed = true;
      },
      onRace: () => {
        if (isArmed && race++ === at) controller.abort();
      },
    });
    ended[await assertSound(scene, await moving, ringsFirst, `seed ${seed}, cancelled at step ${at}`)]++;
  }
  assert.ok(ended.source > 20, JSON.stringify(ended));
});

const isResumed = (event: MigrationEvent): boolean => event.kind === "phase" && event.phase === "resumed";

test("a destination that refuses leaves the guest where it is, with the reason", async () => {
  const cases: Record<string, MoveOptions> = {
    "no-room": {
      strategy: ringsFirst,
      prepare: () => {
        throw refusal("no-room");
      },
    },
    "strategy-unknown": { strategy: { ...ringsFirst, name: "moonshine" } },
  };
  for (const [code, options] of Object.entries(cases)) {
    const { scene, moved } = await moveOf(31, options);
    assert.ok(moved.source.kind === "resumed" && moved.source.error.code === code, code);
    assert.ok(moved.events.some(isResumed));
    assert.ok(!moved.events.some((event) => event.kind === "vcpus-paused"), "the guest was paused for nothing");
    assert.equal(await assertSound(scene, moved, ringsFirst, code), "source");
  }
});

test("a destination that cannot load the state, or cannot start the guest, gives it back", async () => {
  const fail = (code: string) => (): never => {
    throw refusal(code);
  };
  const breakers: Record<string, NonNullable<MoveOptions["prepare"]>> = {
    "machine-state-invalid": (vm) => {
      vm.machine.restoreState = fail("machine-state-invalid");
      return vm;
    },
    "vf-state-invalid": (vm) => {
      const restoreState = vm.machine.restoreState.bind(vm.machine);
      vm.machine.restoreState = async (state) => {
        await restoreState(state);
        vm.vf.restore = fail("vf-state-invalid");
      };
      return vm;
    },
    "no-cpu": (vm) => {
      vm.machine.resume = () => Promise.reject(refusal("no-cpu"));
      return vm;
    },
  };
  for (const strategy of shippedStrategies) {
    for (const [code, prepare] of Object.entries(breakers)) {
      const what = `${strategy.name}, ${code}`;
      const { scene, moved } = await moveOf(32, { strategy, prepare });
      assert.ok(moved.source.kind === "resumed" && moved.source.error.code === code, what);
      assert.ok(moved.destination.kind === "discarded" && moved.destination.error.code === code, what);
      assert.ok(scene.arrival?.vf.isStopped === true, what);
      assert.equal(await assertSound(scene, moved, strategy, what), "source");
    }
  }
});

test("a guest that does not converge is given up where that was asked for, and runs on", async () => {
  const limits = { downtimeLimitMs: 0, roundsMax: 3, ifNotConverging: "give-up" } as const;
  const { scene, moved } = await moveOf(33, { strategy: ringsFirst, limits });
  assert.ok(moved.source.kind === "resumed" && moved.source.error.code === "not-converging");
  assert.equal(moved.source.error.facts["rounds"], 3);
  assert.equal(await assertSound(scene, moved, ringsFirst, "not converging"), "source");
});

test("an answer that is not known yet is waited for: a guest that is just being started counts as running", async () => {
  const started = Promise.withResolvers<void>();
  const scene = await Scene.begin(34, guestKinds.toy(), 300);
  const controller = new AbortController();
  const moving = scene.move({
    strategy: ringsFirst,
    signal: controller.signal,
    prepare: (vm) => {
      const resume = vm.machine.resume.bind(vm.machine);
      vm.machine.resume = async () => {
        await started.promise;
        await resume();
      };
      return vm;
    },
    onSourceEvent: () => {},
  });
  const asking = (async () => {
    while (scene.arrival?.vf.isStopped !== false) await scene.world.until(Promise.resolve());
    const connect = (): Promise<Transport> => Promise.resolve(scene.connect().transport);
    const pause = (): Promise<void> => Promise.resolve();
    return await insistOnOutcome({ connect, migrationId: scene.id(1), attempts: 1, pause });
  })();
  const early = await scene.world.until(Promise.race([asking, turnsTaken(scene, 500)]));
  assert.equal(early, "nothing yet");
  started.resolve();
  assert.equal(await scene.world.until(asking), "running");
  assert.equal((await moving).source.kind, "completed");
});

async function turnsTaken(scene: Scene, turns: number): Promise<"nothing yet"> {
  for (let turn = 0; turn < turns; turn++) await scene.world.until(Promise.resolve());
  return "nothing yet";
}

test("a migration's name is taken once", async () => {
  const { scene, moved } = await moveOf(35, { strategy: ringsFirst });
  assert.equal(moved.source.kind, "completed");
  scene.attempts = 0;
  await scene.source.machine.resume();
  const again = await scene.move({ strategy: ringsFirst });
  assert.ok(again.source.kind === "resumed" && again.source.error.code === "migration-id-reused");
  assert.ok(again.source.error instanceof OperationError);
});
