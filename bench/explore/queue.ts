// One queue of the common model: a shipping VF with a ring of its own, whose frames wait in its packet buffer.
import { ManualClock } from "../../src/base/clock.ts";
import { IdentityDomain } from "../../src/iommu/domain.ts";
import { GuestDma } from "../../src/iommu/guest-dma.ts";
import type { GuestMemory } from "../../src/memory/guest-memory.ts";
import { PageSet } from "../../src/memory/page-set.ts";
import { DESCRIPTOR_BYTES, RXD_STAT_DD } from "../../src/nic/descriptors.ts";
import { DescriptorShadowTracker } from "../../src/nic/descriptor-shadow.ts";
import { buildFrame } from "../../src/nic/frames.fixture.ts";
import { VfDriver } from "../../src/nic/guest-driver.ts";
import { MessageType } from "../../src/nic/mailbox-messages.ts";
import * as r from "../../src/nic/registers.ts";
import type { VfState } from "../../src/nic/state.ts";
import { Vf82599 } from "../../src/nic/vf82599.ts";

/** A page takes the ring's eight descriptors, or a frame. */
export const PAGE_BYTES = 128;
const DESCRIPTORS = 8;
const FRAME_PAYLOAD_BYTES = 20;

export interface QueuePlace {
  /** The ring's page; the buffers' pages follow it. */
  readonly firstPage: number;
  readonly packets: number;
  readonly mac: Uint8Array;
}

/**
 * The queue's driver has posted one buffer for each packet and then stands still, as a paused guest does. A step is what
 * the device does up to its next write to memory: a buffer, or the descriptor behind it.
 */
export class Queue {
  readonly pages: readonly number[];
  readonly vf: Vf82599;
  readonly tracker: DescriptorShadowTracker;
  readonly #memory: GuestMemory;
  readonly #frames: readonly Uint8Array[];
  readonly #start: VfState;
  #writes = 0;

  constructor(memory: GuestMemory, { firstPage, packets, mac }: QueuePlace) {
    this.pages = Array.from({ length: packets + 1 }, (_, i) => firstPage + i);
    this.#memory = memory;
    const dma = new GuestDma({ memory, domain: new IdentityDomain() });
    dma.addObserver({ after: () => void this.#writes++ });
    this.vf = new Vf82599({
      dma,
      messages: { deliver: () => {} },
      uplink: { frame: () => {} },
      clock: new ManualClock(1),
      mac,
      queuePairsMax: 1,
      datapath: { bufferUnitBytes: PAGE_BYTES, packetBufferBytes: 1024 },
    });
    this.tracker = this.vf.watchReceiveRings(
      (registers) =>
        new DescriptorShadowTracker({
          registers,
          dma,
          pages: memory.pages,
          queuePairs: 1,
          bufferUnitBytes: PAGE_BYTES,
        }),
    );
    this.#bringUp();
    this.#post();
    this.#frames = Array.from({ length: packets }, (_, i) => {
      const payload = Array.from({ length: FRAME_PAYLOAD_BYTES }, (__, at) => (firstPage + i + 7 * at) & 0xff);
      const { bytes } = buildFrame({ version: 4, protocol: "udp", payload });
      bytes.set(mac);
      return bytes;
    });
    this.vf.stop();
    this.#start = this.vf.save();
    this.restart();
  }

  #bringUp(): void {
    const { vf } = this;
    const access = {
      read: (offset: number): number => vf.readBar(0, offset, 4),
      write: (offset: number, value: number): void => vf.writeBar(0, offset, 4, value),
    };
    vf.writeConfiguration(0x04, 2, 0x0006);
    const driver = new VfDriver(access);
    driver.reset();
    driver.negotiate();
    driver.isAccepted([MessageType.setMaximumFrame, 1518]);
  }

  /** As ixgbevf sets a ring up, with one buffer for each packet. */
  #post(): void {
    const { vf, pages } = this;
    const [ring = 0, ...buffers] = pages;
    const words = this.#memory.words();
    for (const [slot, page] of buffers.entries()) {
      words[(ring * PAGE_BYTES + slot * DESCRIPTOR_BYTES) >>> 2] = page * PAGE_BYTES;
    }
    const write = (offset: number, value: number): void => vf.writeBar(0, offset, 4, value);
    write(r.VFRDBAL(0), ring * PAGE_BYTES);
    write(r.VFRDLEN(0), DESCRIPTORS * DESCRIPTOR_BYTES);
    write(r.VFSRRCTL(0), r.SRRCTL_DROP_EN | r.SRRCTL_DESCTYPE_ADV_ONEBUF | 1);
    write(r.VFRXDCTL(0), r.RXDCTL_ENABLE);
    write(r.VFRDT(0), buffers.length);
  }

  /** Back to the start, with the frames in the packet buffer. The memory is the caller's to put back. */
  restart(): void {
    this.vf.restore(this.#start);
    // It looks at the rings when it is first asked, and the device is about to write them.
    this.mappedPages();
    this.vf.start();
    for (const frame of this.#frames) this.vf.receiveFrame(frame);
  }

  /** Goes on to the device's next write; false when it has nothing more to write. */
  step(): boolean {
    const before = this.#writes;
    while (this.#writes === before) if (!this.vf.step()) return false;
    return true;
  }

  mappedPages(): readonly number[] {
    return pagesOf(this.#memory.pages.count, (into) => this.tracker.mappedInto(into));
  }

  ringPages(): readonly number[] {
    return pagesOf(this.#memory.pages.count, (into) => this.tracker.ringPagesInto(into));
  }
}

function pagesOf(count: number, fill: (into: PageSet) => void): readonly number[] {
  const pages = new PageSet(count);
  fill(pages);
  return pages.toArray();
}

/** Whether an image's ring page says that a descriptor is done. */
export function isDone(ring: Uint8Array, slot: number): boolean {
  const statusAt = slot * DESCRIPTOR_BYTES + 8;
  return ((ring[statusAt] ?? 0) & RXD_STAT_DD) !== 0;
}
