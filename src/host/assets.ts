// Everything a Linux guest is made of, and passt: fetched by Debian package name on first use, from then on cached.
import { readdir } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "../base/errors.ts";
import { asCacheError, defaultCacheDirectory, readFileIfPresent, sha256, writeFileAtomically } from "./assets/cache.ts";
import { packagesMissing } from "./assets/apt.ts";
import { buildInitrd, guestModules } from "./assets/initrd.ts";
import { findModules } from "./assets/kernel-modules.ts";
import { PackageStore, type PackageWish, type StoredPackage } from "./assets/packages.ts";

export interface AssetFile {
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Where it came from, for a report: `linux-image-6.1.0-50-686 6.1.176-1`, `given by hand`. */
  readonly origin: string;
}

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

export interface PrepareOptions {
  /** Default: see defaultCacheDirectory. */
  readonly cacheDirectory?: string;
  /** Called with a line for a person when something takes its time. Never called when everything is cached. */
  readonly onProgress?: (message: string) => void;
}

const kernelWish: PackageWish = {
  name: "linux-image-686",
  architecture: "i386",
  metapackageOf: "linux-image-",
  // Debian 13 and later build no 32-bit kernel; their archives still carry Debian 12.
  fallbackSuite: "bookworm",
  keeps: `the kernel and ${guestModules.join(", ")}`,
  select: async (root) => {
    const kernels = (await readdir(path.join(root, "boot"))).filter((name) => name.startsWith("vmlinuz-"));
    const modules = await findModules(root, guestModules);
    return [...kernels.map((name) => `boot/${name}`), ...modules.map((module) => module.file)];
  },
};

const busyboxWish: PackageWish = {
  name: "busybox-static",
  architecture: "i386",
  keeps: "busybox",
  select: async (root) => pick(root, /(?:^|\/)bin\/busybox$/),
};

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
  if (given.kernel === undefined) wishes.push(kernelWish);
  if (given.initrd === undefined) wishes.push(busyboxWish);
  if (given.bios === undefined) wishes.push(biosWish);
  const cache = new AssetCache(options);
  const packages = await cache.obtain(wishes);
  const kernelPackage = packages.get(kernelWish);
  const biosPackage = packages.get(biosWish);
  const kernel = given.kernel ?? cache.file(kernelPackage, /^boot\/vmlinuz-/);
  const initrd = given.initrd ?? (await cache.initrd(kernelPackage, packages.get(busyboxWish)));
  const bios = given.bios ?? cache.file(biosPackage, /\/bios\.bin$/);
  const vgaBiosOfPackage = biosPackage === undefined ? undefined : cache.file(biosPackage, /\/vgabios-stdvga\.bin$/);
  const vgaBios = given.vgaBios ?? vgaBiosOfPackage;
  const hashes = [kernel, initrd, bios, vgaBios].map((file) => file?.sha256 ?? "");
  return {
    kernel,
    initrd,
    bios,
    vgaBios,
    kernelRelease: kernelPackage === undefined ? undefined : path.basename(kernel.path).slice("vmlinuz-".length),
    key: sha256(Buffer.from(hashes.join("\n"))).slice(0, 16),
  };
}

/**
 * The passt program, which gives the guest the host's own TCP stack. Fails with OperationError `asset-missing`; a
 * run goes on without it, on the built-in peer.
 */
export async function preparePasst(options: PrepareOptions = {}): Promise<PasstAsset> {
  const architecture = { x64: "amd64", arm64: "arm64" }[process.arch as string];
  if (architecture === undefined) throw passtMissing(`this processor is ${process.arch}`);
  // passt runs passt.avx2 from its own folder where the processor can.
  const wish: PackageWish = {
    name: "passt",
    architecture,
    keeps: "the programs",
    select: async (root) => pick(root, /\/bin\/passt(?:\.avx2)?$/),
  };
  const cache = new AssetCache(options);
  try {
    const passt = (await cache.obtain([wish])).get(wish);
    return { path: cache.file(passt, /\/bin\/passt$/).path, version: passt?.version ?? "" };
  } catch (error) {
    if (!(error instanceof OperationError) || error.code !== "asset-missing") throw error;
    throw passtMissing(String(error.facts["why"] ?? error.message));
  }
}

function passtMissing(why: string): OperationError<"asset-missing"> {
  return new OperationError({
    code: "asset-missing",
    message: `passt is not cached and cannot be fetched: ${why}`,
    advice: "go on without it: the built-in peer sends and checks the traffic then",
    facts: { why },
  });
}

/** The asset folder of one cache. */
class AssetCache {
  readonly #directory: string;
  readonly #store: PackageStore;
  readonly #onProgress: (message: string) => void;

  constructor(options: PrepareOptions) {
    this.#directory = path.join(path.resolve(options.cacheDirectory ?? defaultCacheDirectory()), "assets");
    this.#store = new PackageStore(path.join(this.#directory, "packages"));
    this.#onProgress = options.onProgress ?? ((): void => undefined);
  }

  async obtain(wishes: readonly PackageWish[]): Promise<Map<PackageWish, StoredPackage>> {
    const packages = await this.#writing(this.#store.obtain(wishes, { onProgress: this.#onProgress }));
    return new Map(packages.map((one, index) => [wishes[index] as PackageWish, one]));
  }

  /** The file of the package that the pattern matches. */
  file(from: StoredPackage | undefined, pattern: RegExp): AssetFile {
    const file = from?.files.find((one) => pattern.test(one.path));
    if (from === undefined || file === undefined) throw packagesMissing(`no file matches ${pattern.source}`);
    return {
      path: path.join(this.#store.directory, from.directory, file.path),
      sizeBytes: file.sizeBytes,
      sha256: file.sha256,
      origin: `${from.name} ${from.version}`,
    };
  }

  /** Built anew each time, which takes less than reading it back would need of checks, and stored under its hash. */
  async initrd(kernel: StoredPackage | undefined, busybox: StoredPackage | undefined): Promise<AssetFile> {
    if (kernel === undefined || busybox === undefined) throw packagesMissing("the initrd needs kernel and busybox");
    const busyboxFile = this.file(busybox, /(?:^|\/)bin\/busybox$/);
    const contents = buildInitrd({
      busybox: (await readFileIfPresent(busyboxFile.path)) ?? new Uint8Array(0),
      modules: await findModules(path.join(this.#store.directory, kernel.directory), guestModules),
    });
    const hash = sha256(contents);
    const file = path.join(this.#directory, `initrd-${hash.slice(0, 16)}.cpio`);
    const present = await readFileIfPresent(file);
    if (present === undefined || sha256(present) !== hash) await this.#writing(writeFileAtomically(file, contents));
    return { path: file, sizeBytes: contents.length, sha256: hash, origin: `${busyboxFile.origin} and ${kernel.name}` };
  }

  async #writing<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      throw asCacheError(error, this.#directory);
    }
  }
}

async function fileGivenByHand(given: string | undefined): Promise<AssetFile | undefined> {
  if (given === undefined) return undefined;
  const file = path.resolve(given);
  const contents = await readFileIfPresent(file);
  if (contents === undefined) {
    throw new OperationError({
      code: "asset-missing",
      message: `the file ${file} cannot be read`,
      advice: "check the path given with --kernel, --initrd or --bios",
      facts: { path: file },
    });
  }
  return { path: file, sizeBytes: contents.length, sha256: sha256(contents), origin: "given by hand" };
}

async function pick(root: string, pattern: RegExp): Promise<string[]> {
  return (await readdir(root, { recursive: true })).filter((file) => pattern.test(`/${file}`));
}
