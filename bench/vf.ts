// The VF alone: frames per second in and out through rings, DMA port and write-backs, on one core.
//
//   bin/underway-node bench/vf.ts [--runs 9] [--milliseconds 150] [--json]
//
// Frames are TCP over IPv4 with right checksums, which receive verifies in full. The driver is as little as one can do
// and keep the rings going: it looks at each descriptor once and posts it again; tails move every 16 frames. Its time is
// part of the rate and printed beside it. Each run's rate is measured on its own; the table shows the median and best.
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { ManualClock } from "../src/base/clock.ts";
import { IdentityDomain } from "../src/iommu/domain.ts";
import { GuestDma } from "../src/iommu/guest-dma.ts";
import { DmaDirtyLog } from "../src/memory/dirty-log.ts";
import { BufferMemory } from "../src/memory/guest-memory.ts";
import { DescriptorShadowTracker } from "../src/nic/descriptor-shadow.ts";
import { buildFrame } from "../src/nic/frames.fixture.ts";
import { VfDriver } from "../src/nic/guest-driver.ts";
import { MessageType } from "../src/nic/mailbox-messages.ts";
import { ReceiveUnit } from "../src/nic/receive.ts";
import * as r from "../src/nic/registers.ts";
import { TransmitUnit } from "../src/nic/transmit.ts";
import { Vf82599 } from "../src/nic/vf82599.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "9" },
    milliseconds: { type: "string", default: "150" },
    json: { type: "boolean", default: false },
  },
});
const runs = Number(values.runs);
const runMs = Number(values.milliseconds);

/** With preamble and gap a frame takes 20 bytes more on the wire. */
const lineRate = (frameBytes: number): number => 10e9 / 8 / (frameBytes + 20);
const FCS_BYTES = 4;
const HEADER_BYTES = 54;

const RX_RING = 0x1_0000;
const RX_DESCRIPTORS = 512;
const TX_RING = 0x2_0000;
const TX_DESCRIPTORS = 1024;
const BUFFERS = 0x10_0000;
const BUFFER_BYTES = 2048;
const BURST = 32;
const TAIL_EVERY = 16;
const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);

/** What a driver and a wire need of a card, be it the bare datapath or the whole VF. */
interface Card {
  readonly memory: BufferMemory;
  write(offset: number, value: number): void;
  receiveFrame(frame: Uint8Array): void;
  /** Works until idle. */
  run(): void;
  framesSent: number;
}

interface Setup {
  readonly prefetchDescriptors?: number;
  /** DMA log and descriptor shadow, as every guest that can be migrated has them. */
  readonly watched?: boolean;
}

function guestDma(memory: BufferMemory, setup: Setup): GuestDma {
  const dma = new GuestDma({ memory, domain: new IdentityDomain() });
  if (setup.watched !== true) return dma;
  const log = new DmaDirtyLog(memory.pages.count, memory.pages.shift);
  dma.addObserver({ after: (address, length) => log.deviceWrote(address, length) });
  return dma;
}

/** Receive and transmit units with the registers they read, and nothing else. */
function datapath(setup: Setup): Card {
  const memory = new BufferMemory(16 << 20);
  const dma = guestDma(memory, setup);
  const registers = new Uint32Array(r.REGISTER_COUNT);
  const { prefetchDescriptors = 0 } = setup;
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
  const receive = new ReceiveUnit({ ...parts, prefetchDescriptors });
  const transmit = new TransmitUnit(parts);
  const tracker =
    setup.watched === true
      ? new DescriptorShadowTracker({ registers, dma, pages: memory.pages, queuePairs: 1 })
      : undefined;
  return card;
}

