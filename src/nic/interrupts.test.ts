import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { InterruptUnit } from "./interrupts.ts";
import {
  REGISTER_COUNT,
  VTEIAC,
  VTEIAM,
  VTEICR,
  VTEIMS,
  VTEITR,
  VTEITR_CNT_WDIS,
  VTIVAR,
  VTIVAR_MISC,
  VTIVAR_VALID,
} from "./registers.ts";

interface Bench {
  readonly unit: InterruptUnit;
  readonly registers: Uint32Array;
  readonly clock: ManualClock;
  readonly sink: { enabled: boolean; readonly signalled: number[] };
  readonly set: (offset: number, value: number) => void;
}

/** Queue 0 receives and transmits on vector 0, queue 1 on vector 1, the mailbox has vector 2. */
function bench(): Bench {
  const registers = new Uint32Array(REGISTER_COUNT);
  const clock = new ManualClock(1000);
  const signalled: number[] = [];
  const sink = { enabled: true, signalled, signal: (vector: number): void => void signalled.push(vector) };
  const unit = new InterruptUnit({ registers, clock, sink });
  const set = (offset: number, value: number): void => {
    registers[offset >>> 2] = value;
    unit.evaluate();
  };
  set(VTIVAR(0), 0x8181_8080);
  set(VTIVAR_MISC, VTIVAR_VALID | 2);
  return { unit, registers, clock, sink, set };
}

test("a cause goes to the vector its VTIVAR entry names, and nowhere without a valid entry", () => {
  const { unit, sink, registers, set } = bench();
  set(VTEIMS, 7);
  unit.receiveCause(0);
  unit.transmitCause(1);
  unit.mailboxCause();
  assert.deepEqual(sink.signalled, [0, 1, 2]);
  unit.receiveCause(2);
  set(VTIVAR_MISC, 2);
  unit.mailboxCause();
  assert.deepEqual(sink.signalled, [0, 1, 2]);
  set(VTIVAR(1), VTIVAR_VALID | 3);
  unit.receiveCause(2);
  assert.equal(registers[VTEICR >>> 2], 7);
});

test("a masked cause waits in VTEICR and fires when it is unmasked", () => {
  const { unit, sink, registers, set } = bench();
  unit.receiveCause(0);
  assert.equal(registers[VTEICR >>> 2], 1);
  assert.deepEqual(sink.signalled, []);
  set(VTEIMS, 1);
  assert.deepEqual(sink.signalled, [0]);
});

test("with auto-clear and auto-mask a message clears its cause and masks its vector, as ixgbevf expects", () => {
  const { unit, sink, registers, set } = bench();
  set(VTEIAC, 7);
  set(VTEIAM, 7);
  set(VTEIMS, 7);
  unit.receiveCause(0);
  assert.deepEqual(sink.signalled, [0]);
  assert.equal(registers[VTEICR >>> 2], 0);
  assert.equal(registers[VTEIMS >>> 2], 6);
  unit.receiveCause(0);
  assert.deepEqual(sink.signalled, [0]);
  set(VTEIMS, 7);
  assert.deepEqual(sink.signalled, [0, 0]);
});

test("without auto-clear a standing cause sends one message until it falls and rises again", () => {
  const { unit, sink, set } = bench();
  set(VTEIMS, 7);
  unit.receiveCause(0);
  unit.receiveCause(0);
  assert.deepEqual(sink.signalled, [0]);
  set(VTEICR, 0);
  unit.receiveCause(0);
  assert.deepEqual(sink.signalled, [0, 0]);
});

test("the throttle spaces messages by its interval and holds the one that came early", () => {
  const { unit, sink, clock, set } = bench();
  set(VTEIAC, 7);
  set(VTEIMS, 7);
  // The driver's 20K_ITR: 200 is 50 us.
  set(VTEITR(0), 200);
  let deadlines = 0;
  unit.onDeadline = () => deadlines++;
  unit.receiveCause(0);
  assert.equal(unit.deadlineMs(), Infinity);
  unit.receiveCause(0);
  unit.receiveCause(0);
  assert.deepEqual(sink.signalled, [0]);
  assert.equal(deadlines, 1);
  assert.equal(unit.deadlineMs(), 1000.05);
  clock.advance(0.049);
  unit.evaluate();
  assert.deepEqual(sink.signalled, [0]);
  clock.advance(0.002);
  unit.evaluate();
  assert.deepEqual(sink.signalled, [0, 0]);
  assert.equal(unit.deadlineMs(), Infinity);
});

