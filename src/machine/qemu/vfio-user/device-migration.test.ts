// The device through the migration states: when it works, what is saved and loaded, and how a bad state ends.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceState, wayBetween } from "./migration-states.ts";
import { Command, Errno } from "./protocol.ts";
import { pack, ServedGuest, u32 } from "./served.fixture.ts";

const { stop, running, stopCopy, resuming, preCopy, preCopyP2p, error } = DeviceState;
const GET = 0x1_0000;
const SET = 0x2_0000;
const PROBE = 0x4_0000;
const STATE = 2;

const served = (): ServedGuest => new ServedGuest().negotiate();

function setState(guest: ServedGuest, state: number): number {
  const request = u32(16, SET | STATE, state, 0xffff_ffff);
  const reply = guest.send(Command.deviceFeature, request);
  assert.ok(reply !== undefined);
  if (reply.error === Errno.none) assert.deepEqual(reply.payload, request);
  return reply.error;
}

function stateOf(guest: ServedGuest): number {
  const reply = guest.ask(Command.deviceFeature, u32(16, GET | STATE));
  assert.deepEqual(reply.slice(0, 8), u32(16, GET | STATE));
  return new DataView(reply.buffer).getUint32(8, true);
}

/** All that there is to read, in pieces of `size`. */
function readAll(guest: ServedGuest, size: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const reply = guest.ask(Command.migrationDataRead, u32(8 + size, size));
    const got = new DataView(reply.buffer).getUint32(4, true);
    assert.equal(new DataView(reply.buffer).getUint32(0, true), 8 + got);
    assert.equal(reply.length, 8 + size, "a reply has the length that was asked for");
    assert.ok(reply.subarray(8 + got).every((byte) => byte === 0));
    pieces.push(reply.slice(8, 8 + got));
    if (got < size) return new Uint8Array(Buffer.concat(pieces));
  }
}

function writeAll(guest: ServedGuest, state: Uint8Array, size: number): void {
  for (let at = 0; at < state.length; at += size) {
    const piece = state.subarray(at, at + size);
    guest.ask(Command.migrationDataWrite, Buffer.concat([u32(8 + piece.length, piece.length), piece]));
  }
}

test("the migration feature names STOP_COPY, P2P and PRE_COPY", () => {
  const reply = served().ask(Command.deviceFeature, u32(16, GET | 1));
  assert.deepEqual(reply, pack([4, 16], [4, GET | 1], [8, 7]));
});

test("probing succeeds for what can be done with a feature, and for nothing else", () => {
  const guest = served();
  const can = new Map([
    [1, GET],
    [2, GET | SET],
    [6, SET],
    [7, SET],
    [8, GET],
  ]);
  for (let feature = 0; feature < 16; feature++) {
    for (const asked of [0, GET, SET, GET | SET]) {
      const flags = PROBE | asked | feature;
      const known = can.get(feature);
      const expected =
        known === undefined ? Errno.notSupportedByDevice : (asked & ~known) === 0 ? Errno.none : Errno.invalid;
      assert.equal(guest.errorOf(Command.deviceFeature, u32(8, flags)), expected);
      if (expected === Errno.none) assert.deepEqual(guest.ask(Command.deviceFeature, u32(8, flags)), u32(8, flags));
    }
  }
  for (const flags of [2, GET | SET | 2, 0x8_0000 | GET | 2]) {
    assert.equal(guest.errorOf(Command.deviceFeature, u32(16, flags, 1, 0)), Errno.invalid);
  }
  assert.equal(guest.errorOf(Command.deviceFeature, u32(15, GET | 2)), Errno.invalid, "no room for the state");
});

test("for every pair of states the device goes there if a way leads there, and works only in RUNNING and PRE_COPY", () => {
  for (const from of Object.values(DeviceState)) {
    for (const to of Object.values(DeviceState)) {
      const guest = served();
      if (from === error || setState(guest, from) !== Errno.none) continue;
      assert.equal(stateOf(guest), from);
      assert.equal(guest.vf.isStopped, from !== running && from !== preCopy);
      const way = wayBetween(from, to);
      // RESUMING without a state to load ends in ERROR.
      const isFailure = from === resuming && to !== resuming && to !== error;
      const expected = way === undefined || isFailure ? Errno.invalid : Errno.none;
      assert.equal(setState(guest, to), expected, `from ${from} to ${to}`);
      assert.equal(stateOf(guest), isFailure ? error : way === undefined ? from : to);
      if (!isFailure && way !== undefined) assert.equal(guest.vf.isStopped, to !== running && to !== preCopy);
    }
  }
});

