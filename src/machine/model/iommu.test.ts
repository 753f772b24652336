// The model guest behind an IOMMU: what it maps, what it gives up, and when.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../base/random.ts";
import { PageSet } from "../../memory/page-set.ts";
import { fullSizeOptions, ModelHost, toyOptions, type ModelHostOptions } from "./host.ts";

const unmaps = ["never", "strict", "lazy"] as const;

async function booted(options: ModelHostOptions): Promise<ModelHost> {
  const host = new ModelHost({ ...options, iommu: true, unmapBatch: 4 });
  await host.boot();
  assert.equal(host.machine.panic, undefined);
  return host;
}

function pagesOf(host: ModelHost, visit: (into: PageSet) => void): Set<number> {
  const set = new PageSet(host.machine.memory.pages.count);
  visit(set);
  return new Set(set.toArray());
}

/** Pages of the pool that the device may write. */
function mappedBuffers(host: ModelHost): Set<number> {
  const { poolFirst } = host.machine.layout;
  const mapped = pagesOf(host, (into) => host.tracker.mappedInto(into));
  return new Set([...mapped].filter((page) => page >= poolFirst));
}

function runAtRandom(host: ModelHost, random: SeededRandom, turns: number, next: number[]): void {
  for (let turn = 0; turn < turns; turn++) {
    const dice = random.below(20);
    if (dice === 0) {
      const flow = random.below(next.length);
      const sequence = next[flow] ?? 0;
      next[flow] = sequence + 1;
      host.offer({ flow, sequence }, 60 + random.below(random.chance(0.2) ? 400 : 40));
    } else if (dice < 8) host.vf.step();
    else if (dice < 17) host.machine.step("driver");
    else host.machine.step("application");
  }
}

/** Pages in the rings' slots, as the driver's books have them. */
interface Books {
  readonly driver: {
    readonly receive: readonly { readonly pages: readonly number[] }[];
    readonly stillMapped: number[];
  };
}

async function booksOf(host: ModelHost): Promise<{ inRings: Set<number>; stillMapped: number[] }> {
  await host.machine.pause();
  const { driver } = JSON.parse(new TextDecoder().decode(host.machine.saveState())) as Books;
  await host.machine.resume();
  const inRings = new Set(driver.receive.flatMap(({ pages }) => pages.filter((page) => page >= 0)));
  return { inRings, stillMapped: driver.stillMapped };
}

for (const unmap of unmaps) {
  for (const [name, options] of Object.entries({ "toy pages": toyOptions, "full-size pages": fullSizeOptions })) {
    test(`a driver that unmaps ${unmap} on ${name} lets the device at all that is posted, and at nothing it gave up`, async () => {
      let gaveUp = 0;
      for (let seed = 1; seed <= 5; seed++) {
        const host = await booted({ ...options, unmap });
        const random = new SeededRandom(seed);
        const next = [0, 0, 0];
        for (let round = 0; round < 20; round++) {
          runAtRandom(host, random, 300, next);
          if (round === 10) host.vf.pfReset();
          const { inRings, stillMapped } = await booksOf(host);
          assert.deepEqual(mappedBuffers(host), new Set([...inRings, ...stillMapped]), `seed ${seed}, round ${round}`);
          if (unmap === "strict") assert.deepEqual(stillMapped, []);
          if (unmap === "lazy") assert.ok(stillMapped.length < host.machine.layout.unmapBatch);
          gaveUp += pagesOf(host, (into) => host.tracker.fetchReleased(into)).size;
        }
        host.runApplication(0);
        const { corrupt, repeated, verified, errors } = host.machine.counters;
        assert.deepEqual([host.machine.panic, corrupt, repeated, errors], [undefined, 0, 0, 0], `seed ${seed}`);
        assert.ok(verified > 50);
        const { bufferFaults, descriptorFaults } = host.vf.statistics.receive;
        assert.deepEqual([bufferFaults, descriptorFaults], [0, 0]);
        assert.ok(host.sent.length > 20 && !host.sent.includes(undefined));
      }
      assert.ok(gaveUp > 0, "no page was ever released");
    });
  }
}

test("stock ixgbevf keeps the mapping of every page it hands to the stack, so that what is mapped only grows", async () => {
  const host = await booted({ ...toyOptions, unmap: "never" });
  let before = mappedBuffers(host);
  const { size } = before;
  for (let sequence = 0; sequence < 200; sequence++) {
    host.offer({ flow: 0, sequence }, 120);
    while (host.vf.step() || host.machine.step("driver"));
    if (sequence % 7 === 0) while (host.machine.readSocket());
    const now = mappedBuffers(host);
    assert.ok(before.isSubsetOf(now), "a page was unmapped");
    before = now;
  }
  assert.ok(before.size > 2 * size, `${before.size} pages are mapped after ${size}`);
  assert.equal(pagesOf(host, (into) => host.tracker.fetchReleased(into)).size, 0);
});

test("between a lazy unmap and its flush the device may write a page that is somebody else's, and the tracker says so", async () => {
  const host = await booted({ ...toyOptions, unmap: "lazy" });
  let foreign = 0;
  for (let sequence = 0; sequence < 200; sequence++) {
    host.offer({ flow: 0, sequence }, 120);
    while (host.vf.step() || host.machine.step("driver"));
    if (sequence % 7 === 0) while (host.machine.readSocket());
    const { inRings, stillMapped } = await booksOf(host);
    for (const page of stillMapped) {
      assert.ok(!inRings.has(page) && mappedBuffers(host).has(page));
      assert.equal(
        host.translate(page * host.machine.memory.pages.sizeBytes),
        page * host.machine.memory.pages.sizeBytes,
      );
      foreign++;
    }
  }
  assert.ok(foreign > 0, "no page ever waited for a flush");
});

for (const unmap of unmaps) {
  test(`a guest that unmaps ${unmap} and moves finds its pages mapped as they were`, async () => {
    const source = await booted({ ...toyOptions, unmap });
    const next = [0, 0, 0];
    runAtRandom(source, new SeededRandom(7), 4000, next);
    await source.machine.pause();
    source.vf.stop();
    const destination = new ModelHost({ ...toyOptions, iommu: true, unmapBatch: 4, unmap });
    destination.machine.memory.bytes().set(source.machine.memory.bytes());
    destination.machine.restoreState(source.machine.saveState());
    destination.vf.restore(source.vf.save());
    assert.deepEqual(mappedBuffers(destination), mappedBuffers(source));
    destination.vf.start();
    await destination.machine.resume();
    runAtRandom(destination, new SeededRandom(8), 4000, next);
    destination.settle();
    const { corrupt, repeated, received, verified } = destination.machine.counters;
    assert.deepEqual([destination.machine.panic, corrupt, repeated, received], [undefined, 0, 0, verified]);
    assert.equal(destination.vf.statistics.receive.bufferFaults, 0);
  });
}

test("without an IOMMU the driver keeps no books of mappings", async () => {
  for (const unmap of unmaps) {
    const host = new ModelHost({ ...toyOptions, unmap });
    await host.boot();
    runAtRandom(host, new SeededRandom(3), 4000, [0, 0]);
    assert.deepEqual((await booksOf(host)).stillMapped, []);
    assert.equal(host.tracker.method, "descriptor-shadow");
  }
});
