// The asset folder of the cache, and the files that come out of it or are given by hand.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "../../base/errors.ts";
import { asCacheError, defaultCacheDirectory, readFileIfPresent, sha256, writeFileAtomically } from "./cache.ts";
import { buildInitrd } from "./initrd.ts";
import { findModules } from "./kernel-modules.ts";
import { packagesMissing } from "./packages-missing.ts";
import { PackageStore, type PackageWish, type StoredPackage } from "./packages.ts";

export interface AssetFile {
  /** Absolute. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** Where it came from, for a report: `linux-image-6.1.0-50-686 6.1.176-1`, `given by hand`. */
  readonly origin: string;
}

export interface PrepareOptions {
  /** Default: see defaultCacheDirectory. */
  readonly cacheDirectory?: string;
  /** Called with a line for a person when something takes its time. Never called when everything is cached. */
  readonly onProgress?: (message: string) => void;
}

/** The asset folder of one cache. */
export class AssetCache {
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

  async obtainOne(wish: PackageWish): Promise<StoredPackage> {
    const [stored] = await this.#writing(this.#store.obtain([wish], { onProgress: this.#onProgress }));
    if (stored === undefined) throw packagesMissing(`no ${wish.name} was stored`);
    return stored;
  }

  /** The file of the package that the pattern matches. */
  file(from: StoredPackage | undefined, pattern: RegExp): AssetFile {
    const file = from === undefined ? undefined : this.files(from, pattern)[0];
    if (file === undefined) throw packagesMissing(`no file matches ${pattern.source}`);
    return file;
  }

  /** The files of the package that the pattern matches. */
  files(from: StoredPackage, pattern: RegExp): AssetFile[] {
    return from.files
      .filter((file) => pattern.test(file.path))
      .map((file) => ({
        path: path.join(this.#store.directory, from.directory, file.path),
        sizeBytes: file.sizeBytes,
        sha256: file.sha256,
        origin: `${from.name} ${from.version}`,
      }));
  }

  /** Built anew each time, which takes less than reading it back would need of checks, and stored under its hash. */
  async initrd(parts: {
    readonly kernel: StoredPackage | undefined;
    readonly busybox: StoredPackage | undefined;
    readonly modules: readonly string[];
    /** Packages of one program each, with its libraries. */
    readonly programs?: readonly StoredPackage[];
  }): Promise<AssetFile> {
    const { kernel, busybox, programs = [] } = parts;
    if (kernel === undefined || busybox === undefined) throw packagesMissing("the initrd needs kernel and busybox");
    const busyboxFile = this.file(busybox, /(?:^|\/)bin\/busybox$/);
    const contents = buildInitrd({
      busybox: (await readFileIfPresent(busyboxFile.path)) ?? new Uint8Array(0),
      modules: await findModules(path.join(this.#store.directory, kernel.directory), parts.modules),
      programs: await Promise.all(programs.flatMap((one) => this.files(one, /./)).map((file) => readAsset(file))),
    });
    const hash = sha256(contents);
    const file = path.join(this.#directory, `initrd-${hash.slice(0, 16)}.cpio`);
    const present = await readFileIfPresent(file);
    if (present === undefined || sha256(present) !== hash) await this.#writing(writeFileAtomically(file, contents));
    const origin = [busyboxFile.origin, kernel.name, ...programs.map((one) => one.name)].join(" and ");
    return { path: file, sizeBytes: contents.length, sha256: hash, origin };
  }

  async #writing<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      throw asCacheError(error, this.#directory);
    }
  }
}

async function readAsset(file: AssetFile): Promise<{ readonly path: string; readonly contents: Uint8Array }> {
  return { path: file.path, contents: await readFile(file.path) };
}

/** The file as an asset; undefined when none was given. Fails with OperationError `asset-missing`. */
export async function fileGivenByHand(given: string | undefined): Promise<AssetFile | undefined> {
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

/** The files below `root` whose path, with a leading slash, the pattern matches. */
export async function pick(root: string, pattern: RegExp): Promise<string[]> {
  return (await readdir(root, { recursive: true })).filter((file) => pattern.test(`/${file}`));
}
