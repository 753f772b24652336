// The main job on a real Linux: each strategy moves the guest while it downloads, through the program itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertConsistent, assertCorrupt, migrate } from "./real-migrations.fixture.ts";

for (const strategy of ["rings-first", "quiesce", "device-log", "reinit"]) {
  test(`with ${strategy} a real Linux moves while it downloads, and no byte is lost`, async () => {
    const migrated = await migrate("--strategy", strategy, "--seed", "7");
    assertConsistent(migrated, strategy);
    assert.equal(migrated.report.methods.cpuDirtyLog, "wasm");
  });
}

test("with blind the same guest arrives corrupt, and the report names the stale frames", async () => {
  assertCorrupt(await migrate("--strategy", "blind", "--seed", "7"));
});
