import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { MessageSink } from "./function.ts";
import { MSIX_CONTROL_ENABLE, MSIX_CONTROL_FUNCTION_MASK, MsixTable } from "./msix.ts";

class RecordedMessages implements MessageSink {
  readonly sent: string[] = [];
  deliver(addressLow: number, addressHigh: number, data: number): void {
    this.sent.push(`${addressHigh.toString(16)}:${addressLow.toString(16)}=${data.toString(16)}`);
  }
}

const placement = { vectors: 3, tableOffset: 0, pendingOffset: 0x2000 };

function programmed(): { table: MsixTable; messages: RecordedMessages } {
  const messages = new RecordedMessages();
  const table = new MsixTable(placement, messages);
  for (let v = 0; v < 3; v++) {
    table.write(16 * v, 4, 0xfee0_0000);
    table.write(16 * v + 8, 4, 0x40 + v);
    table.write(16 * v + 12, 4, 0);
  }
  table.setControl(MSIX_CONTROL_ENABLE, true);
  return { table, messages };
}

test("every vector is masked and empty after a reset", () => {
  const table = new MsixTable(placement, new RecordedMessages());
  for (let v = 0; v < 3; v++) {
    assert.deepEqual(
      [0, 4, 8, 12].map((field) => table.read(16 * v + field, 4)),
      [0, 0, 0, 1],
    );
  }
});

test("a free vector sends its message at once and leaves nothing pending", () => {
  const { table, messages } = programmed();
  table.signal(1);
  assert.deepEqual(messages.sent, ["0:fee00000=41"]);
  assert.equal(table.read(0x2000, 4), 0);
});

test("a masked vector keeps one pending bit for any number of signals and sends one message at unmask", () => {
  const { table, messages } = programmed();
  table.write(16 + 12, 4, 1);
  table.signal(1);
  table.signal(1);
  assert.equal(table.read(0x2000, 4), 0b010);
  assert.deepEqual(messages.sent, []);
  table.write(16 + 12, 4, 0);
  assert.deepEqual(messages.sent, ["0:fee00000=41"]);
  assert.equal(table.read(0x2000, 4), 0);
});

test("function mask, MSI-X enable and bus mastering each hold messages back until they let go", () => {
  for (const [control, busMaster] of [
    [MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK, true],
    [0, true],
    [MSIX_CONTROL_ENABLE, false],
  ] as const) {
    const { table, messages } = programmed();
    table.setControl(control, busMaster);
    table.signal(0);
    table.signal(2);
    assert.deepEqual(messages.sent, []);
    assert.equal(table.read(0x2000, 4), 0b101);
    table.setControl(MSIX_CONTROL_ENABLE, true);
    assert.deepEqual(messages.sent, ["0:fee00000=40", "0:fee00000=42"]);
  }
});

test("the pending bits and the bytes beyond the table cannot be written", () => {
  const { table } = programmed();
  table.write(0x2000, 4, 0xffff_ffff);
  table.write(16 * 3, 4, 0xffff_ffff);
  assert.equal(table.read(0x2000, 4), 0);
  assert.equal(table.read(16 * 3, 4), 0);
  assert.equal(table.read(0x3ffc, 4), 0);
});

test("narrow accesses are dropped and counted", () => {
  const { table } = programmed();
  table.write(12, 1, 1);
  assert.equal(table.read(12, 4), 0);
  assert.equal(table.read(12, 2), 0);
  assert.equal(table.mistakes, 2);
});

test("a pending message survives save and restore and is sent once on the other side", () => {
  const { table } = programmed();
  table.write(12, 4, 1);
  table.signal(0);
  const messages = new RecordedMessages();
  const copy = new MsixTable(placement, messages);
  copy.restore(table.save());
  copy.setControl(MSIX_CONTROL_ENABLE, true);
  assert.deepEqual(copy.save(), table.save());
  assert.deepEqual(messages.sent, []);
  copy.write(12, 4, 0);
  assert.deepEqual(messages.sent, ["0:fee00000=40"]);
});

test("whatever is masked meanwhile, a signalled vector is sent or pending, never lost", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("signal" as const), vector: fc.nat(2) }),
    fc.record({ kind: fc.constant("mask" as const), vector: fc.nat(2), masked: fc.boolean() }),
    fc.record({ kind: fc.constant("control" as const), control: fc.nat(3), busMaster: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { table, messages } = programmed();
      const owed = [false, false, false];
      for (const action of steps) {
        const before = messages.sent.length;
        if (action.kind === "signal") {
          owed[action.vector] = true;
          table.signal(action.vector);
        } else if (action.kind === "mask") table.write(16 * action.vector + 12, 4, action.masked ? 1 : 0);
        else table.setControl(action.control << 14, action.busMaster);
        for (const message of messages.sent.slice(before)) owed[Number.parseInt(message.slice(-1), 16)] = false;
        const pending = table.read(0x2000, 4);
        assert.deepEqual(
          owed,
          [0, 1, 2].map((v) => (pending >>> v) % 2 === 1),
        );
      }
    }),
    { seed: 82_599 },
  );
});
