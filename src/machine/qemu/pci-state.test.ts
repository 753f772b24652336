import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import { chooseDevice, type QueriedDevice } from "./pci-query.ts";
import { configurationAddress } from "./pci-reader.ts";
import { decodePciState, encodePciState, tableAddress, type PciState } from "./pci-state.ts";

const state: PciState = {
  device: "qemu-pci-function",
  version: 1,
  vendorId: 0x8086,
  deviceId: 0x10ed,
  address: { bus: 1, slot: 0, function: 0 },
  window: [0xb000_0001, 0],
  bridges: [
    { address: { bus: 0, slot: 1, function: 0 }, command: 7, busNumbers: 0x1_0100, memory: [0xfe50_fe40, 1, 0, 0] },
  ],
  command: 0x507,
  bars: [0xfe40_0004, 0, 0, 0xfe40_4004, 0x38, 0],
  msix: {
    offset: 0x70,
    bar: 3,
    tableOffset: 0,
    control: 0x8002,
    table: [0xfee0_0000, 0, 38, 0, 0, 0, 0, 1, 0, 0, 0, 1],
  },
};

test("a state is the same after encoding and decoding", () => {
  assert.deepEqual(decodePciState(encodePciState(state)), state);
});

test("a state of another version says so", () => {
  const other = new TextEncoder().encode(JSON.stringify({ ...state, version: 2, more: 1 }));
  assert.throws(() => decodePciState(other), { code: "pci-state-version" });
});

const spoilt: Record<string, unknown> = {
  "a table of another length than control says": { msix: { ...state.msix, control: 0x8003 } },
  "a field nobody knows": { more: 1 },
  "a slot beyond 31": { address: { ...state.address, slot: 32 } },
  "a capability in the header": { msix: { ...state.msix, offset: 0x10 } },
  "a word of 33 bits": { bars: [2 ** 32, 0, 0, 0, 0, 0] },
  "a table above 2^53": { bars: [0, 0, 0, 4, 0xffff_ffff, 0] },
  "a hundred bridges": { bridges: Array.from({ length: 100 }, () => state.bridges[0]) },
};
for (const [what, change] of Object.entries(spoilt)) {
  test(`${what} is refused as invalid`, () => {
    const bytes = new TextEncoder().encode(JSON.stringify({ ...state, ...(change as object) }));
    assert.throws(() => decodePciState(bytes), { code: "pci-state-invalid" });
  });
}

test("any bytes, and any byte of a state changed, give a state or a typed refusal", () => {
  const good = encodePciState(state);
  const changed = fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, byte]) => {
    const bytes = good.slice();
    bytes[at] = byte;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), changed), (bytes) => {
      try {
        decodePciState(bytes);
      } catch (error) {
        assert.ok(error instanceof OperationError && error.code.startsWith("pci-state-"), String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test("a state of a megabyte is refused unread", () => {
  assert.throws(() => decodePciState(new Uint8Array(1 << 20)), { code: "pci-state-invalid" });
});

test("the table lies behind both halves of a 64-bit base address, and one of 32 bits has no upper half", () => {
  assert.equal(tableAddress(state), 0x38_fe40_4000);
  const narrow = { bars: [0, 0, 0, 0xfe40_4000, 0x38, 0], msix: { bar: 3, tableOffset: 0x80 } };
  assert.equal(tableAddress(narrow), 0xfe40_4080);
});

test("a function's registers are at its bus, slot and function within the window", () => {
  assert.equal(configurationAddress([0xb000_0001, 0], { bus: 1, slot: 2, function: 3 }), 0xb011_3000);
  assert.equal(configurationAddress([0xb000_0001, 1], { bus: 255, slot: 31, function: 7 }), 0x1_bfff_f000);
});

const vf = (qdevId: string, bus: number): QueriedDevice => ({
  bus,
  slot: 0,
  function: 0,
  qdev_id: qdevId,
  id: { vendor: 0x8086, device: 0x10ed },
});
const bridge = (qdevId: string, devices: QueriedDevice[]): QueriedDevice => ({
  ...vf(qdevId, 0),
  id: { vendor: 0x1b36, device: 0xc },
  pci_bridge: { devices },
});
const kind = { vendorId: 0x8086, deviceId: 0x10ed };

test("a device is found behind bridges, which are named from the root inwards", () => {
  const inner = bridge("inner", [vf("vf0", 2)]);
  const outer = bridge("outer", [inner]);
  const found = chooseDevice([{ devices: [bridge("empty", []), outer] }], kind);
  assert.equal(found.device.qdev_id, "vf0");
  assert.deepEqual(
    found.bridges.map(({ qdev_id: id }) => id),
    ["outer", "inner"],
  );
});

test("two devices of the kind need a name, and a name that nobody has finds nothing", () => {
  const buses = [{ devices: [vf("vf0", 0), vf("vf1", 0)] }];
  assert.throws(() => chooseDevice(buses, kind), { code: "pci-device-ambiguous" });
  assert.equal(chooseDevice(buses, { ...kind, qdevId: "vf1" }).device.qdev_id, "vf1");
  assert.throws(() => chooseDevice(buses, { ...kind, qdevId: "vf2" }), { code: "pci-device-missing" });
  assert.throws(() => chooseDevice(buses, { ...kind, deviceId: 1 }), { code: "pci-device-missing" });
});
