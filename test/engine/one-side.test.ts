// Exactly one side runs: held at every turn of every way in which a hand-over can be cancelled and cut off.
import assert from "node:assert/strict";
import { test } from "node:test";
import { strategyByName } from "../../src/strategy/strategies.ts";
import { guestKinds } from "./guests.ts";
import { Scene, type Moved, type MoveOptions } from "./move.ts";
import { settle } from "./settle.ts";

const strategy = strategyByName("rings-first");
const seed = 17;

/** Looks after every turn, and between any two steps of the switchover: two that run are one too many. */
function watch(scene: Scene): () => void {
  const { world } = scene;
  const turn = world.turn.bind(world);
  const look = (): void => {
    const running = world.hosts.filter(({ machine }) => !machine.isPaused && machine.panic === undefined);
    assert.ok(running.length <= 1, "the guest runs on both sides");
  };
  world.turn = () => {
    const hasActed = turn();
    look();
    return hasActed;
  };
  return look;
}

async function moveWatched(options: Omit<MoveOptions, "strategy">): Promise<{ scene: Scene; moved: Moved }> {
  const scene = await Scene.begin(seed, guestKinds.toy(), 100);
  const onRace = watch(scene);
  return { scene, moved: await scene.move({ strategy, onRace, ...options }) };
}

/** Every byte near the end, where the hand-over is, and no break at all. */
const places = (total: number, closeBytes: number): (number | undefined)[] => [
  undefined,
  ...Array.from({ length: closeBytes + 1 }, (_, i) => total - closeBytes + i),
];

test("cancelled at any event of the hand-over or not, and cut off at any byte of it either way or not: one side runs", async () => {
  const { moved: whole } = await moveWatched({});
  const handOver = whole.events.findIndex((event) => event.kind === "phase" && event.phase === "switchover");
  const events = [undefined, ...whole.events.keys().filter((index) => index >= handOver)];
  const cuts = [
    ...places(whole.bytesSent, 110).map((fromFirst) => (fromFirst === undefined ? {} : { fromFirst })),
    ...places(whole.bytesReceived, 60).map((fromSecond) => (fromSecond === undefined ? {} : { fromSecond })),
  ];
  const ended = { source: 0, destination: 0, unknown: 0 };
  for (const cancelAt of events) {
    for (const breakAfterBytes of cuts) {
      const controller = new AbortController();
      let seen = 0;
      const { scene, moved } = await moveWatched({
        breakAfterBytes,
        signal: controller.signal,
        onSourceEvent: () => {
          if (seen++ === cancelAt) controller.abort();
        },
      });
      if (moved.source.kind === "outcome-unknown") ended.unknown++;
      ended[await settle(scene, moved)]++;
      const running = scene.world.hosts.filter(({ machine }) => !machine.isPaused);
      assert.equal(running.length, 1, `cancelled at ${cancelAt}, broken after ${JSON.stringify(breakAfterBytes)}`);
    }
  }
  assert.ok(ended.source > 100 && ended.destination > 100 && ended.unknown > 100, JSON.stringify(ended));
});
