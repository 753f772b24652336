// What happens to a real Linux when a move fails or is cancelled: it runs on, on the source, with a working card.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { prepareAssets } from "../src/host/assets.ts";
import { FailingMoves } from "./failing-moves.fixture.ts";

const destinations = ["refusing", "killed-early", "killed-late", "cancelled", "cancelled-late"] as const;
let moves: FailingMoves;

before(async () => {
  const guest = { machine: "linux", assets: await prepareAssets() } as const;
  moves = await FailingMoves.begin({ guest, memoryBytes: 128 << 20, destinations });
});

after(() => moves.end());

test("a destination that refuses the guest leaves it running on the source", async () => {
  const moved = await moves.moveTo("refusing", () => {}, { memoryBytes: 64 << 20 });
  await moves.assertSourceWorks(moved, /^refused/);
});

test("a destination killed during pre-copy leaves the guest running on the source", async () => {
  const moved = await moves.moveTo("killed-early", ({ event, destination }) => {
    if (event.kind === "round-progress") destination.kill();
  });
  await moves.assertSourceWorks(moved, /^peer-/);
});

test("a destination killed after the pause and before `go` leaves the guest running on the source", async () => {
  const moved = await moves.moveTo("killed-late", ({ event, destination }) => {
    if (event.kind === "vcpus-paused") destination.kill();
  });
  // Where the kill takes effect after `go`, nobody can be asked, and nobody may resume: that is no failure of this test.
  if (moved.result.kind === "resumed") await moves.assertSourceWorks(moved, /^peer-/);
  else assert.fail(`the destination outlived its kill until go: ${JSON.stringify(moved.result)}`);
});

test("a move cancelled during pre-copy leaves the guest running on the source", async () => {
  const moved = await moves.moveTo("cancelled", ({ event }) => {
    if (event.kind === "round") void moves.source.call("cancel", null);
  });
  await moves.assertSourceWorks(moved, /^cancelled$/);
});

test("a move cancelled as the switchover begins ends with the guest on exactly one side", async () => {
  const moved = await moves.moveTo("cancelled-late", ({ event }) => {
    if (event.kind === "phase" && event.phase === "pre-copy") void moves.source.call("cancel", null);
  });
  await moves.assertSourceWorks(moved, /^cancelled$/);
});

test("after all these failures the guest moves, and its card works on the destination", async () => {
  await moves.assertMoved(await moves.moveTo("good"));
});
