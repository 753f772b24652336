// QEMU's command line for one VM with the VF: pure, so that it can be printed, tested and documented.
import { assert } from "../../base/assert.ts";

export const vIommus = ["none", "intel", "virtio"] as const;
/** The IOMMU that the guest sees: none, VT-d with caching mode (all mappings are told to the VF), or virtio-iommu. */
export type VIommu = (typeof vIommus)[number];

/** A virtio-net card on a cable that speaks QEMU's stream framing. */
export interface VirtioNetSettings {
  readonly cablePath: string;
  /** With colons. In a failover pair the VF has the same. */
  readonly mac: string;
}

/** Linux, started without a boot loader. */
export interface BootSettings {
  readonly kernel: string;
  readonly initrd: string;
  readonly commandLine: string;
}

/** Both QEMUs of a migration get the same, but for `incoming` and the paths. */
export interface QemuSettings {
  /** Of the QEMU that gets them: `10.1.5`. The newest that is known if left out. */
  readonly version?: string;
  readonly memoryBytes: number;
  readonly vcpus?: number;
  readonly accelerator: "kvm" | "tcg";
  readonly cpuModel: string;
  readonly vIommu: VIommu;
  /** Without it the VM stops at its firmware. */
  readonly boot?: BootSettings;
  /** Socket of the vfio-user server that has the VF; without one the VM has no VF yet. */
  readonly vfSocketPath?: string;
  readonly virtioNet?: VirtioNetSettings;
  /** The virtio-net card stands by for the VF (net_failover), which QEMU unplugs before it migrates; needs both. */
  readonly failover?: boolean;
  /** Waits for `migrate-incoming`, and afterwards for `cont`. */
  readonly incoming: boolean;
  /** Unix sockets where this process listens and QEMU connects. */
  readonly qmpPath: string;
  readonly serialPath: string;
}

/** The ids that the devices have in QMP. */
export const qemuIds = {
  vf: "vf0",
  vfPort: "vf-port",
  virtioNet: "net0",
  virtioNetPort: "net-port",
  ram: "ram",
} as const;

/**
 * Guest RAM is one sealed memfd, whose descriptor the VF's server gets with the first DMA_MAP. The order of devices counts:
 * an IOMMU takes in only what comes after it, and PCI slots are given in order.
 */
export function qemuArguments(settings: QemuSettings): string[] {
  assert(settings.failover !== true || settings.virtioNet !== undefined, "a failover pair has two cards");
  return [
    "-no-user-config",
    "-nodefaults",
    ...option("display", "none"),
    ...machineArguments(settings),
    ...bootArguments(settings),
    ...monitorArguments(settings),
    ...migrationArguments(settings),
    ...iommuDevice(settings.vIommu),
    ...device({ driver: "virtio-rng-pci", id: "rng0" }),
    ...virtioNetArguments(settings),
    ...vfArguments(settings),
    ...(settings.incoming ? ["-S", "-incoming", "defer"] : []),
  ];
}

function machineArguments(settings: QemuSettings): string[] {
  const ram = { "qom-type": "memory-backend-memfd", id: qemuIds.ram, size: settings.memoryBytes, share: true };
  // Interrupt remapping needs the part of the interrupt controller in QEMU that KVM would otherwise have.
  const irqchip = settings.vIommu === "intel" ? ",kernel-irqchip=split" : "";
  return [
    ...option("accel", settings.accelerator),
    ...option("cpu", settings.cpuModel),
    ...option("smp", String(settings.vcpus ?? 1)),
    ...option("m", `${settings.memoryBytes / 1024}k`),
    ...option("object", JSON.stringify(ram)),
    ...option("machine", `q35,memory-backend=${qemuIds.ram}${irqchip}`),
  ];
}

function bootArguments({ boot, vIommu }: QemuSettings): string[] {
  if (boot === undefined) return [];
  return [
    ...option("kernel", boot.kernel),
    ...option("initrd", boot.initrd),
    ...option("append", boot.commandLine + iommuParameters[vIommu]),
  ];
}

/** `iommu.strict` makes the guest's kernel unmap each buffer when it is done with it, not some time later. */
const iommuParameters: Readonly<Record<VIommu, string>> = {
  none: "",
  intel: " intel_iommu=on iommu.passthrough=0 iommu.strict=1",
  virtio: " iommu.passthrough=0 iommu.strict=1",
};

function monitorArguments({ qmpPath, serialPath }: QemuSettings): string[] {
  return [
    ...option("qmp", `unix:${optionValue(qmpPath)}`),
    ...option("chardev", `socket,id=console,path=${optionValue(serialPath)}`),
    ...option("serial", "chardev:console"),
  ];
}

/**
 * From 11.1 on QEMU waits for a destination's leave to switch over only if some device asks for it; before, it always
 * did when told to. What waits here is our own end of the migration (see OutgoingMigration).
 */
function migrationArguments({ version = "11.1" }: QemuSettings): string[] {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major * 100 + minor < 1101 ? [] : option("global", "migration.switchover-ack-legacy=on");
}

function iommuDevice(vIommu: VIommu): string[] {
  if (vIommu === "none") return [];
  if (vIommu === "virtio") return device({ driver: "virtio-iommu-pci", id: "iommu0" });
  return device({ driver: "intel-iommu", id: "iommu0", "caching-mode": true, intremap: "on" });
}

function virtioNetArguments({ virtioNet, failover }: QemuSettings): string[] {
  if (virtioNet === undefined) return [];
  const cable = { type: "stream", id: "cable0", server: false, addr: { type: "unix", path: virtioNet.cablePath } };
  const card = { driver: "virtio-net-pci", id: qemuIds.virtioNet, netdev: cable.id, mac: virtioNet.mac, romfile: "" };
  return [
    ...option("netdev", JSON.stringify(cable)),
    ...(failover === true
      ? [...rootPort(qemuIds.virtioNetPort, 1), ...device({ ...card, failover: true, bus: qemuIds.virtioNetPort })]
      : device(card)),
  ];
}

function vfArguments({ vfSocketPath, failover }: QemuSettings): string[] {
  if (failover !== true && vfSocketPath === undefined) return [];
  const port = failover === true ? rootPort(qemuIds.vfPort, 2) : [];
  if (vfSocketPath === undefined) return port;
  return [...port, ...device(vfDevice({ socketPath: vfSocketPath, failover: failover === true }))];
}

function vfDevice(options: { readonly socketPath: string; readonly failover: boolean }): Record<string, unknown> {
  return {
    driver: "vfio-user-pci",
    id: qemuIds.vf,
    socket: { type: "unix", path: options.socketPath },
    ...(options.failover ? { bus: qemuIds.vfPort, failover_pair_id: qemuIds.virtioNet } : {}),
  };
}

/** Only behind a root port can a device be unplugged. */
function rootPort(id: string, chassis: number): string[] {
  return device({ driver: "pcie-root-port", id, chassis, slot: chassis });
}

function device(properties: Record<string, unknown>): string[] {
  return option("device", JSON.stringify(properties));
}

function option(name: string, value: string): string[] {
  return [`-${name}`, value];
}

/** In QEMU's own option syntax a comma within a value is written twice. */
function optionValue(text: string): string {
  return text.replaceAll(",", ",,");
}
