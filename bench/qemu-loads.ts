// The loads of bench/qemu.ts: TCP through passt, datagrams out by pktgen and in from here, pings, and register reads.
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { hostClock } from "../src/host/clock.ts";
import { destinationOf } from "../src/network/ethernet.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { networkPlan } from "../src/network/plan.ts";
import { benchMac, datagram, type CardName, type TwoCards } from "./qemu-cards.ts";

/** What a load did, and what it took: CPU time of this process, which serves the VF, and of QEMU. */
export interface Loaded {
  readonly perSecond: number;
  readonly oursUs: number;
  readonly qemuUs: number;
  readonly lost: number;
}

/** `work` gives what was done and in how many milliseconds. CPU time is per thing done. */
async function withCpu(
  cards: TwoCards,
  work: () => Promise<{ done: number; elapsedMs: number; lost?: number }>,
): Promise<Loaded> {
  const before = await cards.cpuMs();
  const { done, elapsedMs, lost = 0 } = await work();
  const after = await cards.cpuMs();
  const us = (ms: number): number => (ms / done) * 1000;
  const oursUs = us(after.ours - before.ours);
  return { perSecond: (done / elapsedMs) * 1000, oursUs, qemuUs: us(after.qemu - before.qemu), lost };
}

const IPERF_PORT = 5209;

export interface IperfServer {
  close(): void;
}

/** iperf3 of this machine, which passt lets the guest reach at its gateway's address. */
export async function startIperf(): Promise<IperfServer> {
  const child = spawn("iperf3", ["-s", "-B", "127.0.0.1", "-p", String(IPERF_PORT)], { stdio: "ignore" });
  const failed = new Promise<never>((_, reject) => {
    child.once("error", () => reject(new Error("this bench needs iperf3 on this machine (apt-get install iperf3)")));
  });
  // Uncaught errors end this process without anybody's closing the server.
  process.once("exit", () => child.kill());
  const listens = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect(IPERF_PORT, "127.0.0.1");
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.once("connect", () => socket.destroy());
    });
  for (let attempt = 0; attempt < 50 && !(await Promise.race([listens(), failed])); attempt++) await sleep(100);
  return { close: () => void child.kill() };
}

/** Megabits of TCP, as the receiver counts them. */
export function tcp(cards: TwoCards, direction: "out" | "in", seconds: number): Promise<Loaded> {
  return withCpu(cards, async () => {
    const reverse = direction === "in" ? " -R" : "";
    const target = `${formatIpv4(networkPlan.gatewayIp)} -p ${IPERF_PORT}`;
    const output = await cards.run(`iperf3 -c ${target} -t ${seconds}${reverse} -f k | grep receiver`);
    const found = /([\d.]+)-([\d.]+)\s+sec.*?([\d.]+) Kbits\/sec/.exec(output);
    if (found === null) throw new Error(`iperf3 says: ${output}`);
    const elapsedMs = (Number(found[2]) - Number(found[1])) * 1000;
    return { done: (Number(found[3]) / 1000) * (elapsedMs / 1000), elapsedMs };
  });
}

/** Datagrams that pktgen sends as fast as the driver takes them; all of them must come out. */
export function datagramsOut(cards: TwoCards, card: CardName, load: { bytes: number; count: number }): Promise<Loaded> {
  const device = cards.device(card);
  return withCpu(cards, async () => {
    let arrived = 0;
    let firstMs = 0;
    let lastMs = 0;
    cards.onFrame = (frame) => {
      if (destinationOf(frame) !== benchMac.value) return;
      lastMs = hostClock.nowMs();
      if (arrived++ === 0) firstMs = lastMs;
    };
    const settings = [
      `count ${load.count}`,
      `pkt_size ${load.bytes}`,
      "dst 10.0.2.99",
      `dst_mac ${benchMac.text}`,
      "clone_skb 64",
    ];
    await cards.run(
      `echo rem_device_all > /proc/net/pktgen/kpktgend_0; echo add_device ${device} > /proc/net/pktgen/kpktgend_0`,
    );
    await cards.run(settings.map((text) => `echo ${text} > /proc/net/pktgen/${device}`).join("; "));
    await cards.run("echo start > /proc/net/pktgen/pgctrl");
    await sleep(100);
    cards.onFrame = () => {};
    return { done: arrived, elapsedMs: lastMs - firstMs, lost: load.count - arrived };
  });
}

