// The served VF beside virtio-net on the same QEMU: throughput, frames a second, losses, CPU time and latency.
//
//   bin/underway-node bench/qemu.ts [--rounds 3] [--seconds 3] [--iommu none|intel|virtio] [--only TEXT] [--json]
//
// One guest has both cards, and one is up at a time: in every round each card carries every load, and the table shows
// medians of the rounds, and of the ratios of each round, since other things run on this machine too. Both cards end in
// a switch in this process, the VF directly and virtio-net over QEMU's stream socket, with passt and an iperf3 of this
// machine behind it. passt and the guest limit what TCP can do, so the datagrams, which come from this process and go
// to it, tell more of the cards. "ours" is the CPU time of this process, which serves the VF, and is virtio-net's cable.
import { availableParallelism, cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { vIommus } from "../src/machine/qemu/qemu-command-line.ts";
import { cardNames, TwoCards, type CardName } from "./qemu-cards.ts";
import * as loads from "./qemu-loads.ts";
import type { Loaded } from "./qemu-loads.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "3" },
    iommu: { type: "string", default: "none" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
/** Of the highest rate without loss: what a card must carry for long without losing anything. */
const STEADY_SHARE = 0.5;

const median = (list: readonly number[]): number => list.toSorted((a, b) => a - b)[list.length >>> 1] ?? Number.NaN;

interface Load {
  readonly name: string;
  readonly unit: string;
  readonly run: (cards: TwoCards, card: CardName) => Promise<Loaded>;
}

const measured: readonly Load[] = [
  { name: "TCP out", unit: "Mb/s", run: (cards) => loads.tcp(cards, "out", seconds) },
  { name: "TCP in", unit: "Mb/s", run: (cards) => loads.tcp(cards, "in", seconds) },
  ...[60, 1514].flatMap((bytes): Load[] => [
    {
      name: `${bytes}-byte datagrams out`,
      unit: "frames/s",
      run: (cards, card) => loads.datagramsOut(cards, card, { bytes, count: Math.round(20_000 * seconds) }),
    },
    {
      name: `${bytes}-byte datagrams in`,
      unit: "frames/s",
      run: async (cards, card) => {
        const ladder = { bytes, fromPerSecond: 8000, step: 1.25 };
        const most = await loads.datagramsInWithoutLoss(cards, card, ladder);
        const steady = { bytes, perSecond: most.perSecond * STEADY_SHARE, seconds };
        return { ...most, lost: (await loads.datagramsIn(cards, card, steady)).lost };
      },
    },
  ]),
  {
    name: "ping there and back",
    unit: "us",
    run: async (cards) => ({ perSecond: await loads.roundTripUs(cards), oursUs: 0, qemuUs: 0, lost: 0 }),
  },
];

type Results = Record<CardName, Loaded[]>;

function print(results: ReadonlyMap<Load, Results>): void {
  console.log(
    "load                     unit           VF  virtio-net  ratio  lost    us of ours/QEMU: VF     virtio-net",
  );
  for (const [load, { VF: vf, "virtio-net": virtio }] of results) {
    const of = (list: readonly Loaded[], what: keyof Loaded): number => median(list.map((one) => one[what]));
    const ratio = median(vf.map((one, round) => one.perSecond / (virtio[round]?.perSecond ?? Number.NaN)));
    const lost = [vf, virtio].map((list) => list.reduce((sum, one) => sum + one.lost, 0)).join("/");
    const cpu = [vf, virtio].map((list) => `${of(list, "oursUs").toFixed(1)}/${of(list, "qemuUs").toFixed(1)}`);
    const columns = [
      load.name.padEnd(24),
      load.unit.padEnd(8),
      of(vf, "perSecond").toFixed(0).padStart(8),
      of(virtio, "perSecond").toFixed(0).padStart(11),
      ratio.toFixed(2).padStart(6),
      lost.padStart(5),
      (cpu[0] ?? "").padStart(24),
      (cpu[1] ?? "").padStart(14),
    ];
    console.log(columns.join(" "));
  }
}

const chosen = measured.filter(({ name }) => name.includes(values.only));
const vIommu = vIommus.find((name) => name === values.iommu);
if (vIommu === undefined) throw new Error(`--iommu is one of ${vIommus.join(", ")}`);
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const iperf = await loads.startIperf();
const cards = await TwoCards.start(vIommu);
const results = new Map<Load, Results>(chosen.map((load) => [load, { VF: [], "virtio-net": [] }]));
await cards.run("[ -d /proc/net/pktgen ] || insmod /lib/modules/pktgen.ko");
for (let round = 0; round < Number(values.rounds); round++) {
  for (const card of round % 2 === 0 ? cardNames : cardNames.toReversed()) {
    await cards.use(card);
    for (const [load, of] of results) {
      const loaded = await load.run(cards, card);
      of[card].push(loaded);
      say(
        `round ${round + 1}, ${card}: ${load.name}: ${loaded.perSecond.toFixed(0)} ${load.unit}, lost ${loaded.lost}`,
      );
    }
  }
}
const readUs = await loads.registerReadUs(cards);
const { receive, receiveDrops, transmitDrops, interruptsSent } = cards.served.vf.statistics;
await cards.close();
iperf.close();

if (values.json) {
  const rows = [...results].map(([{ name, unit }, of]) => ({ name, unit, VF: of.VF, "virtio-net": of["virtio-net"] }));
  const machine = { cpu: cpus()[0]?.model, cpus: availableParallelism(), load: loadavg()[0], node: process.version };
  console.log(JSON.stringify({ ...machine, iommu: vIommu, registerReadUs: readUs, rows }));
} else {
  print(results);
  console.log(`\nA register of the VF is read in ${readUs.toFixed(0)} us. Interrupts sent: ${interruptsSent}.`);
  console.log(`The VF's counters: ${JSON.stringify({ receive, receiveDrops, transmitDrops })}`);
}
