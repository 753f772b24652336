import assert from "node:assert/strict";
import { test } from "node:test";
import { checkedInternals, missingInternals } from "./v86-internals.ts";

test("an object that lacks what we rely on is refused with the names of it", () => {
  assert.throws(() => checkedInternals({ v86: { cpu: { io: {} } } }), { code: "emulator-unsupported" });
  const missing = missingInternals({
    v86: { run: () => undefined, running: false, cpu: { reg32: { byteOffset: 60 } } },
  });
  assert.ok(missing.includes("v86.cpu.main_loop()"));
  assert.ok(missing.includes("v86.cpu.devices.pit.counter_start_time"));
  assert.ok(missing.includes("v86.cpu.reg32 at 64"));
  assert.ok(!missing.includes("v86.run()"));
});

test("no value makes the check throw", () => {
  for (const value of [undefined, null, 1, "v86", [], { v86: null }]) assert.notDeepEqual(missingInternals(value), []);
});
