// The guest of bench/qemu.ts: one QEMU with the served VF and a virtio-net card, both plugged into one network here.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { SeededRandom } from "../src/base/random.ts";
import { prepareQemu, prepareQemuGuest } from "../src/host/assets-qemu.ts";
import { preparePasst } from "../src/host/assets.ts";
import { CablePort } from "../src/host/cable-port.ts";
import { hostClock } from "../src/host/clock.ts";
import { DeviceRunner } from "../src/host/device-runner.ts";
import { untilPrompt } from "../src/host/linux-boot.ts";
import { startPasst } from "../src/host/passt.ts";
import { HumanMonitor } from "../src/machine/qemu/hmp.ts";
import { loadNative } from "../src/machine/qemu/native.ts";
import type { VIommu } from "../src/machine/qemu/qemu-command-line.ts";
import { isKvmUsable, QemuProcess } from "../src/machine/qemu/qemu-process.ts";
import { ServedVm } from "../src/machine/qemu/served-vm.ts";
import { runCommand } from "../src/machine/shell.ts";
import { writeEthernetHeader } from "../src/network/ethernet.ts";
import { formatIpv4 } from "../src/network/ipv4.ts";
import { parseMac, type MacAddress } from "../src/network/mac.ts";
import { Peer } from "../src/network/peer.ts";
import { networkPlan } from "../src/network/plan.ts";
import { EthernetSwitch } from "../src/network/switch.ts";
import type { SwitchPort } from "../src/network/switch-port.ts";
import { gatewayFilter, withoutPadding } from "../src/network/uplink-filter.ts";

export const cardNames = ["VF", "virtio-net"] as const;
export type CardName = (typeof cardNames)[number];

export const macs: Readonly<Record<CardName, MacAddress>> = {
  VF: networkPlan.guestMac,
  "virtio-net": parseMac("02:00:0a:00:02:10"),
};
const macTexts: Readonly<Record<CardName, string>> = { VF: "02:00:0a:00:02:0f", "virtio-net": "02:00:0a:00:02:10" };
const drivers: Readonly<Record<CardName, string>> = { VF: "ixgbevf", "virtio-net": "virtio_net" };
const BENCH_MAC_TEXT = "02:00:0a:00:02:63";
export const benchMac = { text: BENCH_MAC_TEXT, value: parseMac(BENCH_MAC_TEXT) };

const MEMORY_BYTES = 256 << 20;
const COMMAND_TIMEOUT_MS = 60_000;
const SHARED_TIMEOUT_MS = 30_000;
/**
 * passt knows nothing of selective acknowledgments, so that one lost frame costs a time-out or a whole window. It would
 * be measured instead of the card: so nothing is lost before it, and no window is wider than a receive ring.
 */
const UPLINK_BACKLOG_BYTES = 16 << 20;
const LIMIT_WINDOW = "echo 4096 131072 131072 > /proc/sys/net/ipv4/tcp_rmem";
/** What /proc tells of CPU time is counted in. */
const TICKS_PER_SECOND = 100;

interface Parts {
  readonly fabric: EthernetSwitch;
  readonly bench: SwitchPort;
  close(): Promise<void>;
}

/**
 * Both cards' frames pass the switch in this process: the VF's come from the VF itself, virtio-net's over QEMU's stream
 * socket. Only the card that is measured is up, with the guest's address; so passt and the peer are the same for both.
 */
export class TwoCards {
  readonly served: ServedVm;
  readonly peer: Peer;
  /** Frames for the bench's own address. */
  onFrame: (frame: Uint8Array) => void = () => {};
  readonly #qemu: QemuProcess;
  readonly #parts: Parts;
  readonly #devices: Readonly<Record<CardName, string>>;