test("vectors are throttled apart from each other", () => {
  const { unit, sink, set } = bench();
  set(VTEIAC, 7);
  set(VTEIMS, 7);
  set(VTEITR(0), 0xff8);
  unit.receiveCause(0);
  unit.receiveCause(0);
  unit.receiveCause(1);
  unit.receiveCause(1);
  assert.deepEqual(sink.signalled, [0, 1, 1]);
});

test("writing VTEITR lets the held message go at once unless CNT_WDIS keeps the counter", () => {
  const { unit, sink, registers, set } = bench();
  set(VTEIAC, 7);
  set(VTEIMS, 7);
  set(VTEITR(0), 0xff8);
  unit.receiveCause(0);
  unit.receiveCause(0);
  unit.throttleWritten(0, VTEITR_CNT_WDIS | 0x10);
  assert.deepEqual(sink.signalled, [0]);
  registers[VTEITR(0) >>> 2] = 0x10;
  unit.throttleWritten(0, 0x10);
  assert.deepEqual(sink.signalled, [0, 0]);
});

test("while MSI-X is off causes are kept and fire when it comes on", () => {
  const { unit, sink, registers, set } = bench();
  sink.enabled = false;
  set(VTEIMS, 7);
  unit.mailboxCause();
  assert.deepEqual(sink.signalled, []);
  assert.equal(registers[VTEICR >>> 2], 4);
  sink.enabled = true;
  unit.evaluate();
  assert.deepEqual(sink.signalled, [2]);
});

test("raising all enabled vectors fires each mapped vector once and leaves masked ones pending", () => {
  const { unit, sink, registers, set } = bench();
  set(VTEIAC, 7);
  set(VTEIAM, 7);
  set(VTEIMS, 5);
  unit.raiseAllEnabled();
  assert.deepEqual(sink.signalled, [0, 2]);
  assert.equal(registers[VTEICR >>> 2], 2);
});

test("held messages and asserted causes survive save and restore onto another clock", () => {
  const { unit, registers, set } = bench();
  set(VTEIAC, 1);
  set(VTEIMS, 7);
  set(VTEITR(0), 200);
  unit.receiveCause(1);
  unit.receiveCause(0);
  unit.receiveCause(0);
  const other = bench();
  other.clock.advance(123_456);
  other.registers.set(registers);
  other.unit.restore(unit.save());
  other.unit.evaluate();
  assert.deepEqual(other.sink.signalled, []);
  assert.deepEqual(other.unit.save(), unit.save());
  other.clock.advance(0.051);
  other.unit.evaluate();
  assert.deepEqual(other.sink.signalled, [0]);
});

test("whatever the guest does with masks and throttles, a cause is pending or was signalled after it rose", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("cause" as const), vector: fc.nat(2) }),
    fc.record({ kind: fc.constant("mask" as const), bits: fc.nat(7) }),
    fc.record({ kind: fc.constant("throttle" as const), vector: fc.nat(2), value: fc.constantFrom(0, 8, 200) }),
    fc.record({ kind: fc.constant("time" as const), ms: fc.constantFrom(0.001, 0.01, 1) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { unit, sink, clock, registers, set } = bench();
      set(VTEIAC, 7);
      const owed = new Set<number>();
      for (const action of steps) {
        const before = sink.signalled.length;
        if (action.kind === "cause") {
          owed.add(action.vector);
          unit.setCauses(1 << action.vector);
        } else if (action.kind === "mask") set(VTEIMS, action.bits);
        else if (action.kind === "throttle") {
          registers[VTEITR(action.vector) >>> 2] = action.value;
          unit.throttleWritten(action.vector, action.value);
        } else clock.advance(action.ms);
        for (const vector of sink.signalled.slice(before)) owed.delete(vector);
        const pending = registers[VTEICR >>> 2] ?? 0;
        assert.deepEqual(
          [...owed].sort((a, b) => a - b),
          [0, 1, 2].filter((v) => (pending & (1 << v)) !== 0),
        );
      }
      set(VTEIMS, 7);
      clock.advance(10);
      unit.evaluate();
      assert.equal(registers[VTEICR >>> 2], 0);
      assert.equal(unit.deadlineMs(), Infinity);
    }),
    { seed: 82_599 },
  );
});