/** The whole VF as a guest has it: BARs, PF and its filters, interrupts, MSI-X. */
function wholeVf(setup: Setup): Card {
  const memory = new BufferMemory(16 << 20);
  const dma = guestDma(memory, setup);
  const { prefetchDescriptors = 0 } = setup;
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
    datapath: { prefetchDescriptors },
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

/** Work for a number of frames; returns the milliseconds that were the driver's. */
type Work = (frames: number) => number;

function receiving(card: Card, frameBytes: number): Work {
  const words = card.memory.words();
  const payload = Array.from({ length: frameBytes - FCS_BYTES - HEADER_BYTES }, (_, i) => i & 0xff);
  const frames = Array.from({ length: 64 }, (_, i) => {
    const { bytes } = buildFrame({ version: 4, protocol: "tcp", payload, ports: [1000 + i, 80] });
    bytes.set(mac);
    return bytes;
  });
  card.write(r.VFRDBAL(0), RX_RING);
  card.write(r.VFRDLEN(0), RX_DESCRIPTORS * 16);
  card.write(r.VFSRRCTL(0), r.SRRCTL_DROP_EN | r.SRRCTL_DESCTYPE_ADV_ONEBUF | (BUFFER_BYTES / 1024));
  card.write(r.VFRXDCTL(0), r.RXDCTL_ENABLE | r.RXDCTL_VME);
  const next = (slot: number): number => (slot + 1) & (RX_DESCRIPTORS - 1);
  let toUse = 0;
  let toClean = 0;
  const post = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const at = (RX_RING + toUse * 16) >>> 2;
      words[at] = BUFFERS + toUse * BUFFER_BYTES;
      words[at + 1] = 0;
      toUse = next(toUse);
      words[((RX_RING + toUse * 16) >>> 2) + 3] = 0;
    }
    card.write(r.VFRDT(0), toUse);
  };
  const clean = (): number => {
    let cleaned = 0;
    while (((words[((RX_RING + toClean * 16) >>> 2) + 3] as number) & 0xffff) !== 0) {
      toClean = next(toClean);
      cleaned++;
      if (cleaned % TAIL_EVERY === 0) post(TAIL_EVERY);
    }
    if (cleaned % TAIL_EVERY !== 0) post(cleaned % TAIL_EVERY);
    return cleaned;
  };
  post(RX_DESCRIPTORS - 1);
  return (count) => {
    let driverMs = 0;
    for (let done = 0; done < count; done += BURST) {
      for (let i = 0; i < BURST; i++) card.receiveFrame(frames[i & 63] as Uint8Array);
      card.run();
      const startMs = performance.now();
      if (clean() !== BURST) throw new Error("frames were lost");
      driverMs += performance.now() - startMs;
    }
    return driverMs;
  };
}

/** As ixgbevf sends: a context descriptor before every frame, EOP and RS on the data descriptor, WTHRESH 8. */
function transmitting(card: Card, frameBytes: number): Work {
  const words = card.memory.words();
  const length = frameBytes - FCS_BYTES;
  const payload = Array.from({ length: length - HEADER_BYTES }, (_, i) => i & 0xff);
  const { bytes } = buildFrame({ version: 4, protocol: "tcp", payload });
  for (let slot = 0; slot < TX_DESCRIPTORS; slot++) {
    const at = BUFFERS + slot * BUFFER_BYTES;
    card.memory.bytes().set(bytes, at);
    card.memory.bytes().set(mac, at + 6);
  }
  card.write(r.VFTDBAL(0), TX_RING);
  card.write(r.VFTDLEN(0), TX_DESCRIPTORS * 16);
  card.write(r.VFTXDCTL(0), r.TXDCTL_ENABLE | (8 << r.TXDCTL_WTHRESH_SHIFT));
  let toUse = 0;
  let toClean = 0;
  const put = (first: number, second: number, command: number, options: number): void => {
    const at = (TX_RING + toUse * 16) >>> 2;
    words[at] = first;
    words[at + 1] = second;
    words[at + 2] = command;
    words[at + 3] = options;
    toUse = (toUse + 1) & (TX_DESCRIPTORS - 1);
  };
  const send = (): void => {
    put((14 << 9) | 20, 0, 0x2020_0c00, 0);
    put(BUFFERS + toUse * BUFFER_BYTES, 0, 0x2b30_0000 | length, ((length << 14) | 0x80) >>> 0);
  };
  return (count) => {
    let driverMs = 0;
    for (let done = 0; done < count; done += BURST) {
      let startMs = performance.now();
      for (let i = 1; i <= BURST; i++) {
        send();
        if (i % TAIL_EVERY === 0) card.write(r.VFTDT(0), toUse);
      }
      driverMs += performance.now() - startMs;
      card.run();
      startMs = performance.now();
      for (let i = 0; i < BURST; i++) {
        toClean = (toClean + 2) & (TX_DESCRIPTORS - 1);
        const data = (toClean + TX_DESCRIPTORS - 1) & (TX_DESCRIPTORS - 1);
        if (words[((TX_RING + data * 16) >>> 2) + 3] !== 1) throw new Error("a completion is missing");
      }
      driverMs += performance.now() - startMs;
    }
    return driverMs;
  };
}

