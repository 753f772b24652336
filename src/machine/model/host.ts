// A model machine with its VF and all that belongs to it: DMA, tracker, device log, and both ends of the wire.
import { ManualClock, type Clock } from "../../base/clock.ts";
import { IdentityDomain } from "../../iommu/domain.ts";
import type { DmaObserver } from "../../iommu/dma-port.ts";
import { DmaAccess } from "../../iommu/fault-log.ts";
import { GuestDma } from "../../iommu/guest-dma.ts";
import { PostedWrites, type LandingChooser } from "../../iommu/posted-writes.ts";
import { DmaDirtyLog } from "../../memory/dirty-log.ts";
import { pageGeometry } from "../../memory/geometry.ts";
import { DescriptorShadowTracker } from "../../nic/descriptor-shadow.ts";
import type { FrameSink } from "../../nic/ports.ts";
import { Vf82599 } from "../../nic/vf82599.ts";
import type { PciFunction } from "../../pci/function.ts";
import { peerMac } from "./application.ts";
import { composeFrame, hasRightChecksums, readFrame, type ProvenFrame } from "./frames.ts";
import { IommuRingTracker, ModelIommu } from "./iommu.ts";
import type { ModelOptions } from "./layout.ts";
import { ModelMachine, modelThreads } from "./machine.ts";

/** The VF's address. */
export const guestMac = Uint8Array.of(2, 0, 0, 0, 0, 0x11);

export interface ModelHostOptions extends ModelOptions {
  readonly memoryBytes: number;
  readonly pageBytes?: number;
  readonly packetBufferBytes?: number;
  readonly prefetchDescriptors?: number;
  /** What the device writes is on its way for a while; says what lands next. Without it everything lands at once. */
  readonly landing?: LandingChooser;
  /** Default: one that stands still. */
  readonly clock?: Clock;
  /** Where RAM is, if it is to be shared with other threads. */
  readonly buffer?: ArrayBufferLike;
  /** The device's addresses go through an IOMMU, and the tracker learns from that. Default false. */
  readonly iommu?: boolean;
  /** Where the VF's frames go; without it they are read and kept in `sent`. */
  readonly uplink?: FrameSink;
}

/** Pages of 64 bytes with two buffers each, rings of two and four pages: every frame takes two descriptors or more. */
export const toyOptions = {
  memoryBytes: 16_384,
  pageBytes: 64,
  receiveDescriptors: 16,
  transmitDescriptors: 16,
  bufferUnitBytes: 32,
  refillBatch: 4,
  pollBudget: 5,
  headerBytes: 16,
  socketFrames: 12,
  applicationPages: 4,
  packetBufferBytes: 2048,
} as const satisfies ModelHostOptions;

/** Pages as on a real machine, with buffers of 2 KiB. */
export const fullSizeOptions = {
  memoryBytes: 2 << 20,
  pageBytes: 4096,
  receiveDescriptors: 64,
  transmitDescriptors: 64,
  sentFrameBytes: 600,
} as const satisfies ModelHostOptions;

export class ModelHost {
  readonly options: ModelHostOptions;
  readonly machine: ModelMachine;
  readonly vf: Vf82599;
  readonly dma: GuestDma;
  /** Device writes in flight, if there can be any. */
  readonly posted: PostedWrites | undefined;
  readonly tracker: DescriptorShadowTracker | IommuRingTracker;
  readonly deviceLog: DmaDirtyLog;
  /** Frames the VF sent, read; undefined for one that is not as the guest made it. */
  readonly sent: (ProvenFrame | undefined)[] = [];
  readonly #iommu: ModelIommu | undefined;

