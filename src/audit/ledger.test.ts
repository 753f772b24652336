import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { dmaTag, DmaPurpose } from "../iommu/dma-port.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { deserializeLedger, serializeLedger } from "./ledger-codec.ts";
import { attribute, factEndOfPacket, factLength, type LedgerRecord } from "./ledger-record.ts";
import { Ledger, type LedgerOptions } from "./ledger.ts";

const memoryBytes = 1024;

class Rig {
  readonly memory = new BufferMemory(memoryBytes, { pageBytes: 64 });
  readonly ledger: Ledger;

  constructor(options: LedgerOptions = {}) {
    this.ledger = new Ledger(this.memory, { writesMax: 16, undoBytesMax: 512, ...options });
  }

  write(address: number, bytes: readonly number[] | Uint8Array, tag: number): void {
    this.ledger.before(address, bytes.length);
    if (address + bytes.length <= memoryBytes) this.memory.bytes().set(bytes, address);
    this.ledger.after(address, bytes.length, tag);
  }

  buffer(slot: number, lengthBytes = 4, address = 256 + slot * 16): void {
    this.write(address, new Uint8Array(lengthBytes).fill(slot + 1), dmaTag(DmaPurpose.rxBuffer, 0, slot, true));
  }

  writeBack(slot: number, lengthBytes: number, isEnd = true, relaxed = false): void {
    const words = Uint32Array.of(0, 0, isEnd ? 3 : 1, lengthBytes);
    this.write(slot * 16, new Uint8Array(words.buffer), dmaTag(DmaPurpose.rxWriteBack, 0, slot, relaxed));
  }
}

test("the ledger keeps every write in order, with what each write-back said", () => {
  const rig = new Rig();
  rig.buffer(0);
  rig.writeBack(0, 4, false);
  rig.buffer(1, 7);
  rig.writeBack(1, 7);
  const record = rig.ledger.record();
  assert.deepEqual([...record.addresses], [256, 0, 272, 16]);
  assert.deepEqual([...record.lengths], [4, 16, 7, 16]);
  assert.deepEqual([...record.facts].map(factLength), [0, 4, 0, 7]);
  assert.deepEqual([...record.facts].map(factEndOfPacket), [false, false, false, true]);
  assert.deepEqual([...attribute(record).frames], [0, 0, 0, 0]);
  assert.equal(rig.ledger.framesCompleted, 1);
});

test("old writes are folded away, their frames stay counted, and later frames keep their ordinals", () => {
  const rig = new Rig({ writesMax: 8 });
  for (let frame = 0; frame < 20; frame++) {
    rig.buffer(frame % 4);
    rig.writeBack(frame % 4, 4);
  }
  const record = rig.ledger.record();
  assert.deepEqual([record.rows, record.firstSequence], [8, 32]);
  assert.equal(record.framesCompleted[0], 20);
  assert.deepEqual([...attribute(record).frames], [16, 16, 17, 17, 18, 18, 19, 19]);
});

test("a buffer that lands before the write-back of the frame ahead of it belongs to its own frame", () => {
  const rig = new Rig();
  rig.buffer(0);
  rig.buffer(1);
  rig.writeBack(0, 4);
  rig.writeBack(1, 4);
  assert.deepEqual([...attribute(rig.ledger.record()).frames], [0, 1, 0, 1]);
});

test("a write-back with relaxed ordering gets the buffer that lands after it, one without never does", () => {
  for (const relaxed of [true, false]) {
    const rig = new Rig();
    rig.writeBack(0, 4, true, relaxed);
    rig.buffer(0);
    const { frames, writeBackRows } = attribute(rig.ledger.record());
    assert.deepEqual([...frames], relaxed ? [0, 0] : [0, -1]);
    assert.deepEqual([...writeBackRows], relaxed ? [0, 0] : [0, -1]);
  }
});

