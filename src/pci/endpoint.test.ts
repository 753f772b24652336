import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { PciEndpoint } from "./endpoint.ts";
import type { AccessBytes } from "./function.ts";

interface Bench {
  readonly endpoint: PciEndpoint;
  readonly events: string[];
}

function bench(): Bench {
  const events: string[] = [];
  const endpoint = new PciEndpoint({
    identity: {
      vendorId: 0x8086,
      deviceId: 0x10ed,
      subsystemVendorId: 0x8086,
      subsystemId: 0x000c,
      revision: 1,
      classCode: 0x02_0000,
    },
    bars: [
      {
        index: 0,
        sizeBytes: 0x4000,
        is64Bit: true,
        read: (offset) => offset + 1,
        write: (offset, bytes, value) => events.push(`write ${offset} ${bytes} ${value}`),
      },
    ],
    msix: {
      vectors: 3,
      tableOffset: 0,
      pendingOffset: 0x2000,
      bar: { index: 3, sizeBytes: 0x4000, is64Bit: true },
      capabilityOffset: 0x70,
    },
    expressCapabilityOffset: 0xa0,
    messages: { deliver: (low, high, data) => events.push(`message ${high} ${low} ${data}`) },
    onFunctionLevelReset: () => events.push("reset"),
    onGatesChanged: () => events.push("gates"),
  });
  endpoint.onBarsChanged = () => events.push("bars");
  return { endpoint, events };
}

test("the header names the device, its class, its subsystem and a capability list", () => {
  const { endpoint } = bench();
  assert.equal(endpoint.readConfiguration(0x00, 4), 0x10ed_8086);
  assert.equal(endpoint.readConfiguration(0x08, 4), 0x0200_0001);
  assert.equal(endpoint.readConfiguration(0x0e, 1), 0x00);
  assert.equal(endpoint.readConfiguration(0x2c, 4), 0x000c_8086);
  assert.equal(endpoint.readConfiguration(0x06, 2) & 0x10, 0x10);
});

test("the capability list is MSI-X at 0x70, then PCI Express at 0xa0 with function-level reset, then the end", () => {
  const { endpoint } = bench();
  assert.equal(endpoint.readConfiguration(0x34, 1), 0x70);
  assert.equal(endpoint.readConfiguration(0x70, 2), 0xa011);
  assert.equal(endpoint.readConfiguration(0x72, 2), 2);
  assert.equal(endpoint.readConfiguration(0x74, 4), 0x0003);
  assert.equal(endpoint.readConfiguration(0x78, 4), 0x2003);
  assert.equal(endpoint.readConfiguration(0xa0, 2), 0x0010);
  assert.equal(endpoint.readConfiguration(0xa4, 4) & 0x1000_0000, 0x1000_0000);
});

test("extended configuration space is readable and empty", () => {
  const { endpoint } = bench();
  assert.equal(endpoint.readConfiguration(0x100, 4), 0);
  assert.equal(endpoint.readConfiguration(0xffc, 4), 0);
});

test("sizing a BAR gives its size and type, and the address written back places it", () => {
  const { endpoint } = bench();
  for (const bar of [0, 3]) {
    const offset = 0x10 + 4 * bar;
    endpoint.writeConfiguration(offset, 4, 0xffff_ffff);
    endpoint.writeConfiguration(offset + 4, 4, 0xffff_ffff);
    assert.equal(endpoint.readConfiguration(offset, 4), 0xffff_c004);
    assert.equal(endpoint.readConfiguration(offset + 4, 4), 0xffff_ffff);
    endpoint.writeConfiguration(offset, 4, 0xe000_0000 + bar * 0x4000);
    endpoint.writeConfiguration(offset + 4, 4, 1);
    endpoint.writeConfiguration(0x04, 2, 0x0002);
    assert.equal(endpoint.barAddress(bar), 0x1_e000_0000 + bar * 0x4000);
    endpoint.writeConfiguration(0x04, 2, 0);
  }
});

test("a BAR that does not exist cannot be written and sizes to zero", () => {
  const { endpoint } = bench();
  endpoint.writeConfiguration(0x18, 4, 0xffff_ffff);
  assert.equal(endpoint.readConfiguration(0x18, 4), 0);
  assert.equal(endpoint.barAddress(2), -1);
  assert.equal(endpoint.barAddress(9), -1);
});

test("a BAR answers only while memory decoding is on and an address is programmed", () => {
  const { endpoint, events } = bench();
  assert.equal(endpoint.readBar(0, 8, 4), 0xffff_ffff);
  assert.equal(endpoint.readBar(0, 8, 2), 0xffff);
  endpoint.writeBar(0, 8, 4, 1);
  assert.deepEqual(events, []);
  endpoint.writeConfiguration(0x04, 2, 0x0002);
  assert.deepEqual(events, []);
  endpoint.writeConfiguration(0x10, 4, 0xe000_0000);
  assert.deepEqual(events, ["bars"]);
  assert.equal(endpoint.readBar(0, 8, 4), 9);
  endpoint.writeBar(0, 8, 4, 1);
  assert.deepEqual(events, ["bars", "write 8 4 1"]);
  endpoint.writeConfiguration(0x04, 2, 0);
  assert.equal(endpoint.barAddress(0), -1);
  assert.deepEqual(events, ["bars", "write 8 4 1", "bars"]);
});