  static async start(vIommu: VIommu): Promise<TwoCards> {
    const native = loadNative();
    if (native === undefined) throw new Error("this bench needs koffi");
    const directory = await mkdtemp(path.join(tmpdir(), "uwb-"));
    const fabric = new EthernetSwitch({ clock: hostClock, random: new SeededRandom(1) });
    const queue: { onFrame: (frame: Uint8Array) => void } = { onFrame: () => {} };
    const take = (frame: Uint8Array): "sent" => {
      queue.onFrame(frame);
      return "sent";
    };
    const bench = fabric.addPort({ name: "bench", sink: { accept: take } });
    let vfPort: SwitchPort | undefined;
    const served = await ServedVm.listen({
      socketPath: path.join(directory, "vf"),
      mac: macTexts.VF,
      uplink: { frame: (frame) => vfPort?.receive(frame) },
      clock: hostClock,
      native,
    });
    const receive = (frame: Uint8Array): "sent" => {
      served.vf.receiveFrame(frame);
      return "sent";
    };
    vfPort = fabric.addPort({ name: "vf", sink: { accept: receive } });
    for (const port of [bench, vfPort]) port.setUp(true);
    const cable = cablePort(fabric, { name: "virtio-net" });
    await cable.listen(path.join(directory, "cable"));
    const gateway = { mac: networkPlan.gatewayMac, ip: networkPlan.gatewayIp };
    const uplink = cablePort(fabric, { name: "uplink", filter: gatewayFilter(gateway), trim: withoutPadding });
    const program = (await preparePasst()).path;
    const uplinkCable = { ...uplink.cableOptions(), backlogBytesMax: UPLINK_BACKLOG_BYTES };
    uplink.plug((await startPasst({ program, plan: networkPlan, cable: uplinkCable })).cable);
    const qemu = await startQemu(directory, vIommu);
    const runner = new DeviceRunner(served.vf, hostClock);
    const parts = {
      fabric,
      bench,
      close: async () => {
        runner.close();
        await qemu.kill();
        await served.close();
        cable.close();
        uplink.close();
        await rm(directory, { recursive: true, force: true });
      },
    };
    await served.untilShared(SHARED_TIMEOUT_MS);
    await untilPrompt(qemu.console, () => {});
    const devices = await findDevices(qemu);
    await runCommand(qemu.console, LIMIT_WINDOW, { timeoutMs: COMMAND_TIMEOUT_MS });
    const cards = new TwoCards({ served, qemu, parts, devices });
    queue.onFrame = (frame) => {
      cards.peer.frame(frame);
      cards.onFrame(frame);
    };
    return cards;
  }

  private constructor(made: {
    readonly served: ServedVm;
    readonly qemu: QemuProcess;
    readonly parts: Parts;
    readonly devices: Readonly<Record<CardName, string>>;
  }) {
    this.served = made.served;
    this.#qemu = made.qemu;
    this.#parts = made.parts;
    this.#devices = made.devices;
    const station = { mac: networkPlan.peerMac, ip: networkPlan.peerIp };
    this.peer = new Peer({ clock: hostClock, station, send: (frame) => this.send(frame) });
  }

  device(card: CardName): string {
    return this.#devices[card];
  }