test("a ledger that lost a write or a pre-image after the pause says so, and one that lost older ones does not", () => {
  const few = new Rig({ writesMax: 4 });
  for (let slot = 0; slot < 6; slot++) few.buffer(slot);
  few.ledger.markVcpusPaused();
  for (let slot = 0; slot < 4; slot++) few.buffer(slot);
  assert.equal(few.ledger.record().isIncomplete, false);
  few.buffer(4);
  assert.equal(few.ledger.record().isIncomplete, true);
  few.ledger.markVcpusResumed();
  few.ledger.markVcpusPaused();
  assert.equal(few.ledger.record().isIncomplete, false);

  const small = new Rig({ undoBytesMax: 64 });
  small.ledger.beginUndo();
  for (let slot = 0; slot < 5; slot++) small.buffer(slot, 30);
  small.ledger.markVcpusPaused();
  small.buffer(0, 30);
  assert.equal(small.ledger.record().isIncomplete, false);
  for (let slot = 0; slot < 2; slot++) small.buffer(slot, 30);
  assert.equal(small.ledger.record().isIncomplete, true);
});

test("a write that goes past memory, as a message may, has no pre-image and is not missed", () => {
  const rig = new Rig();
  rig.ledger.markVcpusPaused();
  rig.write(memoryBytes + 0x1000, [1, 2, 3, 4], dmaTag(DmaPurpose.message, 0, 0, false));
  const record = rig.ledger.record();
  assert.deepEqual([record.rows, record.isIncomplete, record.undoOffsets[0]], [1, false, -1]);
});

test("a CPU write into a buffer that waits for its write-back is noticed, and one after it is not", () => {
  const rig = new Rig({ hashContents: true });
  rig.buffer(0);
  rig.writeBack(0, 4);
  rig.memory.bytes()[256] = 99;
  rig.buffer(1);
  rig.memory.bytes()[272] = 99;
  rig.writeBack(1, 4);
  const { clobbers } = rig.ledger.record();
  assert.deepEqual(
    clobbers.map(({ descriptor, address, sequence }) => [descriptor, address, sequence]),
    [[1, 272, 3]],
  );
});

const anyWrite = fc.record({
  kind: fc.constantFrom("buffer", "end", "middle", "message"),
  slot: fc.nat(7),
  length: fc.integer({ min: 1, max: 40 }),
});

function randomRecord(
  writes: readonly { kind: string; slot: number; length: number }[],
  pauseAt: number,
): LedgerRecord {
  const rig = new Rig({ writesMax: 32, hashContents: pauseAt % 2 === 0 });
  rig.ledger.beginUndo();
  for (const [index, { kind, slot, length }] of writes.entries()) {
    if (index === pauseAt) rig.ledger.markVcpusPaused();
    if (kind === "buffer") rig.buffer(slot, length, 256 + slot * 50);
    else if (kind === "message") rig.write(0xfee0_0000, [1, 2, 3, 4], dmaTag(DmaPurpose.message, 0, slot, false));
    else rig.writeBack(slot, length, kind === "end");
  }
  return rig.ledger.record();
}

test("a ledger survives the way through bytes", () => {
  fc.assert(
    fc.property(fc.array(anyWrite, { maxLength: 60 }), fc.nat(40), (writes, pauseAt) => {
      const record = randomRecord(writes, pauseAt);
      assert.deepEqual(deserializeLedger(serializeLedger(record)), record);
    }),
    { numRuns: 100 },
  );
});

test("damaged ledgers are refused with ledger-invalid or read as a ledger, and never do anything else", () => {
  const writes = fc.array(anyWrite, { minLength: 1, maxLength: 20 });
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  let refused = 0;
  fc.assert(
    fc.property(writes, fc.nat(20), damage, fc.option(fc.nat()), (list, pauseAt, changes, cutAt) => {
      const bytes = serializeLedger(randomRecord(list, pauseAt));
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      try {
        attribute(deserializeLedger(cutAt === null ? bytes : bytes.subarray(0, cutAt % bytes.length)));
      } catch (error) {
        assert.ok(error instanceof OperationError && error.code === "ledger-invalid", String(error));
        refused++;
      }
    }),
    { numRuns: 1000 },
  );
  assert.ok(refused > 300, `only ${refused} refused`);
});

test("a device stopped before the vCPUs pause stays marked as stopped, until the source runs again", () => {
  const { ledger } = new Rig();
  ledger.markDeviceStopped();
  ledger.markVcpusPaused();
  assert.equal(ledger.record().stoppedAt, 0);
  ledger.markVcpusResumed();
  assert.equal(ledger.record().stoppedAt, -1);
});
