// Orders of moving that are nearly right: each is found out, which shows that the tests of the right ones can fail.
import assert from "node:assert/strict";
import { test } from "node:test";
import { quiesce } from "../../src/strategy/quiesce.ts";
import { deviceLog } from "../../src/strategy/device-log.ts";
import { reinit } from "../../src/strategy/reinit.ts";
import { ringsFirst } from "../../src/strategy/rings-first.ts";
import type { Command, PageSource, Strategy } from "../../src/strategy/strategy.ts";
import { framesOnTheWire, trouble } from "./checks.ts";
import { guestKinds } from "./guests.ts";
import { Scene, type MoveOptions } from "./move.ts";

const pause: Command = { kind: "pause-vcpus" };
const stopDevice: Command = { kind: "stop-device" };
const stopTransmit: Command = { kind: "stop-transmit" };
const saveDevice: Command = { kind: "save-device" };
const cutRings: Command = { kind: "cut-rings" };
const copy = (...pages: PageSource[]): Command => ({ kind: "copy", pages });

const inOrder = (strategy: Strategy, ...switchover: Command[]): Strategy => ({ ...strategy, switchover });

/** Takes a source of pages away everywhere. */
function without(strategy: Strategy, source: PageSource): Strategy {
  const preCopy = strategy.preCopy.filter((log) => log !== source);
  const switchover = strategy.switchover.map((command) =>
    command.kind === "copy" ? copy(...command.pages.filter((pages) => pages !== source)) : command,
  );
  return { ...strategy, preCopy, switchover };
}

/** Without the engine's own account of pages that it left out of a round, which would make good for some mistakes. */
const sendingAll = (strategy: Strategy): Strategy => ({ ...strategy, skipsMappedInPreCopy: false });

interface Mutation {
  readonly strategy: Strategy;
  /** Hazards of which the audit must name one. */
  readonly hazards: readonly string[];
  readonly prepare?: NonNullable<MoveOptions["prepare"]>;
}

