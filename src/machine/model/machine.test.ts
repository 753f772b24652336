// The model guest on a real VF: it receives, sends, recycles its pages, starts over, moves, and dies alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../../base/errors.ts";
import { SeededRandom } from "../../base/random.ts";
import { PageSet } from "../../memory/page-set.ts";
import { fullSizeOptions, ModelHost, toyOptions, type ModelHostOptions } from "./host.ts";
import { modelThreads } from "./machine.ts";

const kinds: Readonly<Record<string, ModelHostOptions>> = {
  "toy pages": toyOptions,
  "toy pages, a buffer each, head write-back": {
    ...toyOptions,
    memoryBytes: 8192,
    buffersPerPage: 1,
    bufferUnitBytes: 64,
    headWriteBack: true,
  },
  "toy pages, two queues": { ...toyOptions, memoryBytes: 32_768, queuePairs: 2 },
  "full-size pages": fullSizeOptions,
  "full-size pages, two queues, reports now and then": {
    ...fullSizeOptions,
    queuePairs: 2,
    transmitReportEvery: 3,
    prefetchDescriptors: 8,
  },
};

async function booted(options: ModelHostOptions): Promise<ModelHost> {
  const host = new ModelHost(options);
  await host.boot();
  assert.equal(host.machine.panic, undefined);
  return host;
}

/** Frames, guest and device in random turns, some applications slower than others. Gives the number of frames offered. */
function runAtRandom(host: ModelHost, seed: number, turns: number, next: number[] = Array(8).fill(0)): number {
  const random = new SeededRandom(seed);
  const applicationShare = 1 + random.below(4);
  let offered = 0;
  for (let turn = 0; turn < turns; turn++) {
    const dice = random.below(20);
    if (dice === 0) {
      const flow = random.below(next.length);
      const sequence = next[flow] ?? 0;
      next[flow] = sequence + 1;
      host.offer({ flow, sequence }, 60 + random.below(random.chance(0.2) ? 400 : 40));
      offered++;
    } else if (dice < 8) host.vf.step();
    else if (dice < 20 - applicationShare) host.machine.step("driver");
    else host.machine.step("application");
  }
  return offered;
}

for (const [name, options] of Object.entries(kinds)) {
  test(`with ${name}, whatever takes turns, every frame arrives or is counted as dropped, and every byte is right`, async () => {
    for (let seed = 1; seed <= 10; seed++) {
      const host = await booted(options);
      const offered = runAtRandom(host, seed, 8000);
      host.runApplication(0);
      const { machine, vf } = host;
      const { counters } = machine;
      const { delivered, withoutDescriptors, packetBufferFull } = vf.statistics.receive;
      assert.equal(machine.panic, undefined);
      assert.ok(counters.verified > 100, `only ${counters.verified} frames`);
      assert.deepEqual(
        [counters.corrupt, counters.repeated, counters.errors, counters.allocationFailures],
        [0, 0, 0, 0],
      );
      assert.equal(delivered, counters.received + counters.droppedBySocket);
      assert.equal(counters.received, counters.verified);
      assert.equal(delivered + withoutDescriptors + packetBufferFull, offered);
      assert.ok(counters.sent > 50);
      assert.equal(host.sent.length, counters.sent);
      assert.ok(!host.sent.includes(undefined));
      const { guestMistakes } = vf.statistics;
      assert.ok(Object.values(guestMistakes).every((count) => count === 0));
    }
  });
}

test("pages leave the rings for good while the stack has both halves, and come back when it has not", async () => {
  const host = await booted(toyOptions);
  const { machine, vf, tracker } = host;
  const pages = new PageSet(machine.memory.pages.count);
  const offerMany = (count: number, from: number): void => {
    for (let i = 0; i < count; i++) {
      host.offer({ flow: 0, sequence: from + i }, 120);
      while (vf.step() || machine.step("driver"));
    }
  };
  offerMany(40, 0);
  tracker.fetchReleased(pages);
  assert.ok(pages.size > 0, "no page ever left the rings");
  assert.ok(machine.counters.droppedBySocket > 0, "the socket was never full");
  while (machine.readSocket());
  pages.clear();
  tracker.mappedInto(pages);
  const before = pages.clone();
  for (let i = 0; i < 40; i++) {
    offerMany(1, 100 + i);
    machine.readSocket();
  }
  tracker.mappedInto(pages);
  assert.deepEqual(pages.toArray(), before.toArray(), "a page was not used again though nobody had it");
});

test("two runs with the same choices give the same guest, byte for byte", async () => {
  const hosts = [await booted(toyOptions), await booted(toyOptions)] as const;
  for (const host of hosts) {
    runAtRandom(host, 42, 5000);
    await host.machine.pause();
  }
  const [first, second] = hosts;
  assert.deepEqual(first.machine.memory.bytes(), second.machine.memory.bytes());
  assert.deepEqual(first.machine.saveState(), second.machine.saveState());
  assert.deepEqual(first.vf.save(), second.vf.save());
});