/** What the guest's card has received when nothing comes any more, and since when that is so. */
async function settledCount(cards: TwoCards, card: CardName): Promise<{ count: number; atMs: number }> {
  let count = -1;
  let atMs = hostClock.nowMs();
  for (;;) {
    const next = await cards.guestCounter(card, "rx_packets");
    if (next !== count) atMs = hostClock.nowMs();
    else if (hostClock.nowMs() - atMs > 200) return { count, atMs };
    count = next;
    await sleep(20);
  }
}

/** Frames at once, when this process comes late: a quarter of the VF's ring, which is no card's fault if it runs over. */
const BURST_FRAMES_MAX = 128;

/** Datagrams from here at a steady rate, those of a millisecond at once, which the guest's card counts. */
export function datagramsIn(
  cards: TwoCards,
  card: CardName,
  load: { readonly bytes: number; readonly perSecond: number; readonly seconds: number },
): Promise<Loaded> {
  const frame = datagram(card, load.bytes);
  const number = new DataView(frame.buffer, 42);
  const count = Math.round(load.perSecond * load.seconds);
  return withCpu(cards, async () => {
    const before = await cards.guestCounter(card, "rx_packets");
    const startMs = hostClock.nowMs();
    for (let sent = 0; sent < count;) {
      const dueByNow = Math.ceil(((hostClock.nowMs() - startMs) / 1000) * load.perSecond);
      const until = Math.min(count, dueByNow, sent + BURST_FRAMES_MAX);
      for (; sent < until; sent++) {
        number.setUint32(0, sent);
        cards.send(frame);
      }
      if (sent < count) await sleep(1);
    }
    const counted = await settledCount(cards, card);
    return { done: counted.count - before, elapsedMs: counted.atMs - startMs, lost: count - (counted.count - before) };
  });
}

/** The highest rate of a ladder at which a card loses nothing, and the load at that rate. */
export async function datagramsInWithoutLoss(
  cards: TwoCards,
  card: CardName,
  load: { readonly bytes: number; readonly fromPerSecond: number; readonly step: number },
): Promise<Loaded> {
  let best: Loaded | undefined;
  for (let perSecond = load.fromPerSecond; ; perSecond *= load.step) {
    const tried = await datagramsIn(cards, card, { bytes: load.bytes, perSecond, seconds: 1 });
    if (tried.lost > 0 || tried.perSecond < perSecond * 0.9) break;
    best = tried;
  }
  return best ?? { perSecond: 0, oursUs: 0, qemuUs: 0, lost: 0 };
}

let pingers = 0;

/** Median round trip in microseconds, from here to the guest and back. */
export async function roundTripUs(cards: TwoCards): Promise<number> {
  const name = `pings ${++pingers}`;
  cards.peer.startPinger(name, { targetIp: networkPlan.guestIp, intervalMs: 5, payloadBytes: 56, seed: pingers });
  const endMs = hostClock.nowMs() + 1500;
  while (hostClock.nowMs() < endMs) {
    cards.peer.service();
    await sleep(1);
  }
  cards.peer.stopPinger(name);
  return (cards.peer.pingReport(name).roundTripMs?.median ?? Number.NaN) * 1000;
}

/** Median time of one read of a register of the VF, by QEMU's monitor, less what the monitor takes for as much RAM. */
export async function registerReadUs(cards: TwoCards): Promise<number> {
  const { vf } = cards.served;
  const WORDS = 400;
  const REPEATS = 9;
  const base = vf.barAddress(0);
  let reads = 0;
  const readBar = vf.readBar.bind(vf);
  vf.readBar = (bar, offset, bytes) => {
    reads++;
    return readBar(bar, offset, bytes);
  };
  const timeOf = async (address: number): Promise<number> => {
    const times: number[] = [];
    for (let i = 0; i < REPEATS; i++) {
      const startMs = hostClock.nowMs();
      await cards.readWords(address, WORDS);
      times.push(hostClock.nowMs() - startMs);
    }
    return times.toSorted((a, b) => a - b)[REPEATS >>> 1] ?? 0;
  };
  const registersMs = await timeOf(base);
  const readsEach = reads / REPEATS;
  vf.readBar = readBar;
  return ((registersMs - (await timeOf(0x10_0000))) / readsEach) * 1000;
}
