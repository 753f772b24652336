import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { FakeCpu } from "./fake-cpu.fixture.ts";
import { putTimersOnClock, timersRestored } from "./timers.ts";

interface Bench {
  readonly cpu: FakeCpu;
  readonly machine: ManualClock;
  readonly wall: ManualClock;
}

function bench(): Bench {
  const cpu = new FakeCpu();
  const machine = new ManualClock(50);
  const wall = new ManualClock(Date.UTC(2026, 10, 23, 12, 0, 0));
  putTimersOnClock(cpu.asCpu, { machine, wall });
  return { cpu, machine, wall };
}

const clockRegister = (cpu: FakeCpu, index: number): void => {
  cpu.rtc.cmos_index = index;
};

test("the PIT's counters run on machine time, whatever time their callers bring", () => {
  const { cpu, machine } = bench();
  assert.equal(cpu.pit.get_counter_value(0, 999_999), 50);
  assert.equal(cpu.pit.did_rollover(0, 999_999), false);
  machine.advance(100);
  assert.equal(cpu.pit.did_rollover(0, 0), true);
});

test("a counter of the PIT starts at machine time, and a write that does not start it leaves its start alone", () => {
  const { cpu } = bench();
  cpu.pit.counter_start_time[1] = 7;
  cpu.pit.counter_write(1, 0);
  assert.equal(cpu.pit.counter_start_time[1], 7);
  cpu.pit.counter_write(1, 1);
  assert.equal(cpu.pit.counter_start_time[1], 50);
});

test("port 0x61 toggles with machine time and shows the output of counter 2", () => {
  const { cpu, machine } = bench();
  const read = (): number => cpu.reads.get(0x61)?.(0x61) ?? -1;
  const before = read();
  machine.advance(0.015);
  assert.equal((read() ^ before) & 0x10, 0x10);
  machine.advance(100);
  assert.equal(read() & 0x20, 0x20);
});

test("the power management timer counts at 3.579545 MHz of machine time, and a restore causes no carry", () => {
  const { cpu, machine } = bench();
  const before = cpu.acpi.get_timer();
  machine.advance(1000);
  assert.ok(Math.abs(cpu.acpi.get_timer() - before - 3_579_545) <= 1);
  timersRestored(cpu.asCpu);
  assert.equal(cpu.acpi.last_timer, cpu.acpi.get_timer());
});

test("the real-time clock shows the host's time of day", () => {
  const { cpu, wall } = bench();
  wall.advance(86_400_000);
  cpu.rtc.timer();
  assert.equal(cpu.rtc.rtc_time, wall.nowMs());
});

test("the update-in-progress bit comes and goes with machine time", () => {
  const { cpu, machine } = bench();
  clockRegister(cpu, 0x0a);
  const read = (): number => cpu.reads.get(0x71)?.(0x71) ?? -1;
  assert.equal(read() & 0x80, 0);
  machine.advance(949.5);
  assert.equal(read() & 0x80, 0x80);
  clockRegister(cpu, 0x0d);
  assert.equal(read(), 0x55);
});

test("a periodic interrupt long overdue comes once, and then at its period; a clock set back does not silence it", () => {
  const { cpu, wall } = bench();
  clockRegister(cpu, 0x0b);
  cpu.rtc.periodic_interrupt_time = 2;
  cpu.writes.get(0x71)?.(0x40);
  wall.advance(3 * 86_400_000 + 1);
  assert.equal(cpu.rtc.timer(), 1);
  assert.equal(cpu.rtc.timer(), 1);
  assert.deepEqual(cpu.raised, [8]);
  assert.equal(cpu.rtc.cmos_c, 0xc0);
  wall.advance(1);
  cpu.rtc.timer();
  assert.deepEqual(cpu.raised, [8, 8]);
  wall.advance(-3_600_000);
  assert.equal(cpu.rtc.timer(), 2);
  wall.advance(2);
  cpu.rtc.timer();
  assert.deepEqual(cpu.raised, [8, 8, 8]);
});

test("an alarm is due at its next time of day, today or tomorrow, and comes once", () => {
  const { cpu, wall } = bench();
  cpu.rtc.cmos_data.set([30, 1, 12], 1);
  [cpu.rtc.cmos_data[1], cpu.rtc.cmos_data[3], cpu.rtc.cmos_data[5]] = [30, 1, 12];
  clockRegister(cpu, 0x0b);
  cpu.writes.get(0x71)?.(0x20);
  assert.equal(cpu.rtc.next_interrupt_alarm, Date.UTC(2026, 10, 23, 12, 1, 30));
  wall.advance(90_000);
  cpu.rtc.timer();
  cpu.rtc.timer();
  assert.deepEqual(cpu.raised, [8]);
  cpu.writes.get(0x71)?.(0x20);
  assert.equal(cpu.rtc.next_interrupt_alarm, Date.UTC(2026, 10, 24, 12, 1, 30));
});

test("an update interrupt comes each second", () => {
  const { cpu, wall } = bench();
  clockRegister(cpu, 0x0b);
  cpu.writes.get(0x71)?.(0x10);
  for (let second = 0; second < 3; second++) {
    assert.equal(cpu.rtc.timer(), 100);
    wall.advance(1000);
  }
  assert.deepEqual(cpu.raised, [8, 8, 8]);
});