test("an address no number can hold is not programmed", () => {
  const { endpoint } = bench();
  endpoint.writeConfiguration(0x14, 4, 0xffff_ffff);
  endpoint.writeConfiguration(0x04, 2, 0x0002);
  assert.equal(endpoint.barAddress(0), -1);
});

test("messages wait for the bus master bit, which is told to the device", () => {
  const { endpoint, events } = bench();
  endpoint.writeConfiguration(0x04, 2, 0x0002);
  endpoint.writeBar(3, 8, 4, 0x41);
  endpoint.writeBar(3, 12, 4, 0);
  endpoint.writeConfiguration(0x72, 2, 0x8000);
  endpoint.msix.signal(0);
  assert.deepEqual(events, ["gates"]);
  assert.equal(endpoint.busMasterEnabled, false);
  endpoint.writeConfiguration(0x04, 2, 0x0006);
  assert.equal(endpoint.busMasterEnabled, true);
  assert.deepEqual(events, ["gates", "message 0 0 65", "gates"]);
});

test("function-level reset clears what the guest programmed and tells the device", () => {
  const { endpoint, events } = bench();
  const fresh = endpoint.save();
  endpoint.writeConfiguration(0x10, 4, 0xe000_0000);
  endpoint.writeConfiguration(0x3c, 1, 11);
  endpoint.writeConfiguration(0x04, 2, 0x0006);
  endpoint.writeConfiguration(0x72, 2, 0x8000);
  endpoint.writeBar(3, 12, 4, 0);
  endpoint.writeConfiguration(0xa8, 2, 0x8000 | endpoint.readConfiguration(0xa8, 2));
  assert.deepEqual(endpoint.save(), fresh);
  assert.equal(endpoint.barAddress(0), -1);
  assert.ok(events.includes("reset"));
  assert.equal(endpoint.readConfiguration(0xa8, 2) & 0x8000, 0);
});

test("saved configuration restores to the same answers and the same BAR addresses", () => {
  const { endpoint } = bench();
  endpoint.writeConfiguration(0x10, 4, 0xe000_0000);
  endpoint.writeConfiguration(0x1c, 4, 0xe000_4000);
  endpoint.writeConfiguration(0x04, 2, 0x0406);
  endpoint.writeConfiguration(0x72, 2, 0x8000);
  endpoint.writeConfiguration(0x3c, 1, 11);
  endpoint.writeConfiguration(0x0c, 1, 16);
  const other = bench();
  other.endpoint.restore(endpoint.save());
  assert.deepEqual(other.endpoint.save(), endpoint.save());
  assert.equal(other.endpoint.barAddress(0), 0xe000_0000);
  assert.equal(other.endpoint.barAddress(3), 0xe000_4000);
  assert.ok(other.events.includes("bars"));
  for (let offset = 0; offset < 256; offset += 4) {
    assert.equal(other.endpoint.readConfiguration(offset, 4), endpoint.readConfiguration(offset, 4));
  }
});

test("misaligned and far configuration accesses read all ones, write nothing and are counted", () => {
  const { endpoint } = bench();
  assert.equal(endpoint.readConfiguration(0x01, 2), 0xffff);
  assert.equal(endpoint.readConfiguration(0x1000, 4), 0xffff_ffff);
  assert.equal(endpoint.readConfiguration(-4, 4), 0xffff_ffff);
  endpoint.writeConfiguration(0x11, 4, 0xffff_ffff);
  assert.equal(endpoint.readConfiguration(0x10, 4), 4);
  assert.equal(endpoint.configuration.mistakes, 4);
});

test("no sequence of configuration writes changes what the guest may not write", () => {
  const fixed = [0x00, 0x08, 0x2c, 0x74, 0x78, 0xa4] as const;
  const write = fc.record({
    offset: fc.nat(0x110),
    bytes: fc.constantFrom<AccessBytes[]>(1, 2, 4),
    value: fc.nat(0xffff_ffff),
  });
  fc.assert(
    fc.property(fc.array(write, { maxLength: 60 }), (writes) => {
      const { endpoint } = bench();
      const before = fixed.map((offset) => endpoint.readConfiguration(offset, 4));
      for (const { offset, bytes, value } of writes) endpoint.writeConfiguration(offset, bytes, value);
      assert.deepEqual(
        fixed.map((offset) => endpoint.readConfiguration(offset, 4)),
        before,
      );
      assert.equal(endpoint.readConfiguration(0x72, 2) & 0x07ff, 2);
    }),
    { seed: 82_599 },
  );
});
