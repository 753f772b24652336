import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { AssertionError } from "../base/assert.ts";
import { BufferMemory } from "../memory/guest-memory.ts";
import { IdentityDomain } from "./domain.ts";
import { DmaPurpose, DmaStatus, dmaTag, tagRelaxedOrdering } from "./dma-port.ts";
import { GuestDma } from "./guest-dma.ts";
import { PostedWrites, type PostedWrite } from "./posted-writes.ts";

const memoryBytes = 256;
const make = (options: ConstructorParameters<typeof PostedWrites>[1] = {}) => {
  const memory = new BufferMemory(memoryBytes, { pageBytes: 64 });
  const domain = new IdentityDomain();
  const port = new GuestDma({ memory, domain });
  return { memory, domain, port, posted: new PostedWrites(port, options) };
};

const buffer = (index: number, relaxed = true): number => dmaTag(DmaPurpose.rxBuffer, 0, index, relaxed);
const writeBack = (index: number, relaxed: boolean): number => dmaTag(DmaPurpose.rxWriteBack, 0, index, relaxed);

const writes = fc.array(
  fc.record({
    iova: fc.integer({ min: 0, max: memoryBytes - 16 }).map((a) => a & ~3),
    value: fc.integer({ min: 1, max: 255 }),
    length: fc.constantFrom(4, 8, 16),
    relaxed: fc.boolean(),
    inWords: fc.boolean(),
  }),
  { maxLength: 20, size: "max" },
);

test("in order, memory goes through exactly the states that direct writes give it, only later", () => {
  fc.assert(
    fc.property(writes, (list) => {
      const direct = make();
      const delayed = make();
      const send = (port: GuestDma | PostedWrites, w: (typeof list)[number]): void => {
        const bytes = new Uint8Array(16).fill(w.value);
        if (w.inWords) port.writeWords(w.iova, new Uint32Array(bytes.buffer), w.length / 4, buffer(0, w.relaxed));
        else port.writeBytes(w.iova, bytes, 0, w.length, buffer(0, w.relaxed));
        bytes.fill(0xee);
      };
      for (const w of list) send(delayed.posted, w);
      assert.equal(delayed.posted.pending, list.length);
      for (const w of list) {
        send(direct.port, w);
        assert.ok(delayed.posted.step());
        assert.deepEqual(delayed.memory.bytes(), direct.memory.bytes());
      }
      assert.equal(delayed.posted.step(), false);
    }),
  );
});

test("a write-back with relaxed ordering may be seen before its buffer, and without it never", () => {
  const lastOne = (inFlight: readonly PostedWrite[]): number => inFlight.length - 1;
  const relaxed = make({ choose: lastOne });
  relaxed.posted.writeBytes(0, new Uint8Array([1]), 0, 1, buffer(0));
  relaxed.posted.writeBytes(64, new Uint8Array([2]), 0, 1, writeBack(0, true));
  relaxed.posted.step();
  assert.deepEqual([relaxed.memory.bytes()[0], relaxed.memory.bytes()[64]], [0, 2]);

  const strict = make({ choose: lastOne });
  strict.posted.writeBytes(0, new Uint8Array([1]), 0, 1, buffer(0));
  strict.posted.writeBytes(64, new Uint8Array([2]), 0, 1, writeBack(0, false));
  assert.throws(() => strict.posted.step(), AssertionError);
});

test("whatever a legal chooser does, a write without relaxed ordering lands after all that were sent before it", () => {
  fc.assert(
    fc.property(writes, fc.infiniteStream(fc.nat()), (list, draws) => {
      const landed: number[] = [];
      const { posted, port } = make({
        choose: (inFlight) => {
          const legal = inFlight.map((_, i) => i).filter((i) => i === 0 || tagRelaxedOrdering(inFlight[i]?.tag ?? 0));
          return legal[(draws.next().value ?? 0) % legal.length] ?? 0;
        },
      });
      port.addObserver({ after: (_address, _length, tag) => landed.push(tag & 0xffff) });
      list.forEach((w, i) => posted.writeBytes(w.iova, new Uint8Array(w.length), 0, w.length, buffer(i, w.relaxed)));
      while (posted.step());
      assert.deepEqual(
        [...landed].sort((a, b) => a - b),
        list.map((_, i) => i),
      );
      landed.forEach((index, position) => {
        if (list[index]?.relaxed === false) assert.ok(landed.slice(position).every((other) => other >= index));
      });
    }),
  );
});

test("a read pushes every earlier write out before it is answered", () => {
  const { posted } = make();
  posted.writeBytes(0, new Uint8Array([7, 8]), 0, 2, buffer(0));
  posted.writeWords(4, new Uint32Array([9]), 1, writeBack(0, false));
  const target = new Uint8Array(8);
  assert.equal(posted.readBytes(0, target, 0, 8), DmaStatus.ok);
  assert.deepEqual([...target], [7, 8, 0, 0, 9, 0, 0, 0]);
  assert.equal(posted.pending, 0);
  posted.writeWords(8, new Uint32Array([5]), 1, buffer(1));
  const words = new Uint32Array(1);
  posted.readWords(8, words, 1);
  assert.equal(words[0], 5);
});

test("a write that cannot land is told to the fault log and not to the device", () => {
  const { posted, domain } = make();
  assert.equal(posted.writeBytes(memoryBytes, new Uint8Array(1), 0, 1, buffer(0)), DmaStatus.ok);
  posted.flush();
  assert.equal(domain.faults.total, 1);
});

test("the oldest write lands when no more fit in flight", () => {
  const { posted, memory } = make({ inFlightMax: 2 });
  for (let i = 0; i < 3; i++) posted.writeBytes(i, new Uint8Array([i + 1]), 0, 1, buffer(i));
  assert.equal(posted.pending, 2);
  assert.deepEqual([...memory.bytes().subarray(0, 3)], [1, 0, 0]);
});
