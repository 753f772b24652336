import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DmaStatus } from "../../iommu/dma-port.ts";
import { Domain } from "../../iommu/domain.ts";
import { DmaAccess } from "../../iommu/fault-log.ts";
import { GuestDma } from "../../iommu/guest-dma.ts";
import { BufferMemory } from "../../memory/guest-memory.ts";
import { PageSet } from "../../memory/page-set.ts";
import { REGISTER_COUNT, RXDCTL_ENABLE, VFRDBAH, VFRDLEN, VFRDT, VFRXDCTL, VFSRRCTL } from "../../nic/registers.ts";
import { LateListener, ServedTracker } from "./served-tracker.ts";

const PAGE = 4096;
const PAGES = 48;
const SLOTS = 8;
/** All addresses of the device lie here, and so differ from the pages they lead to. The ring is on page 0. */
const BASE = 2 ** 32;
const READ_WRITE = DmaAccess.read | DmaAccess.write;

/**
 * A guest in its three lives (firmware without an IOMMU, a driver that maps and unmaps each buffer, a kernel that passes
 * everything), its device, and whoever copies: a page that the device wrote is mapped or is reported as released since.
 */
class World {
  readonly memory = new BufferMemory(PAGES * PAGE);
  readonly listener = new LateListener();
  readonly domain = new Domain({ listener: this.listener });
  readonly dma = new GuestDma({ memory: this.memory, domain: this.domain });
  readonly registers = new Uint32Array(REGISTER_COUNT);
  readonly tracker = new ServedTracker({
    registers: this.registers,
    dma: this.dma,
    pages: this.memory.pages,
    queuePairs: 1,
    domain: this.domain,
    listener: this.listener,
  });
  /** What each slot was last posted with, by page of the device's addresses. */
  readonly slots = new Map<number, number>();
  readonly written = new PageSet(PAGES);
  #tail = 0;

  mapAll(): void {
    assert.equal(this.domain.map({ iova: BASE, address: 0, lengthBytes: PAGES * PAGE, access: READ_WRITE }), "mapped");
  }

  unmapAll(): void {
    this.domain.unmap(BASE, PAGES * PAGE);
  }

  map(at: number, page: number): void {
    this.domain.map({ iova: BASE + at * PAGE, address: page * PAGE, lengthBytes: PAGE, access: READ_WRITE });
  }

  unmap(at: number): void {
    this.domain.unmap(BASE + at * PAGE, PAGE);
  }

  enable(isOn: boolean): void {
    if (isOn) {
      this.registers[VFRDBAH(0) >>> 2] = 1;
      this.registers[VFRDLEN(0) >>> 2] = SLOTS * 16;
      this.registers[VFSRRCTL(0) >>> 2] = 2;
    }
    this.registers[VFRXDCTL(0) >>> 2] = isOn ? RXDCTL_ENABLE : 0;
    this.registers[VFRDT(0) >>> 2] = 0;
    this.#tail = 0;
    this.slots.clear();
    this.tracker.queueChanged(0);
  }

  /** The driver posts the next slot; it has taken back whatever was there. */
  post(at: number): void {
    this.memory.words().set([at * PAGE, 1, 0, 0], this.#tail * 4);
    this.slots.set(this.#tail, at);
    this.#tail = (this.#tail + 1) % SLOTS;
    this.registers[VFRDT(0) >>> 2] = this.#tail;
    this.tracker.tailWritten(0);
  }

  write(slot: number): void {
    const at = this.slots.get(slot);
    if (at === undefined) return;
    const address = this.domain.translate(BASE + at * PAGE, DmaAccess.write);
    const status = this.dma.writeBytes(BASE + at * PAGE, Uint8Array.of(1), 0, 1, 0);
    assert.equal(status === DmaStatus.ok, address >= 0);
    if (address >= 0) this.written.add(address / PAGE);
  }

  /** A round: what was released is copied, and so settled; the rest must still be mapped. */
  copy(isPutBack: boolean): void {
    const released = new PageSet(PAGES);
    this.tracker.fetchReleased(released);
    if (isPutBack) {
      this.tracker.putBackReleased(released);
      released.clear();
      this.tracker.fetchReleased(released);
    }
    this.written.deleteSet(released);
    const mapped = new PageSet(PAGES);
    this.tracker.mappedInto(mapped);
    const lost = this.written.clone();
    lost.deleteSet(mapped);
    assert.deepEqual(lost.toArray(), [], `lost by the tracker in its way ${this.tracker.method}`);
  }
}

const step = fc.oneof(
  fc.record({ kind: fc.constant("post" as const), at: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant("write" as const), slot: fc.nat(SLOTS - 1) }),
  fc.record({
    kind: fc.constant("map" as const),
    at: fc.integer({ min: 1, max: 12 }),
    page: fc.integer({ min: 1, max: 20 }),
  }),
  fc.record({ kind: fc.constant("unmap" as const), at: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant("copy" as const), isPutBack: fc.boolean() }),
);
const steps = fc.array(step, { maxLength: 40 });
type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

function live(world: World, all: readonly Step[], isMapping: boolean): void {
  for (const one of all) {
    switch (one.kind) {
      case "post":
        world.post(one.at);
        break;
      case "write":
        world.write(one.slot);
        break;
      case "map":
        if (isMapping) world.map(one.at, one.page);
        break;
      case "unmap":
        if (isMapping) world.unmap(one.at);
        break;
      case "copy":
        world.copy(one.isPutBack);
    }
  }
}

test("no page that the device wrote is lost, whether what is mapped or what is posted counts, nor where that changes", () => {
  const ways = new Set<string>();
  fc.assert(
    fc.property(steps, steps, steps, fc.boolean(), (first, second, third, isReset) => {
      const world = new World();
      world.mapAll();
      world.enable(true);
      live(world, first, false);
      ways.add(world.tracker.method);
      world.unmapAll();
      world.map(0, 0);
      if (isReset) world.enable(true);
      live(world, second, true);
      ways.add(world.tracker.method);
      world.enable(false);
      world.unmapAll();
      world.mapAll();
      world.enable(true);
      live(world, third, false);
      world.copy(false);
    }),
    { numRuns: 400 },
  );
  assert.deepEqual([...ways], ["descriptor-shadow", "iommu"]);
});
