// The drivers that help a migration, on a real VF and without one: they are drivers like any other, and mark what they say.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../base/random.ts";
import { DmaPurpose, tagPurpose, tagRelaxedOrdering } from "../../iommu/dma-port.ts";
import { PageSet } from "../../memory/page-set.ts";
import { cooperations } from "./cooperation.ts";
import { ModelHost, toyOptions, type ModelHostOptions } from "./host.ts";

async function booted(options: ModelHostOptions): Promise<ModelHost> {
  const host = new ModelHost(options);
  await host.boot();
  assert.equal(host.machine.panic, undefined);
  return host;
}

/** Frames, guest and device in random turns, at times more of one than of the others. Gives the number of frames offered. */
function runAtRandom(host: ModelHost, random: SeededRandom, turns: number, next: number[]): number {
  const frameEvery = 20 * (1 + random.below(4));
  let offered = 0;
  for (let turn = 0; turn < turns; turn++) {
    const dice = random.below(20);
    if (random.below(frameEvery) === 0) {
      const flow = random.below(next.length);
      const sequence = next[flow] ?? 0;
      next[flow] = sequence + 1;
      host.offer({ flow, sequence }, 60 + random.below(random.chance(0.2) ? 400 : 40));
      offered++;
    } else if (dice < 7) host.vf.step();
    else if (dice < 18) host.machine.step("driver");
    else host.machine.step("application");
  }
  return offered;
}

/** Writes to a buffer that the device owns destroy frames by their nature. */
const harmless = cooperations.filter((cooperation) => cooperation !== "dummy-write-before");
const guests: Readonly<Record<string, ModelHostOptions>> = {
  "one queue": toyOptions,
  "two queues": { ...toyOptions, memoryBytes: 32_768, queuePairs: 2, prefetchDescriptors: 4 },
};

for (const cooperation of harmless) {
  for (const [name, options] of Object.entries(guests)) {
    test(`a driver with ${cooperation} and ${name} delivers every frame whole, whatever takes turns`, async () => {
      for (let seed = 1; seed <= 8; seed++) {
        const host = await booted({ ...options, cooperation });
        const offered = runAtRandom(host, new SeededRandom(seed), 8000, [0, 0, 0, 0]);
        host.runApplication(0);
        const { machine, vf } = host;
        const { verified, corrupt, repeated, errors, received, droppedBySocket } = machine.counters;
        const { delivered, withoutDescriptors, packetBufferFull } = vf.statistics.receive;
        assert.deepEqual([machine.panic, corrupt, repeated, errors], [undefined, 0, 0, 0], `seed ${seed}`);
        assert.ok(verified > 40, `seed ${seed}: only ${verified} frames`);
        assert.deepEqual([received, received + droppedBySocket], [verified, delivered]);
        assert.equal(delivered + withoutDescriptors + packetBufferFull, offered);
        assert.equal(host.sent.length, machine.counters.sent);
        assert.ok(!host.sent.includes(undefined));
      }
    });
  }
}

test("a driver that dirties buffers before it looks destroys frames that arrive meanwhile, and only those", async () => {
  let corrupt = 0;
  for (let seed = 1; seed <= 10; seed++) {
    const host = await booted({ ...toyOptions, cooperation: "dummy-write-before" });
    const next = [0, 0, 0, 0];
    runAtRandom(host, new SeededRandom(seed), 8000, next);
    host.runApplication(0);
    corrupt += host.machine.counters.corrupt;
    // The device at rest whenever the driver runs: no window, no harm.
    const { verified, corrupt: corruptBefore } = host.machine.counters;
    for (let frame = 0; frame < 50; frame++) {
      const flow = frame % next.length;
      const sequence = next[flow] ?? 0;
      next[flow] = sequence + 1;
      host.offer({ flow, sequence }, 60 + frame);
      host.vf.run();
      host.settle();
    }
    assert.deepEqual([host.machine.counters.verified - verified, host.machine.counters.corrupt], [50, corruptBefore]);
    assert.equal(host.machine.panic, undefined);
  }
  assert.ok(corrupt > 0, "no frame was ever destroyed");
});

for (const cooperation of ["dummy-write-after", "copy-descriptors", "shuffle"] as const) {
  test(`with ${cooperation} the CPU's log names the page of every buffer before the driver takes it`, async () => {
    const host = await booted({ ...toyOptions, cooperation });
    const { machine } = host;
    const { pages } = machine.memory;
    const log = new PageSet(pages.count);
    machine.cpuDirtyLog.start();
    const filled = new Set<number>();
    host.dma.addObserver({
      after: (address, _length, tag) => {
        if (tagPurpose(tag) === DmaPurpose.rxBuffer) filled.add(Math.floor(address / pages.sizeBytes));
      },
    });
    let sawWindow = false;
    for (let sequence = 0; sequence < 100; sequence++) {
      filled.clear();
      host.offer({ flow: 0, sequence }, 60 + (sequence % 60));
      host.vf.run();
      log.clear();
      machine.cpuDirtyLog.fetchAndClear(log);
      log.clear();
      while (machine.step("driver")) sawWindow ||= machine.isBetweenCheckAndWrite.includes(true);
      machine.cpuDirtyLog.fetchAndClear(log);
      for (const page of filled) assert.ok(log.has(page), `frame ${sequence}: page ${page} is not in the log`);
      machine.readSocket();
    }
    assert.equal(machine.counters.verified, 100);
    assert.ok(sawWindow, "the driver was never between the check and the write");
    assert.ok(!machine.isBetweenCheckAndWrite.includes(true), "the driver is idle");
  });
}

