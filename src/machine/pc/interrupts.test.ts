import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeCpu } from "./fake-cpu.fixture.ts";
import { PcInterrupts } from "./interrupts.ts";

const apicOf = (cpu: FakeCpu): Uint32Array => new Uint32Array(cpu.wasm_memory.buffer, cpu.get_apic_addr(), 46);

test("a message sets its vector's request bit, clears its trigger mode bit, and is taken at once", () => {
  const cpu = new FakeCpu();
  const apic = apicOf(cpu);
  apic.fill(0xffff_ffff, 32, 40);
  new PcInterrupts(cpu.asCpu, () => true).deliver(0xfee0_0000, 0, 0x61);
  assert.equal(apic[16 + 3], 1 << 1);
  assert.equal(apic[32 + 3], ~(1 << 1) >>> 0);
  assert.equal(cpu.interruptsTaken, 1);
});

test("a message that comes at a bad moment is held as its request bit", () => {
  const cpu = new FakeCpu();
  const interrupts = new PcInterrupts(cpu.asCpu, () => false);
  interrupts.deliver(0xfee0_0000, 0, 0x61);
  interrupts.deliver(0xfee0_100c, 0, 0x22);
  assert.equal(cpu.interruptsTaken, 0);
  assert.equal(apicOf(cpu)[16 + 1], 1 << 2);
  assert.equal(interrupts.delivered, 2);
});

test("messages elsewhere, of a mode that is none, or with a reserved vector are dropped and counted", () => {
  const cpu = new FakeCpu();
  const interrupts = new PcInterrupts(cpu.asCpu, () => true);
  interrupts.deliver(0xfed0_0000, 0, 0x61);
  interrupts.deliver(0xfee0_0000, 1, 0x61);
  interrupts.deliver(0xfee0_0000, 0, 0x0461);
  interrupts.deliver(0xfee0_0000, 0, 0x0f);
  interrupts.deliver(0xfee0_0000, 0, 0x0161);
  assert.deepEqual([interrupts.dropped, interrupts.delivered, cpu.interruptsTaken], [4, 1, 1]);
});
