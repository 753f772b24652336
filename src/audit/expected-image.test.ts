import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { dmaTag, DmaPurpose } from "../iommu/dma-port.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { WritesAfterPause } from "./expected-image.ts";
import { Ledger } from "./ledger.ts";

const memoryBytes = 512;
const writes = fc.array(
  fc.record({
    address: fc.nat(memoryBytes - 40),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    isIncluded: fc.boolean(),
  }),
  { maxLength: 24 },
);

test("writes that overlap any way are taken back to the pause, and any choice of them can be done again", () => {
  fc.assert(
    fc.property(writes, writes, (before, after) => {
      const memory = new BufferMemory(memoryBytes, { pageBytes: 64 });
      const ledger = new Ledger(memory, { writesMax: 64, undoBytesMax: 4096 });
      const write = ({ address, bytes }: { address: number; bytes: Uint8Array }): void => {
        ledger.before(address, bytes.length);
        memory.bytes().set(bytes, address);
        ledger.after(address, bytes.length, dmaTag(DmaPurpose.rxBuffer, 0, 0, false));
      };
      ledger.beginUndo();
      before.forEach(write);
      ledger.markVcpusPaused();
      const atPause = memory.bytes().slice();
      after.forEach(write);
      const final = memory.bytes().slice();

      const record = ledger.record();
      const found = new WritesAfterPause(record, final, 6);
      assert.deepEqual(found.atPause.slice(0, memoryBytes), atPause);
      after.forEach(({ bytes }, index) => assert.deepEqual(found.written(before.length + index), bytes));
      const chosen = atPause.slice();
      for (const { address, bytes, isIncluded } of after) if (isIncluded) chosen.set(bytes, address);
      const includes = (row: number): boolean => after[row - before.length]?.isIncluded === true;
      assert.deepEqual(found.memoryWith(includes).slice(0, memoryBytes), chosen);
      assert.deepEqual(found.memoryWith(() => true).slice(0, memoryBytes), final);
      assert.deepEqual(found.atPause.slice(0, memoryBytes), atPause);
    }),
    { numRuns: 200 },
  );
});