test("the CPU's log holds every page the CPU wrote, and none that only the device wrote", async () => {
  const host = await booted(toyOptions);
  const { machine } = host;
  const { count, sizeBytes } = machine.memory.pages;
  machine.cpuDirtyLog.start();
  const device = new PageSet(count);
  host.deviceLog.fetchAndClear(device);
  device.clear();
  const before = machine.memory.bytes().slice();
  runAtRandom(host, 5, 4000);
  const cpu = new PageSet(count);
  machine.cpuDirtyLog.fetchAndClear(cpu);
  host.deviceLog.fetchAndClear(device);
  let onlyDevice = 0;
  for (let page = 0; page < count; page++) {
    const range = [page * sizeBytes, (page + 1) * sizeBytes] as const;
    const isSame = Buffer.compare(before.subarray(...range), machine.memory.bytes().subarray(...range)) === 0;
    assert.ok(isSame || cpu.has(page) || device.has(page), `page ${page} changed unnoticed`);
    if (device.has(page) && !cpu.has(page)) onlyDevice++;
  }
  assert.ok(onlyDevice > 0, "the CPU wrote every page the device wrote, so nothing was shown");
  machine.cpuDirtyLog.putBack(cpu);
  const again = new PageSet(count);
  machine.cpuDirtyLog.fetchAndClear(again);
  assert.deepEqual(again.toArray(), cpu.toArray());
});

test("when the PF resets the VF the driver drops its rings, starts over, and loses no page", async () => {
  const host = await booted(toyOptions);
  const next: number[] = [0, 0, 0, 0];
  for (let round = 1; round <= 5; round++) {
    runAtRandom(host, round, 2000, next);
    host.vf.pfReset();
    runAtRandom(host, round + 100, 2000, next);
    host.settle();
    const { opened, corrupt, repeated, verified } = host.machine.counters;
    assert.deepEqual([host.machine.panic, opened, corrupt, repeated], [undefined, 1 + round, 0, 0]);
    for (const [flow, sequence] of next.entries()) host.offer({ flow, sequence }, 90);
    host.settle();
    assert.equal(host.machine.counters.verified, verified + next.length);
    for (const flow of next.keys()) next[flow] = (next[flow] ?? 0) + 1;
  }
  assert.equal(host.machine.counters.allocationFailures, 0);
});

test("a driver that is asked to open anew takes rings elsewhere and goes on", async () => {
  const host = await booted(toyOptions);
  const { base } = host.vf.rxRing(0);
  host.machine.requestReopen();
  host.settle();
  assert.notEqual(host.vf.rxRing(0).base, base);
  host.offer({ flow: 1, sequence: 0 }, 100);
  host.settle();
  assert.equal(host.machine.counters.verified, 1);
});

test("a guest whose state and RAM are carried over goes on where it was, interrupts in flight included", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const source = await booted(toyOptions);
    const next: number[] = [0, 0, 0];
    runAtRandom(source, seed, 1500, next);
    await source.machine.pause();
    source.vf.stop();
    const destination = new ModelHost(toyOptions);
    destination.machine.memory.bytes().set(source.machine.memory.bytes());
    destination.machine.restoreState(source.machine.saveState());
    destination.vf.restore(source.vf.save());
    destination.vf.start();
    await destination.machine.resume();
    runAtRandom(destination, seed, 1500, next);
    destination.settle();
    const { counters } = destination.machine;
    assert.equal(destination.machine.panic, undefined);
    assert.deepEqual([counters.corrupt, counters.repeated, counters.allocationFailures], [0, 0, 0]);
    assert.equal(counters.received, counters.verified);
  }
});

test("a state that is damaged, foreign or hostile is refused, or it hurts nobody but its own guest", async () => {
  const host = await booted(toyOptions);
  runAtRandom(host, 9, 3000);
  await host.machine.pause();
  const good = host.machine.saveState();
  const vf = host.vf.save();
  const isRefused = (error: unknown): boolean =>
    error instanceof OperationError && error.code === "machine-state-invalid";
  assert.throws(() => new ModelHost(fullSizeOptions).machine.restoreState(good), isRefused);
  for (const text of ["", "null", "[]", "{}", "\u{ff}"]) {
    assert.throws(() => new ModelHost(toyOptions).machine.restoreState(Buffer.from(text, "latin1")), isRefused);
  }
  const numbers = [...Buffer.from(good).toString().matchAll(/-?\d+/g)].map((match) => match.index);
  let taken = 0;
  let panics = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(fc.nat(numbers.length - 1), fc.constantFrom("0", "1", "15", "16", "255", "65535", "-1", "1e99")),
        {
          minLength: 1,
          maxLength: 4,
        },
      ),
      async (changes) => {
        let text = Buffer.from(good).toString();
        for (const [index, value] of changes) {
          const at = numbers[index] ?? 0;
          text = text.slice(0, at) + text.slice(at).replace(/^-?\d+/, value.padStart(1));
        }
        const other = new ModelHost(toyOptions);
        other.machine.memory.bytes().set(host.machine.memory.bytes());
        try {
          other.machine.restoreState(Buffer.from(text));
        } catch (thrown) {
          assert.ok(isRefused(thrown), String(thrown));
          return;
        }
        taken++;
        other.vf.restore(vf);
        other.vf.start();
        await other.machine.resume();
        for (let i = 0; i < 300; i++) {
          for (const thread of modelThreads) other.machine.step(thread);
          other.vf.step();
          if (i % 10 === 0) other.offer({ flow: 0, sequence: i }, 60);
        }
        if (other.machine.panic !== undefined) panics++;
      },
    ),
    { numRuns: 300, seed: 20_261_123 },
  );
  assert.ok(taken > 20 && panics > 0, `${taken} states were taken, ${panics} guests died`);
});
