// After a move, however it ended: which side has the guest, once the source has asked where it must.
import assert from "node:assert/strict";
import { insistOnOutcome } from "../../src/migration/outcome-query.ts";
import type { Transport } from "../../src/migration/wire/transport.ts";
import { refusal, type Moved, type Scene } from "./move.ts";

/** Who ended up with the guest; the source, if it was not decided at once, asks. */
export async function settle(scene: Scene, moved: Moved): Promise<"source" | "destination"> {
  const { source, arrival } = scene;
  const runsThere = arrival !== undefined && !arrival.machine.isPaused;
  switch (moved.source.kind) {
    case "completed":
      assert.equal(moved.destination.kind, "running");
      assert.ok(source.machine.isPaused && runsThere);
      return "destination";
    case "resumed":
      assert.notEqual(moved.destination.kind, "running");
      assert.ok(!source.machine.isPaused && !runsThere);
      return "source";
    case "outcome-unknown": {
      assert.ok(source.machine.isPaused, "the source runs a guest that may run elsewhere");
      assert.equal(runsThere, moved.destination.kind === "running");
      const answer = await ask(scene);
      if (answer === "running") return "destination";
      assert.equal(answer, "discarded");
      assert.ok(!runsThere, "a guest was given up and runs");
      await moved.source.takeBack();
      return "source";
    }
    default:
      return moved.source satisfies never;
  }
}

/** The first two attempts find nobody, or break off. */
async function ask(scene: Scene): Promise<string | undefined> {
  let attempt = 0;
  const connect = (): Promise<Transport> => {
    attempt++;
    if (attempt === 1) return Promise.reject(refusal("nobody-there"));
    return Promise.resolve(scene.connect(attempt === 2 ? { fromSecond: 30 } : undefined).transport);
  };
  return await scene.world.until(
    insistOnOutcome({ connect, migrationId: scene.id(scene.attempts), attempts: 5, pause: () => Promise.resolve() }),
  );
}
