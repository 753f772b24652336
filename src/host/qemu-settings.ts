// What every QEMU that is started here has in common, whatever it is to show: one CPU, the fetched Linux, KVM if it can be had.
import { assert } from "../base/assert.ts";
import { isKvmUsable } from "../machine/qemu/kvm.ts";
import type { QemuSettings, VIommu } from "../machine/qemu/qemu-command-line.ts";
import type { QemuAsset, QemuGuestAssets } from "./assets-qemu.ts";

/**
 * Like the embedded PC's: nothing that takes time and changes nothing here. The kernel's test of the timer interrupt is left
 * out: on a host that is busy the emulated CPU is too slow for it, and behind remapped interrupts the kernel then panics.
 */
const kernelCommandLine = "console=ttyS0 quiet nokaslr random.trust_cpu=on mitigations=off no_timer_check";

export async function commonQemuSettings(options: {
  readonly memoryBytes: number;
  readonly qemu: QemuAsset;
  readonly assets: QemuGuestAssets;
  readonly iommu: VIommu;
  /** The guest loads them in this order. */
  readonly modules: readonly string[];
}): Promise<
  Pick<QemuSettings, "memoryBytes" | "accelerator" | "cpuModel" | "vIommu"> &
    Required<Pick<QemuSettings, "version" | "boot">>
> {
  const { memoryBytes, qemu, assets, iommu, modules } = options;
  assert(memoryBytes % 4096 === 0, "memory is whole pages");
  const isFast = await isKvmUsable();
  return {
    version: qemu.version,
    memoryBytes,
    accelerator: isFast ? "kvm" : "tcg",
    cpuModel: isFast ? "host" : "qemu64",
    vIommu: iommu,
    boot: {
      kernel: assets.kernel.path,
      initrd: assets.initrd.path,
      commandLine: `${kernelCommandLine} underway.modules=${modules.join(",")}`,
    },
  };
}