test("a device that was saved and loaded is the same device, whatever the pieces", () => {
  for (const size of [1000, 7, 1 << 20]) {
    const source = served().enable();
    source.write(0, 0x1000, u32(0xabc_d000));
    assert.equal(setState(source, preCopy), Errno.none);
    assert.equal(readAll(source, size).length, 0, "nothing is worth sending early");
    assert.equal(setState(source, stopCopy), Errno.none);
    const state = readAll(source, size);
    assert.ok(state.length > 1000);

    const destination = served();
    assert.equal(setState(destination, resuming), Errno.none);
    writeAll(destination, state, size);
    assert.equal(setState(destination, stop), Errno.none);
    assert.deepEqual(destination.vf.save(), source.vf.save());
    assert.ok(destination.vf.isStopped);
    assert.equal(setState(destination, running), Errno.none);
    assert.equal(destination.vf.isStopped, false);
  }
});

test("the vectors of a loaded device are its new client's, whoever they were before", () => {
  const source = served().enable();
  setState(source, stopCopy);
  const state = JSON.parse(new TextDecoder().decode(readAll(source, 4096))) as { pci: { msixVectors: object[] } };
  state.pci.msixVectors = state.pci.msixVectors.map((vector) => ({
    ...vector,
    addressLow: 0xfee0_1004,
    masked: false,
  }));
  const destination = served();
  setState(destination, resuming);
  writeAll(destination, new TextEncoder().encode(JSON.stringify(state)), 4096);
  assert.equal(setState(destination, stop), Errno.none);
  assert.deepEqual(destination.read(3, 0, 16), u32(0xfee0_0000, 0, 0, 1));
});

test("a state that cannot be loaded leaves the device in ERROR, which only a reset ends", () => {
  const guest = served();
  setState(guest, resuming);
  writeAll(guest, new TextEncoder().encode("{}"), 10);
  assert.equal(setState(guest, running), Errno.invalid);
  assert.equal(stateOf(guest), error);
  for (const state of Object.values(DeviceState)) assert.equal(setState(guest, state), Errno.invalid);
  guest.ask(Command.deviceReset);
  assert.equal(stateOf(guest), running);
  assert.equal(guest.vf.isStopped, false);
});

test("data is read in the saving states and written in RESUMING, within bounds, and nowhere else", () => {
  const guest = served();
  const read = (argsz: number, size: number): number => guest.errorOf(Command.migrationDataRead, u32(argsz, size));
  const write = (size: number, data: Uint8Array): number =>
    guest.errorOf(Command.migrationDataWrite, Buffer.concat([u32(8 + size, size), data]));
  for (const state of [running, preCopy, preCopyP2p, stopCopy, stop, resuming]) {
    setState(guest, state);
    assert.equal(read(108, 100) === Errno.none, [preCopy, preCopyP2p, stopCopy].includes(state as 3), `${state}`);
    assert.equal(write(1, Uint8Array.of(0)) === Errno.none, state === resuming);
  }
  assert.equal(write(2, Uint8Array.of(0)), Errno.invalid);
  assert.equal(write(1, Uint8Array.of(0, 0)), Errno.invalid);
  assert.equal(write(300_000, new Uint8Array(300_000)), Errno.noSpace, "more than any state has");
  assert.equal(guest.errorOf(Command.migrationDataWrite, u32(8)), Errno.invalid);

  const saving = served();
  setState(saving, stopCopy);
  for (const request of [u32(107, 100), u32(0xffff_ffff, 0x10_0001), u32(8)]) {
    assert.equal(saving.errorOf(Command.migrationDataRead, request), Errno.invalid);
  }
  assert.ok(readAll(saving, 100).length > 1000, "a refused read takes nothing");
});

test("leaving STOP_COPY ends its data, and coming back saves anew", () => {
  const guest = served().enable();
  setState(guest, stopCopy);
  const first = readAll(guest, 100_000);
  assert.equal(readAll(guest, 100).length, 0);
  assert.equal(setState(guest, stop), Errno.none);
  guest.write(0, 0x1000, u32(0x9000));
  assert.equal(setState(guest, stopCopy), Errno.none);
  assert.notDeepEqual(readAll(guest, 100_000), first);
});
