// The cards that bench/vf.ts measures: the bare datapath, and the whole VF as a guest has it.
import { ManualClock } from "../src/base/clock.ts";
import { IdentityDomain } from "../src/iommu/domain.ts";
import { GuestDma } from "../src/iommu/guest-dma.ts";
import { DmaDirtyLog } from "../src/memory/dirty-log.ts";
import { BufferMemory } from "../src/memory/guest-memory.ts";
import { DescriptorShadowTracker } from "../src/nic/descriptor-shadow.ts";
import { VfDriver } from "../src/nic/guest-driver.ts";
import { MessageType } from "../src/nic/mailbox-messages.ts";
import { ReceiveUnit } from "../src/nic/receive.ts";
import * as r from "../src/nic/registers.ts";
import { TransmitUnit } from "../src/nic/transmit.ts";
import { Vf82599 } from "../src/nic/vf82599.ts";

export const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** What a driver and a wire need of a card, be it the bare datapath or the whole VF. */
export interface Card {
  readonly memory: BufferMemory;
  write(offset: number, value: number): void;
  receiveFrame(frame: Uint8Array): void;
  /** Works until idle. */
  run(): void;
  framesSent: number;
}

export interface Setup {
  /** As the VF has it unless said otherwise. */
  readonly prefetchDescriptors?: number;
  /** DMA log and descriptor shadow, as every guest that can be migrated has them. */
  readonly watched?: boolean;
}

const prefetch = ({ prefetchDescriptors }: Setup): Pick<Setup, "prefetchDescriptors"> =>
  prefetchDescriptors === undefined ? {} : { prefetchDescriptors };

function guestDma(memory: BufferMemory, setup: Setup): GuestDma {
  const dma = new GuestDma({ memory, domain: new IdentityDomain() });
  if (setup.watched !== true) return dma;
  const log = new DmaDirtyLog(memory.pages.count, memory.pages.shift);
  dma.addObserver({ after: (address, length) => log.deviceWrote(address, length) });
  return dma;
}

/** Receive and transmit units with the registers they read, and nothing else. */
export function datapath(setup: Setup): Card {
  const memory = new BufferMemory(16 << 20);
  const dma = guestDma(memory, setup);
  const registers = new Uint32Array(r.REGISTER_COUNT);
  const card = {
    memory,
    framesSent: 0,
    write: (offset: number, value: number): void => {
      registers[offset >>> 2] = value;
      if (offset === r.VFRDT(0)) {
        receive.tailWritten(0);
        tracker?.tailWritten(0);
      } else if (offset === r.VFTDT(0)) transmit.tailWritten(0);
      else if (offset < r.VFTDBAL(0)) {
        receive.queueChanged(0);
        tracker?.queueChanged(0);
      } else transmit.queueChanged(0);
    },
    receiveFrame: (frame: Uint8Array): void => void receive.frame(frame),
    run: (): void => {
      while (receive.step());
      while (transmit.step());
    },
  };
  const hooks = { cause: (): void => {}, transmit: (): void => void card.framesSent++ };
  const parts = { registers, dma, queuePairs: 1, hooks };
  const receive = new ReceiveUnit({ ...parts, ...prefetch(setup) });
  const transmit = new TransmitUnit(parts);
  const tracker =
    setup.watched === true
      ? new DescriptorShadowTracker({ registers, dma, pages: memory.pages, queuePairs: 1 })
      : undefined;
  return card;
}

/** The whole VF as a guest has it: BARs, PF and its filters, interrupts, MSI-X. */
export function wholeVf(setup: Setup): Card {
  const memory = new BufferMemory(16 << 20);
  const dma = guestDma(memory, setup);
  const card = {
    memory,
    framesSent: 0,
    write: (offset: number, value: number): void => vf.writeBar(0, offset, 4, value),
    receiveFrame: (frame: Uint8Array): void => vf.receiveFrame(frame),
    run: (): void => {
      vf.run();
      // The driver's poll ends: its vector may fire again.
      vf.writeBar(0, r.VTEIMS, 4, 1);
    },
  };
  const vf = new Vf82599({
    dma,
    messages: { deliver: () => {} },
    uplink: { frame: () => void card.framesSent++ },
    clock: new ManualClock(1),
    mac,
    datapath: prefetch(setup),
  });
  vf.writeConfiguration(0x04, 2, 0x0006);
  vf.writeBar(3, 12, 4, 0);
  vf.writeConfiguration(0x72, 2, 0x8000);
  const access = { read: (offset: number): number => vf.readBar(0, offset, 4), write: card.write };
  const driver = new VfDriver(access);
  driver.reset();
  driver.negotiate();
  driver.isAccepted([MessageType.setMaximumFrame, 1518]);
  if (setup.watched === true) {
    vf.watchReceiveRings(
      (registers) => new DescriptorShadowTracker({ registers, dma, pages: memory.pages, queuePairs: 2 }),
    );
  }
  card.write(r.VTIVAR(0), (r.VTIVAR_VALID << 8) | r.VTIVAR_VALID);
  for (const register of [r.VTEIAM, r.VTEIAC, r.VTEIMS]) card.write(register, 1);
  return card;
}