const mutations: Readonly<Record<string, Mutation>> = {
  "rings-first that forgets released pages": {
    strategy: sendingAll(without(ringsFirst, "released")),
    hazards: ["released-since"],
  },
  "rings-first that forgets mapped pages": {
    strategy: without(ringsFirst, "mapped"),
    hazards: ["read-ahead", "shared-page"],
  },
  "rings-first that forgets what the CPU wrote": {
    strategy: without(ringsFirst, "cpu-dirty"),
    hazards: ["stale-cpu-page"],
  },
  "rings-first with the buffers first": {
    strategy: inOrder(ringsFirst, pause, stopTransmit, saveDevice, ringsFirst.switchover[4] ?? pause, cutRings),
    hazards: ["read-ahead"],
  },
  "rings-first with the head from the register": {
    strategy: { ...ringsFirst, resume: "as-saved" },
    hazards: ["head-ahead", "head-behind"],
  },
  "rings-first that copies rings as it copies pages": {
    strategy: inOrder(ringsFirst, pause, stopTransmit, saveDevice, copy("rings", "mapped", "released", "cpu-dirty")),
    hazards: ["half-frame", "head-behind", "ring-hole"],
  },
  "rings-first that cuts before the pause": {
    strategy: inOrder(ringsFirst, saveDevice, cutRings, pause, stopTransmit, ringsFirst.switchover[4] ?? pause),
    hazards: ["stale-descriptor", "head-ahead", "head-behind"],
  },
  "rings-first that saves the device before the pause": {
    strategy: inOrder(
      ringsFirst,
      saveDevice,
      pause,
      stopTransmit,
      cutRings,
      copy("rings", "mapped", "released", "cpu-dirty"),
    ),
    hazards: ["register-mismatch", "repeated-completion", "tx-head-behind"],
  },
  "rings-first that saves the device before transmit stops": {
    strategy: inOrder(
      ringsFirst,
      pause,
      saveDevice,
      stopTransmit,
      cutRings,
      copy("rings", "mapped", "released", "cpu-dirty"),
    ),
    hazards: ["repeated-completion"],
  },
  "rings-first that lets transmit go on": {
    strategy: inOrder(ringsFirst, pause, saveDevice, cutRings, copy("rings", "mapped", "released", "cpu-dirty")),
    hazards: ["repeated-completion", "tx-head-behind"],
  },
  "rings-first that forgets the interrupts": {
    strategy: ringsFirst,
    hazards: ["lost-interrupt"],
    prepare: (vm) => {
      vm.vf.raiseAllEnabled = () => {};
      return vm;
    },
  },
  "quiesce that stops nothing": {
    strategy: inOrder(quiesce, pause, saveDevice, copy("rings", "mapped", "released", "cpu-dirty")),
    hazards: ["head-behind", "half-frame"],
  },
  "quiesce that stops the device last": {
    strategy: inOrder(quiesce, pause, copy("rings", "mapped", "released", "cpu-dirty"), stopDevice, saveDevice),
    hazards: ["head-ahead", "read-ahead"],
  },
  "quiesce that saves the device before it stops": {
    strategy: inOrder(quiesce, saveDevice, stopDevice, pause, copy("rings", "mapped", "released", "cpu-dirty")),
    hazards: ["head-behind", "register-mismatch"],
  },
  "quiesce that copies before the pause": {
    strategy: inOrder(quiesce, stopDevice, copy("rings", "mapped", "released", "cpu-dirty"), pause, saveDevice),
    hazards: ["stale-cpu-page", "stale-descriptor"],
  },
  "quiesce that forgets the rings": {
    strategy: sendingAll(without(quiesce, "rings")),
    hazards: ["head-ahead", "stale-descriptor", "lost-completion"],
  },
  "quiesce that forgets released pages": {
    strategy: sendingAll(without(quiesce, "released")),
    hazards: ["released-since"],
  },
  "device-log that stops nothing": {
    strategy: inOrder(deviceLog, pause, saveDevice, copy("cpu-dirty", "device-dirty")),
    hazards: ["head-behind", "read-ahead", "half-frame"],
  },
  "device-log that looks at the log before it stops": {
    strategy: inOrder(deviceLog, copy("device-dirty"), stopDevice, pause, saveDevice, copy("cpu-dirty")),
    hazards: ["head-ahead", "invisible-dma", "read-ahead"],
  },
  "device-log that looks at the log in pre-copy only": {
    strategy: inOrder(deviceLog, stopDevice, pause, saveDevice, copy("cpu-dirty")),
    hazards: ["head-ahead", "invisible-dma", "read-ahead"],
  },
  "reinit that carries the rings": {
    strategy: inOrder(reinit, pause, stopTransmit, saveDevice, copy("rings", "mapped", "released", "cpu-dirty")),
    hazards: ["done-in-dropped-ring"],
  },
  "reinit that forgets mapped pages": {
    strategy: without(reinit, "mapped"),
    hazards: ["shared-page", "invisible-dma"],
  },
};

const worlds = 100;

for (const [name, { strategy, hazards, prepare }] of Object.entries(mutations)) {
  test(`${name} is found out within ${worlds} worlds`, async () => {
    const found = new Set<string>();
    for (let seed = 1; seed <= worlds; seed++) {
      const scene = await Scene.begin(seed, guestKinds.toy());
      await scene.move({ strategy, ...(prepare === undefined ? {} : { prepare }) });
      for (const hazard of Object.keys(scene.verdict(strategy).hazards)) found.add(hazard);
      if (hazards.some((hazard) => found.has(hazard))) return;
    }
    assert.fail(`of ${hazards.join(", ")} none was found, but ${[...found].join(", ") || "nothing"}`);
  });
}

test("a guest whose image is corrupt in these ways notices: wrong frames, queues that hang, frames sent twice", async () => {
  const noticed = { wrongFrames: 0, hangs: 0, sentTwice: 0 };
  for (const name of ["rings-first with the head from the register", "device-log that stops nothing"]) {
    const mutation = mutations[name];
    assert.ok(mutation !== undefined);
    for (let seed = 1; seed <= 40; seed++) {
      const scene = await Scene.begin(seed, guestKinds.toy());
      await scene.move(mutation);
      assert.ok(scene.arrival !== undefined);
      await scene.world.settle();
      scene.world.receiver = scene.arrival;
      if (trouble(scene.world, scene.arrival) !== undefined) noticed.hangs++;
      const { corrupt, repeated } = scene.arrival.machine.counters;
      if (corrupt + repeated > 0) noticed.wrongFrames++;
      if (framesOnTheWire(scene.world.hosts).twiceOrMore > 0) noticed.sentTwice++;
    }
  }
  assert.ok(noticed.wrongFrames > 0 && noticed.hangs > 0 && noticed.sentTwice > 0, JSON.stringify(noticed));
});
