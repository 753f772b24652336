import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "./guest.fixture.ts";
import { decodeVfState, encodeVfState, VF_STATE_BYTES_MAX } from "./state.ts";
import type { VfState } from "./state.ts";
import { registerTable } from "./register-table.ts";
import * as r from "./registers.ts";

function busyState(): VfState {
  const guest = new TestGuest();
  guest.boot();
  guest.vf.receiveFrame(frameTo(guestMac, otherMac, 200, 7));
  guest.transmit(frameTo(otherMac, guestMac, 200, 7));
  guest.vf.run();
  return guest.vf.save();
}

const code =
  (expected: string) =>
  (error: unknown): boolean =>
    error instanceof OperationError && error.code === expected;
const bytesOf = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

test("a state survives its encoding, and its encoding is the same each time", () => {
  const state = busyState();
  const bytes = encodeVfState(state);
  assert.deepEqual(decodeVfState(bytes), state);
  assert.deepEqual(encodeVfState(decodeVfState(bytes)), bytes);
  assert.ok(bytes.length < 16 * 1024, `${bytes.length} bytes`);
});

test("any register values survive save, encoding and restore as far as the guest could have written them", () => {
  const writes = fc.array(fc.record({ word: fc.nat(r.REGISTER_COUNT - 1), value: fc.nat(0xffff_ffff) }), {
    maxLength: 200,
  });
  fc.assert(
    fc.property(writes, (accesses) => {
      const source = new TestGuest();
      source.enumerate();
      for (const { word, value } of accesses) source.write(word * 4, value);
      source.vf.stop();
      const destination = new TestGuest();
      destination.vf.restore(decodeVfState(encodeVfState(source.vf.save())));
      assert.deepEqual(destination.vf.save(), source.vf.save());
    }),
    { seed: 82_599, numRuns: 50 },
  );
});

test("the state names every register that stores something", () => {
  const { registers } = busyState();
  for (const { name, kind } of registerTable) {
    const isStored = kind !== "trigger" && kind !== "write-one-to-clear" && name !== "VFFRTIMER";
    assert.equal(name in registers, isStored, name);
  }
});

test("a state of another version is refused by its version, whatever else it holds", () => {
  assert.throws(() => decodeVfState(bytesOf({ ...busyState(), version: 2 })), code("vf-state-version"));
  assert.throws(() => decodeVfState(bytesOf({ device: "82599-vf", version: 0 })), code("vf-state-version"));
});

test("what is not a state is refused: other devices, missing, unknown and oversized parts, no JSON, too much", () => {
  const state = busyState();
  const { transmit, ...withoutTransmit } = state;
  const refused: unknown[] = [
    null,
    [],
    { ...state, device: "other" },
    withoutTransmit,
    { ...state, surprise: 1 },
    { ...state, queuePairs: 3 },
    { ...state, queuePairs: 9 },
    { ...state, transmit: { ...transmit, nextQueue: 7 } },
    { ...state, registers: { ...state.registers, VFRDT: [0] } },
    { ...state, registers: { ...state.registers, VFRDT: [0, 0, 0, 0, 0, 0, 0, 2 ** 32] } },
    { ...state, physicalFunction: { ...state.physicalFunction, vlans: [4096] } },
    { ...state, physicalFunction: { ...state.physicalFunction, mac: "02:00:00:00:00" } },
    { ...state, timerUs: 1.5 },
  ];
  for (const value of refused) assert.throws(() => decodeVfState(bytesOf(value)), code("vf-state-invalid"));
  assert.throws(() => decodeVfState(new Uint8Array(0)), code("vf-state-invalid"));
  assert.throws(() => decodeVfState(Uint8Array.of(0x22, 0xff, 0x22)), code("vf-state-invalid"));
  assert.throws(() => decodeVfState(new Uint8Array(VF_STATE_BYTES_MAX + 1)), code("vf-state-invalid"));
  assert.throws(() => decodeVfState(bytesOf("[".repeat(100_000))), code("vf-state-invalid"));
  assert.throws(() => decodeVfState(new TextEncoder().encode("[".repeat(100_000))), code("vf-state-invalid"));
});

/** Changes one leaf of a JSON tree, found by a path of choices: numbers are replaced, booleans turned round. */
function mutated(value: unknown, choices: readonly number[], replacement: unknown): unknown {
  if (typeof value === "boolean") return !value;
  if (typeof value !== "object" || value === null) return replacement;
  const entries = Object.entries(value);
  if (entries.length === 0) return value;
  const [choice = 0, ...rest] = choices;
  const index = choice % entries.length;
  const changed = entries.map(([key, child], i) => [key, i === index ? mutated(child, rest, replacement) : child]);
  return Array.isArray(value) ? changed.map(([, child]) => child) : Object.fromEntries(changed);
}

test("a state changed anywhere is either refused or restores to a VF that can be used", () => {
  const state = busyState();
  const replacement = fc.oneof(
    { weight: 4, arbitrary: fc.nat(64) },
    { weight: 2, arbitrary: fc.nat(0xffff_ffff) },
    { weight: 1, arbitrary: fc.constantFrom<unknown[]>(-1, 0xffff_ffff, 2 ** 53, 0.5, null, "", [], {}) },
  );
  const mutation = fc.record({ choices: fc.array(fc.nat(1000), { minLength: 6, maxLength: 6 }), replacement });
  const seen = { refused: 0, restored: 0 };
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
      let value: unknown = state;
      for (const { choices, replacement: by } of mutations) value = mutated(value, choices, by);
      let decoded: VfState;
      try {
        decoded = decodeVfState(bytesOf(value));
      } catch (error) {
        assert.ok(error instanceof OperationError);
        seen.refused++;
        return;
      }
      seen.restored++;
      const guest = new TestGuest();
      guest.vf.restore(decoded);
      guest.vf.start();
      guest.vf.raiseAllEnabled();
      guest.vf.receiveFrame(frameTo(guestMac, otherMac, 200, 7));
      for (let steps = 0; guest.vf.step(); steps++) assert.ok(steps < 10_000);
      decodeVfState(encodeVfState(guest.vf.save()));
    }),
    { seed: 82_599, numRuns: 300 },
  );
  assert.ok(seen.refused > 30 && seen.restored > 30, JSON.stringify(seen));
});

test("bytes changed anywhere never make decoding throw anything but its own errors", () => {
  const bytes = encodeVfState(busyState());
  const change = fc.record({ at: fc.nat(bytes.length - 1), by: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), fc.nat(bytes.length), (changes, length) => {
      const copy = bytes.slice(0, length % 3 === 0 ? length : bytes.length);
      for (const { at, by } of changes) if (at < copy.length) copy[at] = by;
      try {
        decodeVfState(copy);
      } catch (error) {
        assert.ok(error instanceof OperationError);
      }
    }),
    { seed: 82_599, numRuns: 200 },
  );
});
