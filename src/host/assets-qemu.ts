// What a QEMU machine needs: a QEMU that takes a device from another process, and the 64-bit guest that it boots.
import { OperationError } from "../base/errors.ts";
import { AssetCache, fileGivenByHand, type AssetFile, type PrepareOptions } from "./assets/asset-cache.ts";
import { busyboxWish, iperf3Wish, kernelReleaseOf, kernelWish } from "./assets/guest-packages.ts";
import { hostArchitecture } from "./assets/host-architecture.ts";
import { qemuGuestModules } from "./assets/initrd.ts";
import { namingWhatIsMissing } from "./assets/packages-missing.ts";
import type { PackageWish } from "./assets/packages.ts";
import { inspectQemu, privateQemuCommand, selectQemu } from "./assets/qemu-program.ts";

export interface QemuAsset {
  /** The program and its leading arguments; a machine's own arguments follow. */
  readonly command: readonly string[];
  /** As QEMU tells it: `11.1.2`. */
  readonly version: string;
  /** For a report: `this machine's own`, `given by hand`, `qemu-system-x86 1:11.1.2+ds-3`. */
  readonly origin: string;
}

export interface QemuGuestAssets {
  /** A 64-bit bzImage. */
  readonly kernel: AssetFile;
  /**
   * Ends in the prompt `guest# ` on ttyS0. Loads the modules that the kernel's command line names, in that order and
   * each after what it needs: `underway.modules=virtio_iommu,virtio_net,ixgbevf`; without it, `ixgbevf`.
   */
  readonly initrd: AssetFile;
  /** `6.12.107+deb13-amd64`; undefined when the kernel was given by hand. */
  readonly kernelRelease: string | undefined;
}

/** vfio-user-pci came with QEMU 10.1. */
const MINIMUM_QEMU = "10.1";

const qemuAdvice = `pass --qemu FILE (qemu-system-x86_64, ${MINIMUM_QEMU} or newer, with vfio-user-pci), or install one`;

/**
 * A QEMU with vfio-user-pci: one given by hand, else the machine's own where it is new enough, else Debian's, unpacked
 * in the cache with all its libraries and run from there; nothing is installed. Every one is asked what it is before
 * it is handed back. Fails with OperationError `asset-missing` or `cache-unusable`.
 */
export async function prepareQemu(options: PrepareOptions & { readonly qemu?: string } = {}): Promise<QemuAsset> {
  if (options.qemu !== undefined) return usable([options.qemu], "given by hand");
  const own = await inspectQemu(["qemu-system-x86_64"], MINIMUM_QEMU);
  if (own.version !== undefined) {
    return { command: ["qemu-system-x86_64"], version: own.version, origin: "this machine's own" };
  }
  const cache = new AssetCache(options);
  const prepare = async (): Promise<QemuAsset> => {
    const wish: PackageWish = {
      name: "qemu-system-x86",
      architecture: hostArchitecture(),
      minimumVersion: MINIMUM_QEMU,
      // A suite on its own, so that the libraries are those QEMU was built with.
      fallbackSuites: [["forky"], ["trixie", "trixie-backports"]],
      withDependencies: true,
      keeps: "the program, its libraries and the firmware of a PC",
      select: selectQemu,
    };
    const qemu = await cache.obtainOne(wish);
    return usable(privateQemuCommand(cache.files(qemu, /./)), `${qemu.name} ${qemu.version}`);
  };
  return namingWhatIsMissing({ what: "QEMU is", advice: qemuAdvice }, prepare());
}

/** Fails with OperationError `asset-missing` where the program is none that will do. */
async function usable(command: readonly string[], origin: string): Promise<QemuAsset> {
  const inspection = await inspectQemu(command, MINIMUM_QEMU);
  if (inspection.version !== undefined) return { command, version: inspection.version, origin };
  throw new OperationError({
    code: "asset-missing",
    message: `QEMU (${origin}) will not do: ${inspection.why}`,
    advice: qemuAdvice,
    facts: { command: command.join(" ") },
  });
}

/**
 * The Linux that a QEMU machine boots. Fails with OperationError `asset-missing` (its advice names the options that
 * pass files by hand) or `cache-unusable`.
 */
export async function prepareQemuGuest(
  options: PrepareOptions & {
    readonly overrides?: { readonly kernel?: string; readonly initrd?: string };
    /** Puts iperf3 into the initrd that is built here. */
    readonly withIperf3?: boolean;
  } = {},
): Promise<QemuGuestAssets> {
  const overrides = options.overrides ?? {};
  if (overrides.kernel !== undefined && overrides.initrd === undefined) {
    throw new OperationError({
      code: "asset-missing",
      message: "a kernel given by hand needs an initrd with its own modules",
      advice: "pass --initrd FILE beside --kernel FILE",
    });
  }
  const given = {
    kernel: await fileGivenByHand(overrides.kernel),
    initrd: await fileGivenByHand(overrides.initrd),
  };
  const guestKernel = kernelWish({
    package: "linux-image-amd64",
    architecture: "amd64",
    modules: qemuGuestModules,
    // Debian 12's 6.1 was built without virtio-iommu, and takes half as long again to boot under emulation.
    minimumVersion: "6.12",
    fallbackSuites: [["trixie"]],
  });
  const guestBusybox = busyboxWish("amd64");
  const iperf3 = iperf3Wish("amd64");
  const wishes: PackageWish[] = [];
  if (given.initrd === undefined) wishes.push(guestBusybox);
  if (given.initrd === undefined && options.withIperf3 === true) wishes.push(iperf3);
  if (given.kernel === undefined) wishes.push(guestKernel);
  const cache = new AssetCache(options);
  const packages = await namingWhatIsMissing(
    {
      what: "the guest's kernel and busybox are",
      advice: "pass --kernel FILE (a 64-bit bzImage) and --initrd FILE (with ixgbevf in it) by hand",
    },
    cache.obtain(wishes),
  );
  const kernelPackage = packages.get(guestKernel);
  const parts = {
    kernel: kernelPackage,
    busybox: packages.get(guestBusybox),
    modules: qemuGuestModules,
    programs: [packages.get(iperf3)].filter((one) => one !== undefined),
  };
  const kernel = given.kernel ?? cache.file(kernelPackage, /^boot\/vmlinuz-/);
  const initrd = given.initrd ?? (await cache.initrd(parts));
  return { kernel, initrd, kernelRelease: given.kernel === undefined ? kernelReleaseOf(kernel.path) : undefined };
}
