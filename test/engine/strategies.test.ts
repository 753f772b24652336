// Every strategy, moved in many worlds: the right ones are consistent and the guest notices nothing, the wrong one is found out.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Strategy } from "../../src/strategy/strategy.ts";
import { strategyByName } from "../../src/strategy/strategies.ts";
import { assertUnharmed, assertWorks, framesOnTheWire, trouble } from "./checks.ts";
import { guestKinds, shippedStrategies, type GuestKind } from "./guests.ts";
import { complaints, Scene, type Moved } from "./move.ts";

/** What has to happen somewhere in a batch of moves, or the batch shows nothing. */
interface Seen {
  carried: number;
  turnedBack: number;
  framesInProgress: number;
  discarded: number;
  reopened: number;
  shortEnds: number;
}

const nothingSeen = (): Seen => ({
  carried: 0,
  turnedBack: 0,
  framesInProgress: 0,
  discarded: 0,
  reopened: 0,
  shortEnds: 0,
});

/** In every third world the guest's administrator has the rings moved while the guest is being moved. */
async function moveOnce(strategy: Strategy, kind: GuestKind, seed: number): Promise<{ scene: Scene; moved: Moved }> {
  const scene = await Scene.begin(seed, guestKinds[kind](seed));
  const isReopening = seed % 3 === 0;
  const moved = await scene.move({
    strategy,
    onSourceEvent: (event) => {
      if (isReopening && event.kind === "round" && event.summary.round <= 2) scene.source.machine.requestReopen();
    },
  });
  return { scene, moved };
}

async function assertConsistent(strategy: Strategy, kind: GuestKind, seed: number, seen: Seen): Promise<void> {
  const what = `${strategy.name}, ${kind}, seed ${seed}`;
  const { scene, moved } = await moveOnce(strategy, kind, seed);
  assert.equal(moved.source.kind, "completed", what);
  assert.equal(moved.destination.kind, "running", what);
  const verdict = scene.verdict(strategy);
  assert.deepEqual(complaints(verdict), [], what);
  assert.ok(scene.arrival !== undefined && scene.source.machine.isPaused);
  await scene.world.settle();
  assertWorks(scene.world, scene.arrival, what);

  const { counters } = scene.arrival.machine;
  const { onceOrMore, twiceOrMore } = framesOnTheWire(scene.world.hosts);
  assert.equal(twiceOrMore, 0, `${what}: frames went out twice`);
  assert.ok(onceOrMore >= counters.sent - counters.abandoned, `${what}: posted frames never went out`);

  const cuts = moved.events.flatMap((event) => (event.kind === "cut" ? event.queues : []));
  seen.carried += cuts.filter((cut) => cut.carried > 0).length;
  seen.turnedBack += cuts.filter((cut) => cut.turnedBack > 0).length;
  seen.framesInProgress += cuts.filter((cut) => cut.frameInProgress).length;
  seen.discarded += verdict.frames.discarded;
  seen.reopened += counters.opened - 1;
  seen.shortEnds += counters.errors;
}

const quick: GuestKind = "toy";
const seedsOf = (kind: GuestKind): number => (kind === quick ? 100 : 15);

for (const strategy of shippedStrategies) {
  for (const kind of Object.keys(guestKinds) as GuestKind[]) {
    const count = seedsOf(kind);
    test(`${strategy.name} moves ${kind} consistently in ${count} worlds, and everything works afterwards`, async () => {
      const seen = nothingSeen();
      for (let seed = 1; seed <= count; seed++) await assertConsistent(strategy, kind, seed, seen);
      assert.ok(seen.reopened > 0, "no rings were ever moved");
      const receivesOn = strategy.switchover.every((command) => command.kind !== "stop-device");
      if (receivesOn) assert.ok(seen.discarded > 0, "the source's device was never ahead");
      if (strategy.resume !== "head-from-cut") return;
      assert.ok(seen.carried > 0, "no frame ever came along after the pause");
      if (kind !== quick) return;
      assert.ok(seen.turnedBack > 0, "no descriptor was ever turned back");
      assert.ok(seen.framesInProgress > 0, "no frame was ever cut by the pause");
      assert.ok(seen.shortEnds > 0, "no driver ever got the owed end of a frame");
    });
  }
}

test("blind corrupts most moves: buffers are stale, heads are ahead, and the guest sees both", async () => {
  const hazards = new Map<string, number>();
  const blind = strategyByName("blind");
  const moves = 60;
  let corrupt = 0;
  let wrongFrames = 0;
  let hangs = 0;
  for (let seed = 1; seed <= moves; seed++) {
    const { scene } = await moveOnce(blind, quick, seed);
    const verdict = scene.verdict(blind);
    assert.ok(scene.arrival !== undefined);
    if (verdict.outcome === "corrupt") corrupt++;
    for (const hazard of Object.keys(verdict.hazards)) hazards.set(hazard, (hazards.get(hazard) ?? 0) + 1);
    await scene.world.settle();
    scene.world.receiver = scene.arrival;
    if (trouble(scene.world, scene.arrival) !== undefined) hangs++;
    if (scene.arrival.machine.counters.corrupt > 0) wrongFrames++;
    // The source is none the worse for it.
    assertUnharmed(scene.source, `seed ${seed}`);
  }
  assert.ok(corrupt > 0.8 * moves, `${corrupt} of ${moves} were corrupt`);
  for (const hazard of ["invisible-dma", "read-ahead", "head-ahead", "half-frame", "shared-page"]) {
    assert.ok(hazards.has(hazard), `${hazard} was never found; found were ${[...hazards.keys()].join(", ")}`);
  }
  assert.ok(wrongFrames > 0 && hangs > 0, `${wrongFrames} guests saw wrong frames, ${hangs} hung`);
});

test("the same seed gives the same move, byte for byte", async () => {
  const strategy = strategyByName("rings-first");
  const runs = [await moveOnce(strategy, quick, 77), await moveOnce(strategy, quick, 77)] as const;
  const [first, second] = runs;
  assert.deepEqual(first.moved, { ...second.moved, destination: first.moved.destination });
  assert.deepEqual(first.scene.image?.bytes, second.scene.image?.bytes);
  assert.deepEqual(first.scene.resumedWith, second.scene.resumedWith);
});
