// The guest of a baseline: a QEMU of our own with a virtio-net card on a cable of the fabric, and for failover a VF beside it.
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "../base/errors.ts";
import { loadNative } from "../machine/qemu/native.ts";
import { QemuProcess, tellEnd } from "../machine/qemu/qemu-process.ts";
import type { Baseline } from "../strategy/baselines.ts";
import { cablePath } from "./fabric-server.ts";
import { addressCommands, bringUpNetwork, untilPrompt } from "./linux-boot.ts";
import { PairedUplink, type PairedUplinkOptions } from "./paired-uplink.ts";
import { PairedVf } from "./paired-vf.ts";
import { nativeMissing, type QemuGuestKind } from "./qemu-guest.ts";
import { commonQemuSettings } from "./qemu-settings.ts";

type BaselineSide = "source" | "destination";

const vfCableOf = (side: BaselineSide): string => `${side}-vf`;

/** The fabric's cables that a baseline's guests plug into. */
export function cablesOf({ hasTwoPorts }: Baseline): string[] {
  const sides = ["source", "destination"] as const;
  return [...sides, ...(hasTwoPorts ? sides.map(vfCableOf) : [])];
}

export interface BaselineGuestOptions {
  readonly baseline: Baseline;
  readonly kind: QemuGuestKind;
  readonly memoryBytes: number;
  readonly mac: string;
  /** A folder of this run, with a path short enough for sockets; the fabric's cables (`cablesOf`) are in it. */
  readonly directory: string;
}

export interface BaselineGuest {
  readonly qemu: QemuProcess;
  /** Of a failover pair. */
  readonly vf: PairedVf | undefined;
  close(): Promise<void>;
}

/** The card that carries the frames, whichever it is, is eth0: of a pair net_failover's own device is the first. */
const linkCommands = ["ip link set eth0 up"];
const vfCarrier = "/sys/bus/pci/drivers/ixgbevf/0*/net/*/carrier";
const untilVfCarries = [
  `n=0; while [ $n -lt 100 ] && ! grep -q 1 ${vfCarrier}; do n=$((n+1)); usleep 100000; done`,
  `grep -q 1 ${vfCarrier}`,
];

/** A guest at its prompt, with eth0 as networkPlan says. Rejects with an OperationError that says what is missing. */
export async function startBaselineGuest(options: BaselineGuestOptions): Promise<BaselineGuest> {
  const guest = await assemble(options, "source");
  try {
    await Promise.race([untilPrompt(guest.qemu.console, () => {}), endOf(guest.qemu)]);
    const commands = [...linkCommands, ...addressCommands, ...(guest.vf === undefined ? [] : untilVfCarries)];
    await bringUpNetwork(guest.qemu.console, commands);
    return guest;
  } catch (thrown) {
    await guest.close();
    throw thrown;
  }
}

/** Rejects when QEMU is gone. */
async function endOf(qemu: QemuProcess): Promise<never> {
  const what = tellEnd(await qemu.ended);
  throw new OperationError({
    code: "qemu-ended",
    message: `QEMU is gone while its guest was starting: ${what}.`,
    advice: "See what QEMU says.",
    facts: { what },
  });
}

/** A QEMU that waits for a guest, and the VF that the guest is to have there. */
export function expectBaselineGuest(options: BaselineGuestOptions): Promise<BaselineGuest> {
  return assemble(options, "destination");
}

async function assemble(options: BaselineGuestOptions, side: BaselineSide): Promise<BaselineGuest> {
  const { baseline, mac, directory, kind, memoryBytes } = options;
  const runDirectory = path.join(directory, side.slice(0, 1));
  await mkdir(runDirectory, { mode: 0o700, recursive: true });
  await using parts = new AsyncDisposableStack();
  const fabricSocket = cablePath(directory, side);
  const vfCable = baseline.hasTwoPorts ? { vfCable: cablePath(directory, vfCableOf(side)) } : {};
  const pair = baseline.hasVf ? await makePair({ runDirectory, mac, cable: fabricSocket, ...vfCable }) : undefined;
  if (pair !== undefined) parts.defer(() => pair.close());
  const modules = ["virtio_net", ...(baseline.hasVf ? ["ixgbevf"] : [])];
  const qemu = await QemuProcess.start({
    command: kind.qemu.command,
    runDirectory,
    settings: {
      ...(await commonQemuSettings({
        ...kind,
        memoryBytes,
        modules: kind.iommu === "virtio" ? ["virtio_iommu", ...modules] : modules,
      })),
      virtioNet: { cablePath: pair?.virtioSocketPath ?? fabricSocket, mac },
      ...(pair === undefined ? {} : { failover: true, vfSocketPath: pair.vfSocketPath }),
      incoming: side === "destination",
    },
  });
  parts.defer(async () => void (await qemu.kill()));
  const owned = parts.move();
  return { qemu, vf: pair?.vf, close: () => owned.disposeAsync() };
}

interface Pair {
  readonly vf: PairedVf;
  readonly vfSocketPath: string;
  readonly virtioSocketPath: string;
  close(): Promise<void>;
}

async function makePair(
  options: Pick<PairedUplinkOptions, "cable" | "vfCable"> & { readonly runDirectory: string; readonly mac: string },
): Promise<Pair> {
  const { runDirectory, mac, ...cables } = options;
  const native = loadNative();
  if (native === undefined) throw nativeMissing();
  const [vfSocketPath, virtioSocketPath] = [path.join(runDirectory, "vf"), path.join(runDirectory, "net")];
  const uplink = await PairedUplink.open({ ...cables, virtioSocketPath });
  try {
    const vf = await PairedVf.serve({ socketPath: vfSocketPath, mac, uplink, native });
    const close = async (): Promise<void> => {
      await vf.close();
      uplink.close();
    };
    return { vf, vfSocketPath, virtioSocketPath, close };
  } catch (thrown) {
    uplink.close();
    throw thrown;
  }
}
