import assert from "node:assert/strict";
import { test } from "node:test";
import { strategies, strategyByName } from "./strategies.ts";

test("a strategy whose driver must help says so in its needs, and runs only where the driver can be changed", () => {
  for (const { name, cooperation, needs, machines } of strategies) {
    const isStock = cooperation === "none";
    assert.equal(needs.includes("cooperative-driver"), !isStock, name);
    assert.deepEqual(machines, isStock ? ["linux", "qemu", "model"] : ["model"], name);
  }
});

test("every strategy pauses the CPUs, saves the device, and makes its rings' state before it sends them as pages", () => {
  for (const { name, switchover } of strategies) {
    const kinds = switchover.map(({ kind }) => kind);
    for (const kind of ["pause-vcpus", "save-device", "copy"] as const) assert.ok(kinds.includes(kind), name);
    for (const kind of ["cut-rings", "drop-rings"] as const) {
      if (kinds.includes(kind)) assert.ok(kinds.indexOf(kind) < kinds.indexOf("copy"), name);
    }
  }
});

test("strategies are found by their names, of which there are no two alike", () => {
  assert.equal(new Set(strategies.map(({ name }) => name)).size, strategies.length);
  for (const strategy of strategies) assert.equal(strategyByName(strategy.name), strategy);
  assert.throws(() => strategyByName("hope"), { code: "strategy-unknown" });
});
