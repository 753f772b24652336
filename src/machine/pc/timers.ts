// Puts v86's timer devices on the machine's clock: PIT, ACPI power management timer, real-time clock, per instance.
import type { Clock } from "../../base/clock.ts";
import type { V86Cpu, V86Rtc } from "./v86-internals.ts";

/*
 * The processor's side (time stamp counter, APIC timer, length of a tick) reads time through an import of the wasm,
 * which is given to it at instantiation. The devices in JavaScript read two globals, v86.microtick and Date.now, which
 * all machines of a process share; so each of their functions that takes or keeps a time is replaced on the instance.
 */

/** Counts of the ACPI power management timer per ms (ACPI specification, 4.8.2.1). */
const pmTimerPerMs = 3579.545;

export interface MachineTimes {
  /** Time of the machine, for all that measures intervals. */
  readonly machine: Clock;
  /** Milliseconds since 1970, for the real-time clock. */
  readonly wall: Clock;
}

export function putTimersOnClock(cpu: V86Cpu, times: MachineTimes): void {
  putPitOnClock(cpu, times.machine);
  putPowerManagementTimerOnClock(cpu, times.machine);
  putRealTimeClockOnClock(cpu, times);
}

/** After a restore: the timer's last reading, which v86 keeps to notice a carry, is not part of the saved state. */
export function timersRestored(cpu: V86Cpu): void {
  const { acpi } = cpu.devices;
  acpi.last_timer = acpi.get_timer(0);
}

function putPitOnClock({ io, devices: { pit } }: V86Cpu, clock: Clock): void {
  const counterValue = pit.get_counter_value.bind(pit);
  const didRollover = pit.did_rollover.bind(pit);
  const counterWrite = pit.counter_write.bind(pit);
  pit.get_counter_value = (counter) => counterValue(counter, clock.nowMs());
  pit.did_rollover = (counter) => didRollover(counter, clock.nowMs());
  pit.counter_write = (counter, value) => {
    const before = pit.counter_start_time[counter] ?? 0;
    pit.counter_start_time[counter] = Number.NaN;
    counterWrite(counter, value);
    const hasStarted = !Number.isNaN(pit.counter_start_time[counter]);
    pit.counter_start_time[counter] = hasStarted ? clock.nowMs() : before;
  };
  // Port 0x61: bit 4 toggles with each refresh of memory, every 15 µs; bit 5 is the output of counter 2.
  io.register_read(0x61, pit, () => {
    const refresh = Math.floor(clock.nowMs() / 0.015) % 2;
    return (refresh << 4) | (pit.did_rollover(2, 0) ? 1 << 5 : 0);
  });
}

function putPowerManagementTimerOnClock({ devices: { acpi } }: V86Cpu, clock: Clock): void {
  acpi.get_timer = () => Math.floor(clock.nowMs() * pmTimerPerMs);
}

// Registers A, B and C of the MC146818 (datasheet, "Registers").
const registerA = 0x0a;
const registerB = 0x0b;
const updateInProgress = 0x80;
const cause = { update: 0x10, alarm: 0x20, periodic: 0x40, any: 0x80 } as const;
const realTimeClockInterrupt = 8;
const dayMs = 86_400_000;

/**
 * The real-time clock tells the host's time of day, also after a migration or a snapshot: that is what a clock with a
 * battery is for, and how a guest whose own time has stood still can be set right (`hwclock --hctosys`). Its interrupts
 * are due at times of day; one that is long overdue comes once, not once for each period that has passed.
 */
function putRealTimeClockOnClock(cpu: V86Cpu, times: MachineTimes): void {
  const { io } = cpu;
  const { rtc } = cpu.devices;
  const portRead = rtc.cmos_port_read.bind(rtc);
  const portWrite = rtc.cmos_port_write.bind(rtc);
  rtc.rtc_time = times.wall.nowMs();
  rtc.timer = () => raiseDueInterrupts(cpu, times.wall.nowMs());
  io.register_read(0x71, rtc, () => {
    if (rtc.cmos_index !== registerA) return portRead();
    return rtc.cmos_a | (times.machine.nowMs() % 1000 >= 999 ? updateInProgress : 0);
  });
  io.register_write(0x71, rtc, (value) => {
    portWrite(value);
    if (rtc.cmos_index !== registerB) return;
    const now = times.wall.nowMs();
    if ((rtc.cmos_b & cause.periodic) !== 0) rtc.next_interrupt = now;
    if ((rtc.cmos_b & cause.alarm) !== 0) rtc.next_interrupt_alarm = nextAlarm(rtc, now);
    if ((rtc.cmos_b & cause.update) !== 0) rtc.update_interrupt_time = now;
  });
}

function nextAlarm(rtc: V86Rtc, now: number): number {
  const [seconds, minutes, hours] = [1, 3, 5].map((index) => rtc.decode_time(rtc.cmos_data[index] ?? 0));
  const midnight = Math.floor(now / dayMs) * dayMs;
  const today = midnight + (((hours ?? 0) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0)) * 1000;
  return today > now ? today : today + dayMs;
}

/** Raises the real-time clock's interrupt for all that is due. Returns the ms until the next, at most 100. */
function raiseDueInterrupts(cpu: V86Cpu, now: number): number {
  const { rtc } = cpu.devices;
  rtc.rtc_time = now;
  rtc.last_update = now;
  let raised = 0;
  let wait = 100;
  if (rtc.periodic_interrupt) {
    const period = rtc.periodic_interrupt_time;
    // A host whose time of day was set back must not silence the guest's interrupt.
    if (rtc.next_interrupt > now + period) rtc.next_interrupt = now + period;
    if (rtc.next_interrupt <= now) {
      raised |= cause.periodic;
      rtc.next_interrupt += period * (Math.floor((now - rtc.next_interrupt) / period) + 1);
    }
    wait = Math.min(wait, rtc.next_interrupt - now);
  }
  if (rtc.next_interrupt_alarm !== 0 && rtc.next_interrupt_alarm <= now) {
    raised |= cause.alarm;
    rtc.next_interrupt_alarm = 0;
  }
  if (rtc.update_interrupt) {
    if (rtc.update_interrupt_time <= now) {
      raised |= cause.update;
      rtc.update_interrupt_time = now + 1000;
    }
    wait = Math.min(wait, rtc.update_interrupt_time - now);
  }
  if (raised !== 0) {
    rtc.cmos_c |= raised | cause.any;
    cpu.device_raise_irq(realTimeClockInterrupt);
  }
  return wait;
}
