// Interrupts by messages: each is sent when the client's table lets it, once, and after the data it tells of.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { IdentityDomain } from "../../../iommu/domain.ts";
import { GuestDma } from "../../../iommu/guest-dma.ts";
import { BufferMemory } from "../../../memory/guest-memory.ts";
import { MessageClient } from "./message-client.fixture.ts";
import { MessageInterrupts } from "./message-interrupts.ts";

const TABLE = 0x1000;
const TARGET = 0x8000;
const VECTORS = 3;

interface Bench {
  readonly memory: BufferMemory;
  readonly client: MessageClient;
  readonly interrupts: MessageInterrupts;
  /** Data of the messages that arrived. */
  readonly arrived: number[];
  readonly timers: (() => void)[];
  /** Each delay that was asked for. */
  readonly delaysMs: number[];
  mask(vector: number, isMasked: boolean): void;
}

function bench(tableAddress = (): number => TABLE): Bench {
  const memory = new BufferMemory(1 << 16);
  const arrived: number[] = [];
  const timers: (() => void)[] = [];
  const delaysMs: number[] = [];
  const port = new GuestDma({ memory, domain: new IdentityDomain() });
  port.addObserver({ after: (address) => void arrived.push(memory.words()[address / 4] ?? -1) });
  const client = new MessageClient(port);
  const after = (delayMs: number, callback: () => void): void => {
    delaysMs.push(delayMs);
    timers.push(callback);
  };
  const interrupts = new MessageInterrupts({ requester: client, vectors: VECTORS, tableAddress, after });
  const words = memory.words();
  for (let vector = 0; vector < VECTORS; vector++) {
    words.set([TARGET + 4 * vector, 0, 0x40 + vector, 0], TABLE / 4 + 4 * vector);
  }
  const mask = (vector: number, isMasked: boolean): void => {
    words[TABLE / 4 + 4 * vector + 3] = isMasked ? 1 : 0;
  };
  return { memory, client, interrupts, arrived, timers, delaysMs, mask };
}

function settle({ client }: Bench): void {
  while (client.work() || client.arrive());
}

test("a vector that is raised sends the data of its entry to the address of its entry", () => {
  const all = bench();
  all.interrupts.raise(2);
  all.interrupts.raise(VECTORS);
  settle(all);
  assert.deepEqual(all.arrived, [0x42]);
  assert.equal(all.memory.words()[TARGET / 4 + 2], 0x42);
  assert.deepEqual([all.interrupts.sent, all.interrupts.unsent], [1, 0]);
});

test("the message comes after every write that was made before it, also when it was asked for already", () => {
  const all = bench();
  all.interrupts.raise(0);
  all.client.work();
  all.client.write(0x4000, Uint8Array.of(7, 0, 0, 0));
  all.interrupts.raise(0);
  settle(all);
  assert.deepEqual(all.arrived, [7, 0x40]);
});

test("a masked vector stays pending, is looked at modestly, and is sent once when it is free", () => {
  const all = bench();
  all.mask(1, true);
  for (let i = 0; i < 5; i++) all.interrupts.raise(1);
  settle(all);
  assert.deepEqual([all.client.sent.read, all.timers.length, all.interrupts.unsent], [1, 1, 1]);
  all.timers.shift()?.();
  settle(all);
  assert.deepEqual([all.client.sent.read, all.timers.length, all.arrived.length], [2, 1, 0]);
  all.mask(1, false);
  all.interrupts.lookAgain();
  settle(all);
  all.timers.shift()?.();
  settle(all);
  assert.deepEqual([all.arrived, all.timers.length, all.client.sent.read], [[0x41], 0, 3]);
});

test("a table that is nowhere, or refused, keeps the message pending", () => {
  let table = -1;
  const all = bench(() => table);
  all.interrupts.raise(0);
  settle(all);
  assert.deepEqual([all.client.sent.read, all.interrupts.unsent], [0, 1]);
  table = 0x10_0000;
  all.interrupts.lookAgain();
  settle(all);
  assert.deepEqual([all.interrupts.refused, all.interrupts.unsent], [1, 1]);
  table = TABLE;
  all.timers.shift()?.();
  settle(all);
  assert.deepEqual([all.arrived, all.interrupts.unsent], [[0x40], 0]);
});

test("looks that are refused become rare, and are as frequent as ever once one was not", () => {
  let table = 0x10_0000;
  const all = bench(() => table);
  const lookTimes = (count: number): void => {
    for (let i = 0; i < count; i++) {
      all.timers.shift()?.();
      all.interrupts.raise(0);
      settle(all);
    }
  };
  all.interrupts.raise(0);
  settle(all);
  lookTimes(11);
  assert.deepEqual(all.delaysMs.slice(0, 4), [20, 40, 80, 160]);
  assert.deepEqual([all.delaysMs.at(-1), all.client.sent.read], [10_240, 12]);
  table = TABLE;
  all.mask(0, true);
  lookTimes(2);
  assert.equal(all.delaysMs.at(-1), 10);
  all.mask(0, false);
  all.timers.shift()?.();
  settle(all);
  assert.deepEqual(all.arrived, [0x40]);
});

test("after a reset nothing is sent that was raised before", () => {
  const all = bench();
  all.mask(0, true);
  all.interrupts.raise(0);
  settle(all);
  all.mask(0, false);
  all.interrupts.raise(1);
  all.interrupts.reset();
  all.timers.shift()?.();
  settle(all);
  assert.deepEqual([all.arrived, all.interrupts.unsent], [[], 0]);
  all.interrupts.raise(1);
  settle(all);
  assert.deepEqual(all.arrived, [0x41]);
});

test("whatever is masked when, each vector that was raised is sent at least once after it was raised, and then no more", () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constantFrom("raise", "mask", "unmask"), vector: fc.nat(VECTORS - 1) }),
    fc.record({ kind: fc.constantFrom("work", "arrive", "timer"), vector: fc.constant(0) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60, size: "max" }), (list) => {
      const all = bench();
      const raisedAt = new Map<number, number>();
      let raised = 0;
      for (const { kind, vector } of list) {
        if (kind === "raise") {
          all.interrupts.raise(vector);
          raised++;
          raisedAt.set(vector, all.arrived.length);
        } else if (kind === "work") all.client.work();
        else if (kind === "arrive") all.client.arrive();
        else if (kind === "timer") all.timers.shift()?.();
        else all.mask(vector, kind === "mask");
        assert.ok(all.timers.length <= 1);
      }
      for (let vector = 0; vector < VECTORS; vector++) all.mask(vector, false);
      settle(all);
      while (all.timers.length > 0) {
        all.timers.shift()?.();
        settle(all);
      }
      for (const [vector, at] of raisedAt) assert.ok(all.arrived.slice(at).includes(0x40 + vector));
      assert.ok(all.arrived.length <= raised);
      assert.equal(all.interrupts.unsent, 0);
    }),
    { seed: 20_151_029, numRuns: 300 },
  );
});