  /** Runs a command in the guest and gives its output. Rejects if it fails. */
  async run(command: string): Promise<string> {
    const { exitStatus, output } = await runCommand(this.#qemu.console, command, { timeoutMs: COMMAND_TIMEOUT_MS });
    if (exitStatus !== 0) throw new Error(`in the guest "${command}" ended with ${exitStatus}: ${output}`);
    return output;
  }

  /** Reads guest physical memory, or registers, by QEMU's own monitor. */
  readWords(address: number, count: number): Promise<Uint32Array> {
    return new HumanMonitor(this.#qemu.qmp).readPhysicalWords(address, count);
  }

  /** Makes this card the guest's only one. */
  async use(card: CardName): Promise<void> {
    for (const name of cardNames) {
      await this.run(`ip addr flush dev ${this.device(name)}; ip link set ${this.device(name)} down`);
    }
    const device = this.device(card);
    const { guestIp, prefixLength, gatewayIp, peerIp } = networkPlan;
    await this.run(`ip link set ${device} up; ip addr add ${formatIpv4(guestIp)}/${prefixLength} dev ${device}`);
    await this.run(
      `n=0; while [ $n -lt 100 ] && ! grep -q 1 /sys/class/net/${device}/carrier; do n=$((n+1)); usleep 50000; done`,
    );
    await this.run(
      `ip route add default via ${formatIpv4(gatewayIp)}; ping -c 2 -w 5 ${formatIpv4(peerIp)} > /dev/null`,
    );
  }

  /** The bench's own station sends a frame. */
  send(frame: Uint8Array): void {
    this.#parts.bench.receive(frame);
  }

  /** Frames that the switch dropped so far, by where and why. */
  dropped(): Record<string, number> {
    const drops = this.#parts.fabric
      .counters()
      .ports.flatMap((port) =>
        [port.in, port.out].flatMap(({ dropped }) =>
          Object.entries(dropped).map(([cause, count]) => [`${port.name}: ${cause}`, count] as const),
        ),
      );
    return Object.fromEntries(drops.filter(([, count]) => count > 0));
  }

  async guestCounter(card: CardName, name: string): Promise<number> {
    return Number(await this.run(`cat /sys/class/net/${this.device(card)}/statistics/${name}`));
  }

  /** CPU time so far of this process and of QEMU, in milliseconds. */
  async cpuMs(): Promise<{ readonly ours: number; readonly qemu: number }> {
    const { user, system } = process.cpuUsage();
    const stat = await readFile(`/proc/${this.#qemu.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { ours: (user + system) / 1000, qemu: (ticks / TICKS_PER_SECOND) * 1000 };
  }

  close(): Promise<void> {
    return this.#parts.close();
  }
}

function cablePort(
  fabric: EthernetSwitch,
  options: Pick<ConstructorParameters<typeof CablePort>[0], "name" | "filter" | "trim">,
): CablePort {
  const nothing = (): void => {};
  return new CablePort({ fabric, ...options, onBatchEnd: nothing, onPlugged: nothing, onUnplugged: nothing });
}

async function startQemu(directory: string, vIommu: VIommu): Promise<QemuProcess> {
  const qemu = await prepareQemu();
  const { kernel, initrd } = await prepareQemuGuest({ withIperf3: true });
  const isFast = await isKvmUsable();
  const modules = `${vIommu === "virtio" ? "virtio_iommu," : ""}virtio_net,ixgbevf`;
  return QemuProcess.start({
    command: qemu.command,
    runDirectory: directory,
    settings: {
      version: qemu.version,
      memoryBytes: MEMORY_BYTES,
      accelerator: isFast ? "kvm" : "tcg",
      cpuModel: isFast ? "host" : "qemu64",
      vIommu,
      boot: {
        kernel: kernel.path,
        initrd: initrd.path,
        commandLine: `console=ttyS0 quiet nokaslr random.trust_cpu=on mitigations=off underway.modules=${modules}`,
      },
      vfSocketPath: path.join(directory, "vf"),
      virtioNet: { cablePath: path.join(directory, "cable"), mac: macTexts["virtio-net"] },
      incoming: false,
    },
  });
}

/** What each card is called in the guest. */
async function findDevices(qemu: QemuProcess): Promise<Record<CardName, string>> {
  const command = "for d in /sys/class/net/eth*; do echo $(basename $(readlink $d/device/driver)) $(basename $d); done";
  const { output } = await runCommand(qemu.console, command, { timeoutMs: COMMAND_TIMEOUT_MS });
  const names = new Map(output.split("\n").map((line) => line.split(" ") as [string, string]));
  const nameOf = (card: CardName): string => {
    const name = names.get(drivers[card]);
    if (name === undefined) throw new Error(`the guest has no card of ${drivers[card]}: ${output}`);
    return name;
  };
  return { VF: nameOf("VF"), "virtio-net": nameOf("virtio-net") };
}

/** A UDP datagram for a neighbour of the guest's, numbered: its card and its driver take it, and IP drops it. */
export function datagram(card: CardName, lengthBytes: number): Uint8Array {
  const frame = new Uint8Array(lengthBytes);
  writeEthernetHeader(frame, { source: benchMac.value, destination: macs[card], etherType: 0x0800 });
  const packetBytes = lengthBytes - 14;
  frame.set(
    [0x45, 0, packetBytes >>> 8, packetBytes & 0xff, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 99, 10, 0, 2, 98],
    14,
  );
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += ((frame[at] ?? 0) << 8) | (frame[at + 1] ?? 0);
  const checksum = 0xffff - ((sum & 0xffff) + (sum >>> 16));
  frame.set([checksum >>> 8, checksum & 0xff], 24);
  const udpBytes = packetBytes - 20;
  frame.set([0x27, 0x10, 0, 9, udpBytes >>> 8, udpBytes & 0xff, 0, 0], 34);
  return frame;
}
