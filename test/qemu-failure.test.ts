// What happens to a guest in a real QEMU when a host, a QEMU or the link goes in the middle of a move, phase by phase.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest } from "../src/host/assets-qemu.ts";
import type { GuestKind } from "../src/host/guests.ts";
import { notRun } from "../src/host/test-programs.ts";
import type { MigrationEvent } from "../src/migration/events.ts";
import { FailingMoves, type Saboteur } from "./failing-moves.fixture.ts";

/** When something goes: by what the source says. */
const phases = {
  "during pre-copy": (event: MigrationEvent) => event.kind === "round-progress",
  "when the CPUs have just stopped": (event: MigrationEvent) => event.kind === "vcpus-paused",
  "when the state is under way": (event: MigrationEvent) => event.kind === "phase" && event.phase === "hand-over",
} as const;

const sabotages = {
  "the destination's host, which serves its VF, is killed": ({ destination }: Saboteur) => destination.kill(),
  "the destination's QEMU is killed": ({ killDestinationQemu }: Saboteur) => killDestinationQemu(),
  "the link breaks": ({ link }: Saboteur) => link.cut(),
  "the move is cancelled": () => void moves?.source.call("cancel", null),
} as const;

const cases = Object.entries(sabotages).flatMap(([what, sabotage]) =>
  Object.entries(phases).map(([when, isNow]) => ({ what, when, sabotage, isNow })),
);
const nameOf = (index: number): string => `d${index}`;

let moves: FailingMoves | undefined;
let lost: FailingMoves | undefined;
let whyNot = "";

before(async () => {
  let guest: GuestKind;
  try {
    const [qemu, assets] = [await prepareQemu(), await prepareQemuGuest()];
    guest = { machine: "qemu", qemu, assets, iommu: "intel" };
  } catch (thrown) {
    if (!(thrown instanceof OperationError)) throw thrown;
    whyNot = thrown.message;
    return;
  }
  const destinations = cases.map((_, index) => nameOf(index));
  moves = await FailingMoves.begin({ guest, memoryBytes: 128 << 20, destinations });
  lost = await FailingMoves.begin({ guest, memoryBytes: 128 << 20, destinations: ["d0"] });
});

after(async () => {
  await moves?.end();
  await lost?.end();
});

for (const [index, { what, when, sabotage, isNow }] of cases.entries()) {
  test(`${what} ${when}: the guest runs on exactly one side, and on the source its card works`, async (t) => {
    if (moves === undefined) return notRun(t, whyNot);
    let isDone = false;
    const moved = await moves.moveTo(nameOf(index), (saboteur) => {
      if (isDone || !isNow(saboteur.event)) return;
      isDone = true;
      sabotage(saboteur);
    });
    assert.ok(isDone, "the move ended before anything could go wrong");
    return moves.assertSourceWorks(moved, /^(?:peer-|cancelled$|qemu-|qmp-)/);
  });
}

test("after all these failures the guest moves, though the source's QEMU is killed once the state is under way", async (t) => {
  if (moves === undefined) return notRun(t, whyNot);
  const moved = await moves.moveTo("good", ({ event, killSourceQemu }) => {
    if (phases["when the state is under way"](event)) killSourceQemu();
  });
  return moves.assertMoved(moved);
});

test("a source's QEMU that is killed earlier takes its guest along: nothing runs, and nobody says otherwise", async (t) => {
  if (lost === undefined) return notRun(t, whyNot);
  let isDone = false;
  const moving = lost.moveTo("d0", ({ event, killSourceQemu }) => {
    if (isDone || !phases["during pre-copy"](event)) return;
    isDone = true;
    killSourceQemu();
  });
  return assert.rejects(moving, { code: /^(?:qmp-closed|qemu-gone)$/ });
});
