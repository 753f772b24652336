// A short fuzz of the readers of QEMU's migration on every test run; `node test/fuzz/qemu.ts` is the long one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzConsumer } from "./fuzz-consumer.ts";
import { qemuMemory, qemuTargetNames, qemuTargets } from "./qemu-consumers.ts";

for (const name of qemuTargetNames) {
  test(`no mutated stream makes the reader of a ${name} throw anything but a typed error, hang or take much memory`, async () => {
    const { mutate, ...target } = qemuTargets(7)[name];
    const report = await fuzzConsumer(target.make, target.streams, {
      seed: 20_261_123,
      inputs: 1500,
      memory: qemuMemory,
      ...(mutate === undefined ? {} : { mutate }),
    });
    // A fuzz that never breaks anything, or always at once, proves nothing.
    const outcomes = name === "migration-stream" ? ["qemu-stream-unknown"] : [];
    for (const outcome of ["taken", "incomplete", ...outcomes]) {
      assert.ok((report.outcomes.get(outcome) ?? 0) > 50, `${outcome} came ${report.outcomes.get(outcome) ?? 0} times`);
    }
  });
}