interface Row {
  readonly direction: "receive" | "transmit";
  readonly frameBytes: number;
  readonly what: string;
  readonly framesPerSecond: number;
  readonly framesPerSecondBest: number;
  /** Median rate over 10 GbE line rate. */
  readonly lineRateShare: number;
  readonly nanosecondsPerFrame: number;
  readonly driverNanosecondsPerFrame: number;
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >>> 1] ?? 0;

function measure(work: Work): { rates: number[]; driverNs: number } {
  const batch = 100 * BURST;
  for (const untilMs = performance.now() + runMs; performance.now() < untilMs;) work(batch);
  const rates: number[] = [];
  const driverNs: number[] = [];
  for (let run = 0; run < runs; run++) {
    let frames = 0;
    let driverMs = 0;
    let elapsedMs = 0;
    for (const startMs = performance.now(); elapsedMs < runMs; elapsedMs = performance.now() - startMs) {
      driverMs += work(batch);
      frames += batch;
    }
    rates.push((frames / elapsedMs) * 1000);
    driverNs.push((driverMs / frames) * 1e6);
  }
  return { rates, driverNs: median(driverNs) };
}

function row(direction: Row["direction"], frameBytes: number, what: string, card: Card): Row {
  const { rates, driverNs } = measure(
    direction === "receive" ? receiving(card, frameBytes) : transmitting(card, frameBytes),
  );
  const framesPerSecond = median(rates);
  return {
    direction,
    frameBytes,
    what,
    framesPerSecond: Math.round(framesPerSecond),
    framesPerSecondBest: Math.round(Math.max(...rates)),
    lineRateShare: framesPerSecond / lineRate(frameBytes),
    nanosecondsPerFrame: 1e9 / framesPerSecond,
    driverNanosecondsPerFrame: driverNs,
  };
}

function print(rows: readonly Row[]): void {
  console.log(
    "direction  bytes  what                                   M frames/s   best  of 10 GbE  ns/frame  driver ns",
  );
  for (const { direction, frameBytes, what, ...measured } of rows) {
    const rate = (measured.framesPerSecond / 1e6).toFixed(2).padStart(10);
    const best = (measured.framesPerSecondBest / 1e6).toFixed(2).padStart(6);
    const share = `${(measured.lineRateShare * 100).toFixed(0)} %`.padStart(10);
    const ns = measured.nanosecondsPerFrame.toFixed(0).padStart(9);
    const driver = measured.driverNanosecondsPerFrame.toFixed(0).padStart(10);
    const name = `${direction.padEnd(9)}  ${String(frameBytes).padStart(5)}  ${what.padEnd(38)}`;
    console.log(`${name} ${rate} ${best} ${share} ${ns} ${driver}`);
  }
}

const watched = { watched: true, prefetchDescriptors: 16 } as const;
const cards: [string, Row["direction"][], () => Card][] = [
  ["datapath", ["receive", "transmit"], () => datapath({})],
  ["datapath, 16 descriptors prefetched", ["receive"], () => datapath({ prefetchDescriptors: 16 })],
  ["datapath, DMA log and tracker", ["receive", "transmit"], () => datapath(watched)],
  ["whole VF, DMA log and tracker", ["receive", "transmit"], () => wholeVf(watched)],
];
const rows = cards.flatMap(([what, directions, make]) =>
  directions.flatMap((direction) => [64, 1518].map((bytes) => row(direction, bytes, what, make()))),
);
if (values.json)
  console.log(JSON.stringify({ cpu: cpus()[0]?.model, cpus: availableParallelism(), node: process.version, rows }));
else print(rows);
