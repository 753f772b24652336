// Everything a Linux guest is made of, and passt: fetched by Debian package name on first use, from then on cached.
import { OperationError } from "../base/errors.ts";
import { AssetCache, fileGivenByHand, pick, type AssetFile, type PrepareOptions } from "./assets/asset-cache.ts";
import { sha256 } from "./assets/cache.ts";
import { busyboxWish, kernelReleaseOf, kernelWish } from "./assets/guest-packages.ts";
import { hostArchitecture } from "./assets/host-architecture.ts";
import { guestModules } from "./assets/initrd.ts";
import { namingWhatIsMissing } from "./assets/packages-missing.ts";
import type { PackageWish } from "./assets/packages.ts";

export interface LinuxAssets {
  readonly kernel: AssetFile;
  readonly initrd: AssetFile;
  readonly bios: AssetFile;
  /** Undefined when only a BIOS was given by hand: the guest then has no text screen, and needs none. */
  readonly vgaBios: AssetFile | undefined;
  /** `6.1.0-50-686`; undefined when the kernel was given by hand. */
  readonly kernelRelease: string | undefined;
  /** Changes whenever a byte of any of the files does: the key for what is derived from them, such as a snapshot. */
  readonly key: string;
}

export interface PasstAsset {
  /** The program, absolute. */
  readonly path: string;
  readonly version: string;
}

export interface AssetOverrides {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly bios?: string;
  readonly vgaBios?: string;
}

const guestKernel = kernelWish({
  package: "linux-image-686",
  architecture: "i386",
  // Debian 13 and later build no 32-bit kernel; their archives still carry Debian 12.
  fallbackSuites: [["bookworm"]],
  modules: guestModules,
});

const guestBusybox = busyboxWish("i386");

const biosWish: PackageWish = {
  name: "seabios",
  architecture: "i386",
  keeps: "the BIOS and the VGA BIOS",
  select: async (root) => pick(root, /\/(?:bios|vgabios-stdvga)\.bin$/),
};

/**
 * The files of a Linux guest. A full cache is used as it is, without a network; remove it to get newer packages.
 * Fails with OperationError `asset-missing` (its advice names the options that pass files by hand) or `cache-unusable`.
 */
export async function prepareAssets(
  options: PrepareOptions & { readonly overrides?: AssetOverrides } = {},
): Promise<LinuxAssets> {
  const overrides = options.overrides ?? {};
  if (overrides.kernel !== undefined && overrides.initrd === undefined) {
    throw new OperationError({
      code: "asset-missing",
      message: "a kernel given by hand needs an initrd with its own ixgbevf module",
      advice: "pass --initrd FILE beside --kernel FILE",
    });
  }
  const given = {
    kernel: await fileGivenByHand(overrides.kernel),
    initrd: await fileGivenByHand(overrides.initrd),
    bios: await fileGivenByHand(overrides.bios),
    vgaBios: await fileGivenByHand(overrides.vgaBios),
  };
  const wishes: PackageWish[] = [];
  if (given.kernel === undefined) wishes.push(guestKernel);
  if (given.initrd === undefined) wishes.push(guestBusybox);
  if (given.bios === undefined) wishes.push(biosWish);
  const cache = new AssetCache(options);
  const packages = await namingWhatIsMissing(
    {
      what: "the guest's kernel, BIOS and busybox are",
      advice:
        "pass --kernel FILE (a 32-bit bzImage), --initrd FILE (with ixgbevf in it) and --bios FILE (SeaBIOS) by hand",
    },
    cache.obtain(wishes),
  );
  const kernelPackage = packages.get(guestKernel);
  const biosPackage = packages.get(biosWish);
  const kernel = given.kernel ?? cache.file(kernelPackage, /^boot\/vmlinuz-/);
  const initrd =
    given.initrd ??
    (await cache.initrd({
      kernel: kernelPackage,
      busybox: packages.get(guestBusybox),
      modules: guestModules,
    }));
  const bios = given.bios ?? cache.file(biosPackage, /\/bios\.bin$/);
  const vgaBiosOfPackage = biosPackage === undefined ? undefined : cache.file(biosPackage, /\/vgabios-stdvga\.bin$/);
  const vgaBios = given.vgaBios ?? vgaBiosOfPackage;
  const hashes = [kernel, initrd, bios, vgaBios].map((file) => file?.sha256 ?? "");
  return {
    kernel,
    initrd,
    bios,
    vgaBios,
    kernelRelease: kernelPackage === undefined ? undefined : kernelReleaseOf(kernel.path),
    key: sha256(Buffer.from(hashes.join("\n"))).slice(0, 16),
  };
}

/**
 * The passt program, which gives the guest the host's own TCP stack. Fails with OperationError `asset-missing`; a
 * run goes on without it, on the built-in peer.
 */
export async function preparePasst(options: PrepareOptions = {}): Promise<PasstAsset> {
  const cache = new AssetCache(options);
  const prepare = async (): Promise<PasstAsset> => {
    // passt runs passt.avx2 from its own folder where the processor can.
    const wish: PackageWish = {
      name: "passt",
      architecture: hostArchitecture(),
      keeps: "the programs",
      select: async (root) => pick(root, /\/bin\/passt(?:\.avx2)?$/),
    };
    const passt = (await cache.obtain([wish])).get(wish);
    return { path: cache.file(passt, /\/bin\/passt$/).path, version: passt?.version ?? "" };
  };
  const advice = "go on without it: the built-in peer sends and checks the traffic then";
  return namingWhatIsMissing({ what: "passt is", advice }, prepare());
}
