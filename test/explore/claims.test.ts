// Claims of the mail and the design that are about no strategy of their own, decided: what docs/FINDINGS.md says of R2, R5 and R6.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultAssumptions, defaultBounds, type Assumptions } from "../../src/explore/assumptions.ts";
import { explore, type Explored, type ExploreOptions } from "../../src/explore/explore.ts";
import type { Strategy } from "../../src/strategy/strategy.ts";
import {
  copy,
  everything,
  inOrder,
  pause,
  saveDevice,
  stopDevice,
  stopTransmit,
  withStrategy,
  type Change,
} from "./changes.ts";

const decide = (strategy: string, options: ExploreOptions, assumptions: Partial<Assumptions> = {}): Explored =>
  explore(
    { strategy, assumptions: { ...defaultAssumptions, ...assumptions }, bounds: { ...defaultBounds, frames: 2 } },
    options,
  );

/** What the audit says of memory that a driver which starts over may never look at. */
const ofDroppedRings = ["released-since", "invisible-dma", "read-ahead", "shared-page", "done-in-dropped-ring"];

/** Neither rings nor buffers, as the design's table has it. */
const carryingNothing = withStrategy((strategy) => ({
  ...strategy,
  skipsMappedInPreCopy: false,
  preCopy: ["cpu-dirty"],
  switchover: [pause, stopTransmit, saveDevice, { kind: "drop-rings" }, copy("cpu-dirty")],
}));

const withDummyWrites: Change = (experiment) => {
  const cooperation: Strategy["cooperation"] = "dummy-write-after";
  const { scenario, strategy } = experiment;
  return {
    ...experiment,
    strategy: { ...strategy, cooperation },
    scenario: { ...scenario, host: { ...scenario.host, cooperation } },
  };
};

test("a driver that writes dummies after the check leaves no page of a frame that it has taken stale", () => {
  assert.equal(decide("dummy-write-after", { hazard: "invisible-dma" }).verdict, "safe");
  assert.equal(decide("blind", { hazard: "invisible-dma" }).verdict, "unsafe");
});

test("dummy writes after the check do no harm to an order that is safe without them", () => {
  const { verdict, schedule } = decide("dummy-write-after", {
    change: inOrder(stopDevice, pause, saveDevice, everything),
  });
  assert.equal(verdict, "safe", schedule ?? "");
});

test("a driver looks at its buffers before it drops its rings: without them the guest reads a damaged frame", () => {
  for (const change of [
    carryingNothing,
    (experiment) => withDummyWrites(carryingNothing(experiment)),
  ] satisfies Change[]) {
    const { verdict, violation } = decide("reinit", { change, excuses: [...ofDroppedRings, "check-to-write-window"] });
    assert.equal(verdict, "unsafe");
    assert.equal(violation?.property, "progress", violation?.sentence ?? "no violation");
  }
});

test("if the buffers come along, a driver that starts over takes no harm by rings that come as they are", () => {
  const change = inOrder(pause, stopTransmit, saveDevice, everything);
  const { verdict, schedule } = decide("reinit", { change, excuses: ["done-in-dropped-ring"] });
  assert.equal(verdict, "safe", schedule ?? "");
});

test("a ring on a single page has holes, too, if the page is copied in parts upwards", () => {
  assert.equal(decide("rings-first-as-stated", { hazard: "ring-hole" }, { ringPages: 1 }).verdict, "unsafe");
});
