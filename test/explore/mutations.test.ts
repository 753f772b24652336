// The shipped orders, broken in ways that an engineer might: the explorer finds every one, with its shortest schedule.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultAssumptions, defaultBounds, type Assumptions, type Bounds } from "../../src/explore/assumptions.ts";
import { explore } from "../../src/explore/explore.ts";
import {
  copy,
  cutRings,
  everything,
  inOrder,
  pause,
  saveDevice,
  stopDevice,
  stopTransmit,
  without,
  withoutPage,
  withoutPostings,
  withStrategy,
  type Change,
} from "./changes.ts";

/** Where the first frame to come is put. */
const bufferOfFirstFrame = 19;

interface Mutation {
  readonly strategy: string;
  readonly change: Change;
  readonly assumptions?: Partial<Assumptions>;
  readonly bounds?: Partial<Bounds>;
  /** Hazards of which the audit names one; none if it finds nothing, and only the guest's life afterwards shows it. */
  readonly hazards: readonly string[];
}

const mutations: Readonly<Record<string, Mutation>> = {
  "rings-first that forgets released pages": {
    strategy: "rings-first",
    change: without("released"),
    bounds: { frames: 3 },
    hazards: ["released-since"],
  },
  "rings-first that forgets mapped pages": {
    strategy: "rings-first",
    change: without("mapped"),
    hazards: ["read-ahead", "invisible-dma"],
  },
  "rings-first that forgets what the CPU wrote": {
    strategy: "rings-first",
    change: without("cpu-dirty"),
    hazards: ["stale-cpu-page"],
  },
  "rings-first with the buffers first": {
    strategy: "rings-first",
    change: inOrder(pause, stopTransmit, saveDevice, everything, cutRings),
    hazards: ["read-ahead"],
  },
  "rings-first with the head from the register": {
    strategy: "rings-first",
    change: withStrategy((strategy) => ({ ...strategy, resume: "as-saved" })),
    hazards: ["head-ahead", "head-behind"],
  },
  "rings-first that copies rings as it copies pages": {
    strategy: "rings-first",
    change: inOrder(pause, stopTransmit, saveDevice, everything),
    hazards: ["half-frame", "head-behind", "ring-hole", "torn-descriptor"],
  },
  "rings-first that cuts before the pause": {
    strategy: "rings-first",
    change: inOrder(saveDevice, cutRings, pause, stopTransmit, everything),
    hazards: ["stale-descriptor", "head-ahead", "head-behind"],
  },
  "rings-first that saves the device before the pause": {
    strategy: "rings-first",
    change: inOrder(saveDevice, pause, stopTransmit, cutRings, everything),
    // The audit leaves the interrupt mask alone; it is the guest that waits for ever.
    hazards: [],
  },
  "rings-first that does not know what was posted": {
    strategy: "rings-first",
    change: withoutPostings,
    hazards: ["half-frame", "lost-descriptor-address", "head-ahead", "read-ahead", "ring-hole"],
  },
  "rings-first that leaves out a page": {
    strategy: "rings-first",
    change: withoutPage(bufferOfFirstFrame),
    hazards: ["read-ahead", "invisible-dma", "stale-cpu-page", "released-since"],
  },
  "rings-first that forgets the interrupts": {
    strategy: "rings-first",
    change: (experiment) => ({ ...experiment, raisesInterrupts: false }),
    hazards: ["lost-interrupt"],
  },
  "rings-first that lets transmit go on": {
    strategy: "rings-first",
    change: inOrder(pause, saveDevice, cutRings, everything),
    bounds: { frames: 0, application: 8 },
    hazards: ["repeated-completion", "tx-head-behind", "lost-completion"],
  },
  "quiesce that stops nothing": {
    strategy: "quiesce",
    change: inOrder(pause, saveDevice, everything),
    hazards: ["head-behind", "half-frame"],
  },
  "quiesce that stops the device last": {
    strategy: "quiesce",
    change: inOrder(pause, everything, stopDevice, saveDevice),
    hazards: ["head-ahead", "read-ahead"],
  },
  "quiesce that copies before the pause": {
    strategy: "quiesce",
    change: inOrder(stopDevice, everything, pause, saveDevice),
    hazards: ["stale-cpu-page", "stale-descriptor"],
  },
  "device-log that looks at the log before it stops": {
    strategy: "device-log",
    change: inOrder(copy("device-dirty"), stopDevice, pause, saveDevice, copy("cpu-dirty")),
    hazards: ["head-ahead", "invisible-dma", "read-ahead"],
  },
  "reinit that carries the rings": {
    strategy: "reinit",
    change: inOrder(pause, stopTransmit, saveDevice, everything),
    hazards: ["done-in-dropped-ring"],
  },
};

for (const [name, { strategy, change, assumptions, bounds, hazards }] of Object.entries(mutations)) {
  test(`${name} is unsafe`, () => {
    const question = {
      strategy,
      assumptions: { ...defaultAssumptions, ...assumptions },
      bounds: { ...defaultBounds, frames: 2, ...bounds },
    };
    const { verdict, violation, schedule } = explore(question, { change });
    assert.equal(verdict, "unsafe");
    const found = `${violation?.property}: ${violation?.hazards.join()} by ${schedule ?? ""}`;
    if (hazards.length === 0) assert.equal(violation?.property, "progress", found);
    else
      assert.ok(
        violation?.hazards.some((hazard) => hazards.includes(hazard)),
        found,
      );
  });
}
