// The Debian packages that a Linux guest is made of, whichever machine it runs on.
import { readdir } from "node:fs/promises";
import path from "node:path";
import { pick } from "./asset-cache.ts";
import { findModules } from "./kernel-modules.ts";
import { programWithLibraries } from "./linked-program.ts";
import type { PackageWish } from "./packages.ts";

/** Debian's stock kernel with the modules named; `package` is the metapackage of the newest one. */
export function kernelWish(
  kernel: Pick<PackageWish, "architecture" | "minimumVersion" | "fallbackSuites"> & {
    readonly package: string;
    readonly modules: readonly string[];
  },
): PackageWish {
  const { package: name, modules, ...where } = kernel;
  return {
    ...where,
    name,
    metapackageOf: "linux-image-",
    keeps: `the kernel and ${modules.join(", ")}`,
    select: async (root) => {
      const kernels = (await readdir(path.join(root, "boot"))).filter((file) => file.startsWith("vmlinuz-"));
      const found = await findModules(root, modules);
      return [...kernels.map((file) => `boot/${file}`), ...found.map((module) => module.file)];
    },
  };
}

/** What the guest's shell and tools are. */
export function busyboxWish(architecture: string): PackageWish {
  return {
    name: "busybox-static",
    architecture,
    keeps: "busybox",
    select: async (root) => pick(root, /(?:^|\/)bin\/busybox$/),
  };
}

/** iperf3 and its libraries, to measure what the guest's network carries. */
export function iperf3Wish(architecture: string): PackageWish {
  return {
    name: "iperf3",
    architecture,
    withDependencies: true,
    keeps: "the program and its libraries",
    select: async (root) => programWithLibraries(root, /(?:^|\/)bin\/iperf3$/),
  };
}

/** `6.1.0-50-686` of `boot/vmlinuz-6.1.0-50-686`. */
export function kernelReleaseOf(kernelFile: string): string {
  return path.basename(kernelFile).slice("vmlinuz-".length);
}
