// What bench/vf.ts lets a card do: a wire that brings frames, and a driver that keeps the rings going.
import { buildFrame } from "../src/nic/frames.fixture.ts";
import * as r from "../src/nic/registers.ts";
import { mac, type Card } from "./vf-cards.ts";

/** With preamble and gap a frame takes 20 bytes more on the wire. */
export const lineRate = (frameBytes: number): number => 10e9 / 8 / (frameBytes + 20);
const FCS_BYTES = 4;
const HEADER_BYTES = 54;

const RX_RING = 0x1_0000;
const RX_DESCRIPTORS = 512;
const TX_RING = 0x2_0000;
const TX_DESCRIPTORS = 1024;
const BUFFERS = 0x10_0000;
const BUFFER_BYTES = 2048;
/** Frames between two turns of the driver. */
export const BURST = 32;
const TAIL_EVERY = 16;

/** Work for a number of frames; returns the milliseconds that were the driver's. */
export type Work = (frames: number) => number;

export function receiving(card: Card, frameBytes: number): Work {
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
export function transmitting(card: Card, frameBytes: number): Work {
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
