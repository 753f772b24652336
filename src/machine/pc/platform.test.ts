import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeCpu } from "./fake-cpu.fixture.ts";
import { mendHotPlug } from "./platform.ts";

test("the hot-plug registers read as zero, so that no card is ejected", () => {
  const cpu = new FakeCpu();
  mendHotPlug(cpu.asCpu);
  for (const port of [0xae00, 0xae04, 0xae08, 0xae0c]) assert.equal(cpu.reads.get(port)?.(port), 0);
});

test("a one written to a general-purpose event status bit clears it, and nothing sets it", () => {
  const cpu = new FakeCpu();
  mendHotPlug(cpu.asCpu);
  cpu.acpi.gpe.set([0b1010, 0xff]);
  cpu.writes.get(0xafe0)?.(0b0110);
  cpu.writes.get(0xafe1)?.(0x0f);
  assert.deepEqual([...cpu.acpi.gpe], [0b1000, 0xf0, 0, 0]);
});
