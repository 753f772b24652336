// A register test generated from the register table: every register, every instance, every kind of access.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { makeRegisters, RegisterFile, resetRegisters } from "./register-file.ts";
import type { RegisterEffects } from "./register-file.ts";
import { RegisterEffect, registerTable } from "./register-table.ts";
import type { RegisterRow } from "./register-table.ts";
import { REGISTER_BAR_BYTES, VFFRTIMER, VFRDT, VTEICR, VTEIMC, VTEIMS } from "./registers.ts";

class RecordedEffects implements RegisterEffects {
  readonly calls: string[] = [];
  beforeRead(effect: RegisterEffect, instance: number): void {
    this.calls.push(`beforeRead ${effect} ${instance}`);
  }
  afterRead(effect: RegisterEffect, instance: number): void {
    this.calls.push(`afterRead ${effect} ${instance}`);
  }
  afterWrite(effect: RegisterEffect, instance: number, written: number): void {
    this.calls.push(`afterWrite ${effect} ${instance} ${written}`);
  }
}

interface Fixture {
  readonly file: RegisterFile;
  readonly effects: RecordedEffects;
}

function fixture(): Fixture {
  const effects = new RecordedEffects();
  return { file: new RegisterFile(makeRegisters(), effects), effects };
}

const instances = registerTable.flatMap((row) =>
  Array.from({ length: row.count }, (_, i) => ({ row, i, offset: row.offset + i * row.strideBytes })),
);

/** What the register must hold after a write, told independently of the register file. */
function expectedAfterWrite(row: RegisterRow, before: number, written: number): number {
  switch (row.kind) {
    case "plain":
      return ((before & ~row.writeMask) | (written & row.writeMask & ~row.selfClearing)) >>> 0;
    case "write-one-to-set":
      return (before | (written & row.writeMask)) >>> 0;
    case "read-to-clear":
      return (before & ~(written & row.writeMask & row.clearOnRead)) >>> 0;
    case "read-only":
    case "write-one-to-clear":
    case "trigger":
      return before;
    default:
      return row.kind satisfies never;
  }
}

test("no two registers share an offset and all lie inside the BAR", () => {
  const offsets = instances.map(({ offset }) => offset);
  assert.equal(new Set(offsets).size, offsets.length);
  assert.ok(offsets.every((offset) => offset % 4 === 0 && offset < REGISTER_BAR_BYTES));
});

test("every register reads as its reset value after power-on", () => {
  const { file } = fixture();
  for (const { row, i, offset } of instances) assert.equal(file.read(offset, 4), row.resetValue, `${row.name}(${i})`);
  assert.deepEqual(file.mistakes, { oddAccesses: 0, unknownRegisters: 0 });
});

test("every register takes ones, zeros and random values as its kind says, and leaves all others alone", () => {
  for (const { row, i, offset } of instances) {
    fc.assert(
      fc.property(
        fc.nat(0xffff_ffff),
        fc.constantFrom(0, 0xffff_ffff, 0x5a5a_a5a5, 1, 0x8000_0000),
        (held, written) => {
          const { file, effects } = fixture();
          file.registers[offset >>> 2] = held;
          const before = file.registers.slice();
          file.write(offset, 4, written);
          const changed = [...file.registers.keys()].filter((index) => file.registers[index] !== before[index]);
          const own = expectedAfterWrite(row, held, written);
          assert.equal(file.registers[offset >>> 2], own, `${row.name}(${i})`);
          assert.ok(
            changed.every((index) => index === offset >>> 2 || index === row.target >>> 2),
            row.name,
          );
          const told = row.effect === RegisterEffect.none || row.kind === "read-only" ? [] : [row.effect];
          assert.deepEqual(
            effects.calls,
            told.map((effect) => `afterWrite ${effect} ${i} ${written}`),
          );
        },
      ),
      { numRuns: 12, seed: offset },
    );
  }
});

test("every register reads back what it holds, and a read clears only the bits that say so", () => {
  for (const { row, i, offset } of instances) {
    const { file, effects } = fixture();
    const isStored = row.kind !== "trigger" && row.kind !== "write-one-to-clear";
    if (isStored) file.registers[offset >>> 2] = 0xffff_ffff;
    assert.equal(file.read(offset, 4), isStored ? 0xffff_ffff : 0, row.name);
    assert.equal(file.registers[offset >>> 2], isStored ? ~row.clearOnRead >>> 0 : 0, row.name);
    if (row.kind === "read-to-clear") assert.deepEqual(effects.calls, [`afterRead ${row.effect} ${i}`]);
  }
});

test("a write to VTEIMC clears bits of VTEIMS and reads as zero", () => {
  const { file } = fixture();
  file.write(VTEIMS, 4, 7);
  file.write(VTEIMC, 4, 5);
  assert.equal(file.read(VTEIMS, 4), 2);
  assert.equal(file.read(VTEIMC, 4), 0);
});

test("the timer is asked for its value before it is read", () => {
  const { file, effects } = fixture();
  file.read(VFFRTIMER, 4);
  assert.deepEqual(effects.calls, [`beforeRead ${RegisterEffect.timer} 0`]);
});

test("a reset spares exactly the registers that are kept, and power-on spares none", () => {
  const { file } = fixture();
  file.registers.fill(0xdead_beef);
  resetRegisters(file.registers, { powerOn: false });
  for (const { row, i, offset } of instances) {
    const expected = row.keptOverReset ? 0xdead_beef : row.resetValue;
    assert.equal(file.registers[offset >>> 2], expected, `${row.name}(${i})`);
  }
  resetRegisters(file.registers, { powerOn: true });
  for (const { row, offset } of instances) assert.equal(file.registers[offset >>> 2], row.resetValue);
});

test("narrow and misaligned reads give the addressed part, zero beyond the register, and are counted", () => {
  const { file } = fixture();
  file.registers[VTEICR >>> 2] = 0x8765_4321;
  assert.equal(file.read(VTEICR, 1), 0x21);
  assert.equal(file.read(VTEICR + 3, 1), 0x87);
  assert.equal(file.read(VTEICR + 2, 2), 0x8765);
  assert.equal(file.read(VTEICR + 2, 4), 0x8765);
  assert.equal(file.read(REGISTER_BAR_BYTES, 1), 0);
  assert.equal(file.mistakes.oddAccesses, 5);
});

test("narrow, misaligned and far writes change nothing and are counted", () => {
  const { file, effects } = fixture();
  const before = file.registers.slice();
  file.write(VFRDT(0), 1, 0xff);
  file.write(VFRDT(0), 2, 0xff);
  file.write(VFRDT(0) + 2, 4, 0xff);
  file.write(REGISTER_BAR_BYTES, 4, 0xff);
  assert.deepEqual(file.registers, before);
  assert.deepEqual(effects.calls, []);
  assert.equal(file.mistakes.oddAccesses, 4);
});

test("offsets without a register read as zero, take nothing, and are counted", () => {
  const { file } = fixture();
  assert.equal(file.read(0x0004, 4), 0);
  file.write(0x0004, 4, 0xffff_ffff);
  assert.equal(file.read(0x0004, 4), 0);
  assert.equal(file.mistakes.unknownRegisters, 3);
});
