// The hazards of the design, each by its name: an order that runs into it, found with its shortest schedule, and the
// mended order, which passes under the same assumptions and bounds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultAssumptions, defaultBounds, type Assumptions, type Bounds } from "../../src/explore/assumptions.ts";
import { explore, type Explored } from "../../src/explore/explore.ts";
import {
  copy,
  everything,
  inOrder,
  pause,
  saveDevice,
  stopDevice,
  stopTransmit,
  without,
  withStrategy,
  type Change,
} from "./changes.ts";

interface Order {
  readonly strategy: string;
  readonly change?: Change;
  readonly assumptions?: Partial<Assumptions>;
}

interface Specimen {
  readonly fails: Order;
  readonly passes: Order;
  readonly assumptions?: Partial<Assumptions>;
  readonly bounds?: Partial<Bounds>;
}

/** Rings go as plain pages, in ascending order. */
const plainRings = inOrder(pause, stopTransmit, saveDevice, copy("rings"), copy("mapped", "released", "cpu-dirty"));

const specimens: Readonly<Record<string, Specimen>> = {
  "invisible-dma": {
    fails: { strategy: "device-log", change: inOrder(stopDevice, pause, saveDevice, copy("cpu-dirty")) },
    passes: { strategy: "device-log" },
  },
  "dummy-write-race": {
    fails: { strategy: "dummy-write-before", change: inOrder(stopDevice, pause, saveDevice, everything) },
    passes: { strategy: "dummy-write-after", change: inOrder(stopDevice, pause, saveDevice, everything) },
  },
  "check-to-write-window": {
    // Even with the device stopped and the rings in hand: the frame whose dummy write is yet to come.
    fails: {
      strategy: "dummy-write-after",
      change: inOrder(stopDevice, pause, saveDevice, copy("rings", "cpu-dirty")),
    },
    passes: { strategy: "dummy-write-after", change: inOrder(stopDevice, pause, saveDevice, everything) },
  },
  "read-ahead": { fails: { strategy: "blind" }, passes: { strategy: "rings-first" } },
  "ring-hole": { fails: { strategy: "rings-first", change: plainRings }, passes: { strategy: "rings-first" } },
  "torn-descriptor": {
    fails: { strategy: "rings-first", change: plainRings },
    passes: { strategy: "rings-first" },
    assumptions: { atomicBytes: 8 },
  },
  "half-frame": { fails: { strategy: "rings-first", change: plainRings }, passes: { strategy: "rings-first" } },
  "released-since": {
    fails: { strategy: "rings-first", change: without("released") },
    passes: { strategy: "rings-first" },
    bounds: { frames: 3 },
  },
  "shared-page": {
    fails: { strategy: "rings-first", change: without("mapped") },
    passes: { strategy: "rings-first" },
    assumptions: { sharedPages: true },
  },
  "head-ahead": {
    fails: { strategy: "rings-first", change: withStrategy((strategy) => ({ ...strategy, resume: "as-saved" })) },
    passes: { strategy: "rings-first" },
  },
  "lost-interrupt": {
    fails: { strategy: "rings-first", change: (experiment) => ({ ...experiment, raisesInterrupts: false }) },
    passes: { strategy: "rings-first" },
  },
  "late-write": {
    fails: { strategy: "quiesce", assumptions: { drain: false } },
    passes: { strategy: "quiesce" },
    assumptions: { inFlight: 2 },
  },
  "relaxed-ordering": {
    fails: { strategy: "rings-first" },
    passes: { strategy: "rings-first", assumptions: { relaxedDescriptors: false } },
    assumptions: { inFlight: 2, relaxedDescriptors: true },
  },
};

const run = (order: Order, { assumptions, bounds }: Specimen, hazard?: string): Explored =>
  explore(
    {
      strategy: order.strategy,
      assumptions: { ...defaultAssumptions, ...assumptions, ...order.assumptions },
      bounds: { ...defaultBounds, frames: 2, ...bounds },
    },
    { ...(order.change === undefined ? {} : { change: order.change }), ...(hazard === undefined ? {} : { hazard }) },
  );

for (const [hazard, specimen] of Object.entries(specimens)) {
  test(`${hazard}: the specimen fails by it, the mended order does not fail`, () => {
    const failed = run(specimen.fails, specimen, hazard);
    assert.equal(failed.verdict, "unsafe");
    assert.ok(failed.violation?.hazards.includes(hazard), failed.violation?.hazards.join() ?? "no violation");
    const passed = run(specimen.passes, specimen);
    assert.equal(passed.verdict, "safe", `${passed.violation?.sentence ?? ""} ${passed.schedule ?? ""}`);
  });
}