  constructor(options: ModelHostOptions) {
    const {
      packetBufferBytes,
      prefetchDescriptors,
      landing,
      clock,
      uplink,
      iommu: hasIommu = false,
      ...model
    } = options;
    this.options = options;
    const iommu = hasIommu ? new ModelIommu(pageGeometry(options.memoryBytes, options.pageBytes)) : undefined;
    this.#iommu = iommu;
    this.machine = new ModelMachine({ ...model, ...(iommu === undefined ? {} : { mapping: iommu }) });
    const { memory, layout } = this.machine;
    const { pages } = memory;
    iommu?.begin(layout);
    this.deviceLog = new DmaDirtyLog(pages.count, pages.shift);
    const log: DmaObserver = { after: (address, length) => this.deviceLog.deviceWrote(address, length) };
    this.dma = new GuestDma({ memory, domain: iommu?.domain ?? new IdentityDomain(), observers: [log] });
    this.posted = landing === undefined ? undefined : new PostedWrites(this.dma, { choose: landing });
    const { queuePairs, bufferUnitBytes } = layout;
    this.vf = new Vf82599({
      dma: this.posted ?? this.dma,
      messages: {
        // A message is a posted write like any other, and overtakes none.
        deliver: (low, high, data) => {
          this.posted?.flush();
          this.machine.interrupts.deliver(low, high, data);
        },
      },
      uplink: uplink ?? { frame: (bytes) => this.#takeSent(bytes) },
      clock: clock ?? new ManualClock(1000),
      mac: guestMac,
      queuePairsMax: queuePairs,
      datapath: {
        bufferUnitBytes,
        ...(packetBufferBytes === undefined ? {} : { packetBufferBytes }),
        ...(prefetchDescriptors === undefined ? {} : { prefetchDescriptors }),
      },
    });
    this.machine.attach(this.posted === undefined ? this.vf : withReadsThatPush(this.vf, this.posted));
    this.tracker = this.vf.watchReceiveRings((registers) => {
      const rings = { registers, dma: this.dma, queuePairs, bufferUnitBytes };
      return iommu === undefined
        ? new DescriptorShadowTracker({ ...rings, pages })
        : new IommuRingTracker(iommu, pages, rings);
    });
  }

  #takeSent(bytes: Uint8Array): void {
    const frame = hasRightChecksums(bytes) ? readFrame(bytes, this.machine.layout.seed) : undefined;
    this.sent.push(frame);
  }

  translate(iova: number): number {
    if (iova >= this.machine.memory.sizeBytes) return -1;
    return this.#iommu === undefined ? iova : Math.max(-1, this.#iommu.domain.translate(iova, DmaAccess.read));
  }

  /** A frame from the network. */
  offer(frame: ProvenFrame, lengthBytes: number): void {
    const bytes = new Uint8Array(lengthBytes);
    composeFrame(bytes, { destination: guestMac, source: peerMac }, frame, this.machine.layout.seed);
    this.vf.receiveFrame(bytes);
  }

  /** Runs the guest's driver and the device until both wait, the application reading all it can. */
  settle(): void {
    for (;;) {
      const driver = this.machine.step("driver");
      const device = this.vf.step();
      const application = this.machine.readSocket();
      const landed = this.posted?.step() ?? false;
      if (!driver && !device && !application && !landed) return;
    }
  }

  /** From power-on to an open interface. */
  async boot(): Promise<void> {
    await this.machine.resume();
    this.settle();
  }

  /** Lets the application do so many steps and finish what it sends, and everyone else whatever follows. */
  runApplication(steps: number): void {
    for (let i = 0; i < steps || (this.machine.isSending && this.machine.panic === undefined); i++) {
      for (const thread of modelThreads) this.machine.step(thread);
      this.vf.step();
    }
    this.settle();
  }
}

/** The answer to a register read may not pass the device's posted writes either. */
function withReadsThatPush(vf: Vf82599, posted: PostedWrites): PciFunction {
  return {
    bars: vf.bars,
    readConfiguration: (offset, bytes) => vf.readConfiguration(offset, bytes),
    writeConfiguration: (offset, bytes, value) => vf.writeConfiguration(offset, bytes, value),
    readBar: (bar, offset, bytes) => {
      posted.flush();
      return vf.readBar(bar, offset, bytes);
    },
    writeBar: (bar, offset, bytes, value) => vf.writeBar(bar, offset, bytes, value),
    barAddress: (bar) => vf.barAddress(bar),
    onBarsChanged: () => {},
  };
}
