// Regions: their descriptions, and accesses of every width to configuration space and registers.
import assert from "node:assert/strict";
import { test } from "node:test";
import { VFLINKS } from "../../../nic/registers.ts";
import { Command, Errno, REGION_CONFIGURATION } from "./protocol.ts";
import { fromHex, hex, pack, ServedGuest, u32 } from "./served.fixture.ts";

const served = (): ServedGuest => new ServedGuest().negotiate();

test("the device is described as a PCI device that can be reset, with nine regions and five interrupt types", () => {
  const guest = served();
  assert.equal(
    hex(guest.ask(Command.deviceGetInfo, u32(16, 0, 0, 0))),
    "10000000 03000000 09000000 05000000".replaceAll(" ", ""),
  );
  assert.equal(guest.errorOf(Command.deviceGetInfo, u32(15, 0, 0, 0)), Errno.invalid);
  assert.equal(guest.errorOf(Command.deviceGetInfo, u32(16, 0, 0)), Errno.invalid);
});

test("regions are two BARs and configuration space, readable, writable and not to be mapped", () => {
  const guest = served();
  const sizes = [0x4000, 0, 0, 0x4000, 0, 0, 0, 0x1000, 0];
  for (const [index, size] of sizes.entries()) {
    const info = guest.ask(Command.deviceGetRegionInfo, u32(32, 0, index, 0, 0, 0, 0, 0));
    assert.deepEqual(info, pack([4, 32], [4, size === 0 ? 0 : 3], [4, index], [4, 0], [8, size], [8, 0]));
  }
  assert.equal(guest.errorOf(Command.deviceGetRegionInfo, u32(32, 0, 9, 0, 0, 0, 0, 0)), Errno.invalid);
  assert.equal(guest.errorOf(Command.deviceGetRegionInfo, u32(31, 0, 0, 0, 0, 0, 0, 0)), Errno.invalid);
});

test("no region is accessed by descriptors", () => {
  const guest = served();
  assert.deepEqual(guest.ask(Command.deviceGetRegionIoFds, u32(1000, 0, 0, 0)), u32(16, 0, 0, 0));
  assert.equal(guest.errorOf(Command.deviceGetRegionIoFds, u32(1000, 1, 0, 0)), Errno.invalid);
  assert.equal(guest.errorOf(Command.deviceGetRegionIoFds, u32(1000, 0, 1, 0)), Errno.invalid);
});

test("a read's reply repeats offset, region and count before the data", () => {
  const guest = served();
  const request = fromHex("0000000000000000 07000000 04000000");
  assert.equal(hex(guest.ask(Command.regionRead, request)), `${hex(request)}8680ed10`);
});

test("configuration space reads the same in accesses of any length and at any offset", () => {
  const guest = served();
  const whole = guest.read(REGION_CONFIGURATION, 0, 4096);
  for (const count of [1, 2, 3, 4, 5, 7, 8, 64, 256]) {
    for (let offset = 0; offset + count <= 300; offset += 1) {
      const part = guest.read(REGION_CONFIGURATION, offset, count);
      assert.deepEqual(part, whole.slice(offset, offset + count));
    }
  }
});

test("a 64-bit BAR can be written in one access, and its address is found there", () => {
  const guest = served();
  guest.write(REGION_CONFIGURATION, 0x10, pack([8, 0x12_3400_0000]));
  guest.write(REGION_CONFIGURATION, 4, pack([2, 2]));
  assert.equal(guest.vf.barAddress(0), 0x12_3400_0000);
});

test("registers are 32 bits wide, and two of them can be read in one access", () => {
  const guest = served().enable();
  const links = guest.read(0, VFLINKS, 4);
  assert.deepEqual(guest.read(0, VFLINKS, 8).slice(0, 4), links);
  assert.equal(guest.vf.statistics.guestMistakes.oddRegisterAccesses, 0);
  guest.read(0, VFLINKS, 2);
  assert.equal(guest.vf.statistics.guestMistakes.oddRegisterAccesses, 1);
});

test("accesses outside of a region, or longer than agreed, are refused", () => {
  const guest = served();
  const outside: readonly (readonly [offset: number, region: number, count: number])[] = [
    [0x4000, 0, 4],
    [0x3ffd, 0, 4],
    [0, 1, 1],
    [0, 9, 4],
    [0, 0xdead_beef, 4],
    [2 ** 63, 7, 4],
    [0, 7, 0xffff_ffff],
    [0, 7, 4097],
  ];
  for (const [offset, region, count] of outside) {
    const request = pack([8, offset], [4, region], [4, count]);
    assert.equal(guest.errorOf(Command.regionRead, request), Errno.invalid);
    assert.equal(guest.errorOf(Command.regionWrite, request), Errno.invalid);
  }
  assert.equal(guest.errorOf(Command.regionRead, new Uint8Array(15)), Errno.invalid);
  assert.equal(guest.errorOf(Command.regionWrite, pack([8, 4], [4, 7], [4, 2], [4, 0])), Errno.invalid);
});

test("an access of no bytes is answered with none", () => {
  assert.equal(served().read(0, 0, 0).length, 0);
});

test("several writes in one message are done in order, up to the first that cannot be", () => {
  const guest = served();
  const one = (offset: number, region: number, count: number, value: number): Uint8Array =>
    pack([8, offset], [4, region], [4, count], [8, value]);
  const bar = one(0x10, 7, 8, 0x9_0000_0000);
  const command = one(4, 7, 2, 2);
  const outside = one(4096, 7, 1, 0);
  const all = (...writes: readonly Uint8Array[]): Uint8Array => Buffer.concat([pack([8, writes.length]), ...writes]);
  assert.deepEqual(guest.ask(Command.regionWriteMulti, all(bar, command)), pack([8, 2]));
  assert.equal(guest.vf.barAddress(0), 0x9_0000_0000);
  const more = all(one(4, 7, 2, 0), outside, command);
  assert.deepEqual(guest.ask(Command.regionWriteMulti, more), pack([8, 1]));
  assert.equal(guest.vf.barAddress(0), -1, "the write behind the bad one was not done");
  assert.deepEqual(guest.ask(Command.regionWriteMulti, all(one(4, 7, 9, 0))), pack([8, 0]));
  assert.equal(guest.errorOf(Command.regionWriteMulti, pack([8, 2 ** 60])), Errno.invalid);
});

test("the vector table cannot be written from outside, the rest of its BAR takes writes", () => {
  const guest = served().enable();
  const before = guest.read(3, 0, 48);
  guest.write(3, 0, new Uint8Array(64).fill(0xff));
  assert.deepEqual(guest.read(3, 0, 48), before);
});
