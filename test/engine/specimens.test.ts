// The strategies that ask the driver for help: what a dummy write does and does not do, and by which names it is found out.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Hazard } from "../../src/audit/hazards.ts";
import { strategyByName } from "../../src/strategy/strategies.ts";
import { assertUnharmed, trouble } from "./checks.ts";
import { guestKinds, specimens } from "./guests.ts";
import { Scene } from "./move.ts";

/** Frames that the driver has taken lie there whole, wherever they are: no dummy write misses one of those. */
const cured: readonly Hazard[] = ["invisible-dma", "released-since", "shared-page"];
const ofRings: readonly Hazard[] = ["read-ahead", "head-ahead", "half-frame", "lost-completion"];

/** What is found in a batch of moves, and what in none. */
const expectations: Readonly<Record<string, { readonly found: readonly Hazard[]; readonly not: readonly Hazard[] }>> = {
  "dummy-write-before": { found: [...ofRings, "dummy-write-race"], not: ["check-to-write-window"] },
  "dummy-write-after": { found: [...ofRings, "check-to-write-window"], not: [...cured, "dummy-write-race"] },
  "copy-descriptors": { found: [...ofRings, "check-to-write-window"], not: [...cured, "dummy-write-race"] },
  shuffle: { found: [...ofRings, "check-to-write-window"], not: [...cured, "dummy-write-race"] },
};

/** It destroys frames without any move, too, and those that it has taken by then are not the audit's to find. */
const harmsItself = "dummy-write-before";

interface Found {
  corrupt: number;
  /** Guests that saw wrong frames on the destination, or cannot work there; and on the source. */
  wrong: number;
  stuck: number;
  wrongOnSource: number;
  readonly hazards: Map<string, number>;
}

async function moveMany(name: string, kind: keyof typeof guestKinds, moves: number, found: Found): Promise<void> {
  const strategy = strategyByName(name);
  const { cooperation } = strategy;
  for (let seed = 1; seed <= moves; seed++) {
    const what = `${name}, ${kind}, seed ${seed}`;
    // A context for each frame, as ixgbevf has it.
    const scene = await Scene.begin(seed, { ...guestKinds[kind](seed), cooperation, transmitContextEvery: 1 });
    const moved = await scene.move({ strategy });
    assert.deepEqual([moved.source.kind, moved.destination.kind], ["completed", "running"], what);
    const verdict = scene.verdict(strategy);
    for (const hazard of Object.keys(verdict.hazards)) found.hazards.set(hazard, (found.hazards.get(hazard) ?? 0) + 1);
    const { arrival, source, world } = scene;
    assert.ok(arrival !== undefined, what);
    await world.settle();
    world.receiver = arrival;
    const complaint = trouble(world, arrival);
    if (complaint !== undefined) found.stuck++;
    if (arrival.machine.counters.corrupt > 0) found.wrong++;
    if (source.machine.counters.corrupt > 0) found.wrongOnSource++;
    if (verdict.outcome === "corrupt") found.corrupt++;
    else if (name !== harmsItself) {
      // The other way round does not hold: a wrong byte need not be one that the guest looks at.
      assert.equal(complaint, undefined, what);
      assertUnharmed(arrival, what);
    }
  }
}

for (const [name, { found: expected, not }] of Object.entries(expectations)) {
  const besides =
    name === harmsItself ? "it harms guests at home too" : "the audit finds whatever the guest sees of it";
  test(`${name} corrupts most moves, for its own reasons, and ${besides}`, async () => {
    const found: Found = { corrupt: 0, wrong: 0, stuck: 0, wrongOnSource: 0, hazards: new Map() };
    await moveMany(name, "toy", 50, found);
    await moveMany(name, "a guest of full-size pages", 50, found);
    const seen = [...found.hazards].map(([hazard, moves]) => `${hazard} ${moves}`).join(", ");
    assert.ok(found.corrupt > 80 && found.wrong > 0 && found.stuck > 0, JSON.stringify(found));
    for (const hazard of expected)
      assert.ok(found.hazards.has(hazard), `${hazard} was never found; found were ${seen}`);
    for (const hazard of not) assert.ok(!found.hazards.has(hazard), `found were ${seen}`);
    assert.equal(found.wrongOnSource > 0, name === harmsItself, "only that one harms a guest at home");
  });
}

test("every strategy that asks the driver for help has its expectations here", () => {
  const asking = specimens.filter(({ cooperation }) => cooperation !== "none").map(({ name }) => name);
  assert.deepEqual(Object.keys(expectations).toSorted(), asking.toSorted());
});