test("the stock driver has no window between check and write", async () => {
  const host = await booted(toyOptions);
  host.offer({ flow: 0, sequence: 0 }, 100);
  host.vf.run();
  do assert.deepEqual(host.machine.isBetweenCheckAndWrite, [false]);
  while (host.machine.step("driver"));
});

test("a driver that shuffles keeps every buffer and every done frame when the PF resets the VF", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const host = await booted({ ...toyOptions, cooperation: "shuffle", transmitContextEvery: 1 });
    const { machine, vf } = host;
    const random = new SeededRandom(seed);
    const next = [0, 0, 0, 0];
    for (let round = 1; round <= 5; round++) {
      runAtRandom(host, random, 1000 + random.below(1000), next);
      // A frame cut by the reset loses its end: that is the strategy's own trouble, not the driver's.
      vf.run();
      vf.pfReset();
      const { delivered } = vf.statistics.receive;
      host.settle();
      const { counters } = machine;
      assert.deepEqual(
        [machine.panic, counters.opened, counters.corrupt, counters.repeated],
        [undefined, 1 + round, 0, 0],
        `seed ${seed}`,
      );
      assert.equal(counters.verified + counters.droppedBySocket, delivered, `seed ${seed}: a done frame was dropped`);
      assert.equal(vf.rxRing(0).base, machine.layout.receiveRing(0, 0), "the rings stay where they are");
      for (const [flow, sequence] of next.entries()) host.offer({ flow, sequence }, 90);
      host.settle();
      assert.equal(counters.verified + counters.droppedBySocket, delivered + next.length);
      for (const flow of next.keys()) next[flow] = (next[flow] ?? 0) + 1;
      const sent = counters.sent - counters.abandoned;
      host.runApplication(400);
      assert.ok(machine.counters.sent - machine.counters.abandoned > sent + 20, `seed ${seed}: transmit hangs`);
    }
  }
});

test("a frame that a reset cuts in two is taken together with the next by a driver that shuffles", async () => {
  const host = await booted({ ...toyOptions, cooperation: "shuffle" });
  const { machine, vf } = host;
  host.offer({ flow: 0, sequence: 0 }, 120);
  while (!vf.save().receive.queues[0]?.frameInProgress) assert.ok(vf.step(), "the frame is of several descriptors");
  vf.pfReset();
  host.settle();
  host.offer({ flow: 0, sequence: 1 }, 120);
  host.offer({ flow: 0, sequence: 2 }, 120);
  host.settle();
  assert.deepEqual([machine.panic, machine.counters.corrupt, machine.counters.verified], [undefined, 1, 1]);
});

test("a driver that shuffles takes new rings when an administrator asks for them", async () => {
  const host = await booted({ ...toyOptions, cooperation: "shuffle" });
  host.machine.requestReopen();
  host.settle();
  assert.equal(host.vf.rxRing(0).base, host.machine.layout.receiveRing(1, 0));
});

test("receive write-backs are relaxed when the driver is made to ask for it, and buffers never are", async () => {
  for (const isRelaxed of [false, true]) {
    const host = await booted({ ...toyOptions, descriptorWriteRelaxedOrdering: isRelaxed });
    const seen = new Map<DmaPurpose, boolean>();
    host.dma.addObserver({ after: (_address, _length, tag) => seen.set(tagPurpose(tag), tagRelaxedOrdering(tag)) });
    host.offer({ flow: 0, sequence: 0 }, 100);
    host.settle();
    assert.deepEqual([seen.get(DmaPurpose.rxBuffer), seen.get(DmaPurpose.rxWriteBack)], [false, isRelaxed]);
  }
});

test("a guest goes on only in a machine whose driver helps in the same way", async () => {
  const states = new Set<string>();
  for (const cooperation of cooperations) {
    const host = await booted({ ...toyOptions, cooperation });
    await host.machine.pause();
    const state = host.machine.saveState();
    states.add((JSON.parse(new TextDecoder().decode(state)) as { shape: string }).shape);
    new ModelHost({ ...toyOptions, cooperation }).machine.restoreState(state);
    for (const other of cooperations) {
      if (other === cooperation) continue;
      const machine = new ModelHost({ ...toyOptions, cooperation: other }).machine;
      assert.throws(() => machine.restoreState(state), { code: "machine-state-invalid" });
    }
  }
  assert.equal(states.size, cooperations.length);
});
