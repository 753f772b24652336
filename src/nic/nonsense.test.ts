// A guest that programs nonsense, on a machine whose memory faults at random, cannot crash or hang the host.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "../base/random.ts";
import { DmaStatus } from "../iommu/dma-port.ts";
import type { DmaPort } from "../iommu/dma-port.ts";
import type { AccessBytes } from "../pci/function.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "./guest.fixture.ts";
import { registerTable } from "./register-table.ts";
import { decodeVfState, encodeVfState } from "./state.ts";

/** Faults with a probability and counts what it is asked to do. */
class FaultyPort implements DmaPort {
  writes = 0;
  reads = 0;
  readonly #port: DmaPort;
  readonly #random: SeededRandom;
  readonly #probability: number;

  constructor(port: DmaPort, random: SeededRandom, probability: number) {
    this.#port = port;
    this.#random = random;
    this.#probability = probability;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    this.reads++;
    return this.#fault() ?? this.#port.readWords(iova, target, count);
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    this.writes++;
    return this.#fault() ?? this.#port.writeWords(iova, source, count, tag);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    this.reads++;
    return this.#fault() ?? this.#port.readBytes(iova, target, targetOffset, length);
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    this.writes++;
    return this.#fault() ?? this.#port.writeBytes(iova, source, sourceOffset, length, tag);
  }

  #fault(): DmaStatus | undefined {
    return this.#random.chance(this.#probability) ? DmaStatus.unmapped : undefined;
  }
}

/** A frame of many descriptors and a search over a whole ring are the most one step reads. */
const READS_PER_STEP_MAX = 3 * 4096;

const offsets = registerTable.flatMap((row) =>
  Array.from({ length: Math.min(row.count, 4) }, (_, i) => row.offset + i * row.strideBytes),
);
const values = fc.oneof(
  fc.constantFrom(0, 1, 63, 64, 1024, 0x8000, 0x0200_0000, 0x0600_0000, 0x4200_0000, 0x0200_0002, 0xffff_ffff),
  fc.nat(0xffff_ffff),
  fc.nat(0xfff),
);
const width = fc.constantFrom<AccessBytes[]>(4, 4, 4, 4, 2, 1);

const action = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("write" as const), offset: fc.constantFrom(...offsets), value: values }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("access" as const),
      bar: fc.nat(6),
      offset: fc.nat(0x5000),
      bytes: width,
      value: values,
      isWrite: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("configuration" as const),
      offset: fc.nat(0x120),
      bytes: width,
      value: values,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("memory" as const), word: fc.nat(0x1800), value: values }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("frame" as const), bytes: fc.integer({ min: 14, max: 12_000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("steps" as const), count: fc.nat(50) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("host" as const),
      what: fc.constantFrom("stop", "start", "save", "stopTransmit", "pfReset", "hang", "link", "raise", "reopen"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("time" as const), ms: fc.constantFrom(0.01, 1, 20) }) },
);
type Action = typeof action extends fc.Arbitrary<infer Value> ? Value : never;

class Trial {
  readonly #ports: { faulty?: FaultyPort } = {};
  readonly #guest: TestGuest;

  constructor(seed: number, probability: number) {
    this.#guest = new TestGuest({
      wrapDma: (port) => (this.#ports.faulty = new FaultyPort(port, new SeededRandom(seed), probability)),
    });
    this.#guest.boot();
  }

  act(what: Action): void {
    const { vf, memory, clock } = this.#guest;
    if (what.kind === "write") vf.writeBar(0, what.offset, 4, what.value);
    else if (what.kind === "memory") memory.words()[what.word] = what.value;
    else if (what.kind === "configuration") vf.writeConfiguration(what.offset, what.bytes, what.value);
    else if (what.kind === "frame") vf.receiveFrame(frameTo(guestMac, otherMac, what.bytes, what.bytes));
    else if (what.kind === "time") clock.advance(what.ms);
    else if (what.kind === "steps") this.#step(what.count);
    else if (what.kind === "host") this.#host(what.what);
    else if (what.isWrite) vf.writeBar(what.bar, what.offset, what.bytes, what.value);
    else this.#checkRead(vf.readBar(what.bar, what.offset, what.bytes), what.bytes);
  }

  #checkRead(value: number, bytes: AccessBytes): void {
    assert.ok(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * bytes), `${value} in ${bytes} bytes`);
  }

  #step(count: number): void {
    const port: FaultyPort | undefined = this.#ports.faulty;
    if (port === undefined) return;
    for (let i = 0; i < count; i++) {
      const { reads, writes }: FaultyPort = port;
      const isBusy = this.#guest.vf.step();
      assert.ok(port.writes - writes <= 1, "a step wrote twice");
      assert.ok(port.reads - reads <= READS_PER_STEP_MAX, `a step read ${port.reads - reads} times`);
      if (!isBusy) break;
    }
  }

  #host(what: string): void {
    const { vf } = this.#guest;
    if (what === "stop") vf.stop();
    else if (what === "start") vf.start();
    else if (what === "stopTransmit") vf.stopTransmit();
    else if (what === "pfReset") vf.pfReset();
    else if (what === "hang") vf.pfReset("transmit-hang");
    else if (what === "raise") vf.raiseAllEnabled();
    else if (what === "link") vf.setLink({ up: vf.readBar(0, 0x10, 4) === 0, speedMbps: 1000 });
    else if (what === "save") decodeVfState(encodeVfState(vf.save()));
    else if (what === "reopen") this.reopen();
  }

  /** Whatever happened, a driver that starts from the beginning gets a working VF. */
  reopen(): void {
    const { vf } = this.#guest;
    vf.start();
    vf.setLink({ up: true, speedMbps: 10_000 });
    vf.writeConfiguration(0xa8, 2, 0x8000);
    this.#guest.enumerate();
    this.#guest.driver.reset();
    this.#guest.driver.negotiate();
    this.#guest.open();
  }

  /** The VF comes to rest by itself. */
  settle(): void {
    for (let steps = 0; this.#guest.vf.step(); steps++) {
      assert.ok(steps < 200_000, "the VF does not come to rest");
      this.#guest.clock.advance(1);
    }
  }

  checkItWorks(): void {
    this.reopen();
    this.settle();
    this.#guest.interrupts.length = 0;
    this.#guest.poll();
    this.#guest.vf.receiveFrame(frameTo(guestMac, otherMac, 100, 3));
    this.settle();
    assert.deepEqual(this.#guest.poll(), [frameTo(guestMac, otherMac, 100, 3)]);
  }
}

test("nonsense from the guest and faults from memory never throw, and every step is bounded", () => {
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 120 }),
      fc.nat(),
      fc.constantFrom(0, 0.01, 0.3),
      (actions, seed, odds) => {
        const trial = new Trial(seed, odds);
        for (const what of actions) trial.act(what);
        trial.settle();
      },
    ),
    { seed: 82_599, numRuns: 200 },
  );
});

test("after any nonsense a driver that starts from the beginning gets a working VF", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
      const trial = new Trial(1, 0);
      for (const what of actions) trial.act(what);
      trial.checkItWorks();
    }),
    { seed: 82_599, numRuns: 100 },
  );
});
