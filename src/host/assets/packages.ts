// The store of unpacked Debian packages: each is fetched once, kept by version, and checked before it is used.
import { copyFile, mkdir, mkdtemp, readdir, readFile, realpath, rename, rm } from "node:fs/promises";
import path from "node:path";
import * as v from "valibot";
import { PrivateApt, type AptCandidate } from "./apt.ts";
import { readFileIfPresent, sha256, withLock, writeFileAtomically } from "./cache.ts";
import { firstErrorLine, runCommand } from "./command.ts";
import { packagesMissing } from "./packages-missing.ts";
import { isVersionAtLeast } from "./versions.ts";

/** A package that is wanted, by the name a person would install it by. */
export interface PackageWish {
  readonly name: string;
  readonly architecture: string;
  /** A metapackage stands for its first dependency of this prefix, whose name carries a version. */
  readonly metapackageOf?: string;
  /** The oldest upstream version that will do, such as `10.1`. */
  readonly minimumVersion?: string;
  /**
   * Suites of the same archives to look in, one list after the other, when the machine's own suites do not have the
   * package: `[["forky"], ["trixie", "trixie-backports"]]`.
   */
  readonly fallbackSuites?: readonly (readonly string[])[];
  /** Fetches and unpacks what the package needs to run as well, into the same tree. */
  readonly withDependencies?: true;
  /** Says what `select` keeps: a package stored when this said something else is fetched again. */
  readonly keeps: string;
  /** The files worth keeping of those unpacked below `root`, relative to it. */
  readonly select: (root: string) => Promise<readonly string[]>;
}

const storedPackage = v.object({
  name: v.string(),
  version: v.string(),
  architecture: v.string(),
  keeps: v.string(),
  /** Relative to the store. */
  directory: v.string(),
  /** Each path is relative to the package's root. */
  files: v.array(v.object({ path: v.string(), sizeBytes: v.number(), sha256: v.string() })),
});

export type StoredPackage = v.InferOutput<typeof storedPackage>;
type StoredFile = StoredPackage["files"][number];

export interface FetchOptions {
  readonly onProgress: (message: string) => void;
}

export class PackageStore {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** The packages in the order of the wishes. Without a network when all are stored; else through apt, under a lock. */
  async obtain(wishes: readonly PackageWish[], options: FetchOptions): Promise<StoredPackage[]> {
    const stored = await this.#loadAll(wishes);
    if (stored !== undefined) return stored;
    const fetchMissing = async (): Promise<StoredPackage[]> => {
      // Another process may have fetched them while this one waited.
      const missing = await this.#missing(wishes);
      if (missing.length > 0) await this.#fetchAll(missing, options);
      const fetched = await this.#loadAll(wishes);
      if (fetched === undefined) throw packagesMissing("the files just stored differ from their hashes");
      return fetched;
    };
    return withLock(path.join(this.directory, "lock"), fetchMissing, () =>
      options.onProgress("waiting for another process that is filling the cache"),
    );
  }

  async #loadAll(wishes: readonly PackageWish[]): Promise<StoredPackage[] | undefined> {
    const stored = await Promise.all(wishes.map((wish) => this.#load(wish)));
    const present = stored.filter((one) => one !== undefined);
    return present.length === wishes.length ? present : undefined;
  }

  async #missing(wishes: readonly PackageWish[]): Promise<PackageWish[]> {
    const stored = await Promise.all(wishes.map((wish) => this.#load(wish)));
    return wishes.filter((_, index) => stored[index] === undefined);
  }

  /** The package as stored, or undefined when it is not there or one of its files is not what it was. */
  async #load(wish: PackageWish): Promise<StoredPackage | undefined> {
    const record = await readFileIfPresent(this.#recordPath(wish));
    if (record === undefined) return undefined;
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), storedPackage), Buffer.from(record).toString());
    if (!parsed.success || parsed.output.keeps !== wish.keeps) return undefined;
    const stored = parsed.output;
    for (const file of stored.files) {
      const contents = await readFileIfPresent(path.join(this.directory, stored.directory, file.path));
      if (contents === undefined || sha256(contents) !== file.sha256) return undefined;
    }
    return stored;
  }

  async #fetchAll(wishes: readonly PackageWish[], options: FetchOptions): Promise<void> {
    await this.#removeLeftovers();
    for (const architecture of new Set(wishes.map((wish) => wish.architecture))) {
      const directory = path.join(this.directory, `tmp-apt-${architecture}`);
      try {
        await this.#fetchFor(architecture, wishes, { apt: await PrivateApt.open(directory, architecture), ...options });
      } finally {
        // The lists are a hundred megabytes, old by the next time, and fetched in two seconds.
        await rm(directory, { recursive: true, force: true });
      }
    }
  }

  async #fetchFor(
    architecture: string,
    wishes: readonly PackageWish[],
    options: FetchOptions & { readonly apt: PrivateApt },
  ): Promise<void> {
    options.onProgress(`fetching the index of Debian's ${architecture} packages`);
    for (const wish of wishes.filter((one) => one.architecture === architecture)) {
      const candidate = await resolveWish(options.apt, wish, options);
      await this.#fetch(options.apt, wish, candidate, options);
    }
  }

  async #fetch(apt: PrivateApt, wish: PackageWish, candidate: AptCandidate, options: FetchOptions): Promise<void> {
    const temporary = await mkdtemp(path.join(this.directory, "tmp-"));
    try {
      options.onProgress(await announcement(apt, wish, candidate));
      const archives =
        wish.withDependencies === undefined
          ? [await apt.download(candidate, temporary)]
          : await apt.downloadClosure(candidate, path.join(temporary, "archives"));
      const unpacked = path.join(temporary, "unpacked");
      for (const archive of archives) await unpack(archive, unpacked);
      const kept = path.join(temporary, "kept");
      const files: StoredFile[] = [];
      for (const file of await wish.select(unpacked)) files.push(await keepFile(unpacked, kept, file));
      await this.#store(wish, candidate, { kept, files });
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }

  /** First the files, whole, then the record that makes them count. */
  async #store(
    wish: PackageWish,
    candidate: AptCandidate,
    unpacked: { readonly kept: string; readonly files: readonly StoredFile[] },
  ): Promise<void> {
    const { name, version, architecture } = candidate;
    const directory = `${name}_${version.replaceAll(":", "%3a")}_${architecture}`;
    await rm(path.join(this.directory, directory), { recursive: true, force: true });
    await rename(unpacked.kept, path.join(this.directory, directory));
    const { keeps } = wish;
    const stored: StoredPackage = { name, version, architecture, keeps, directory, files: [...unpacked.files] };
    await writeFileAtomically(this.#recordPath(wish), `${JSON.stringify(stored, undefined, 2)}\n`);
  }

  /** What a run that was killed left behind. */
  async #removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.directory)) {
      if (name.startsWith("tmp-") || name.endsWith(".tmp")) {
        await rm(path.join(this.directory, name), { recursive: true, force: true });
      }
    }
  }

  #recordPath(wish: PackageWish): string {
    return path.join(this.directory, `${wish.name}-${wish.architecture}.json`);
  }
}

async function resolveWish(apt: PrivateApt, wish: PackageWish, options: FetchOptions): Promise<AptCandidate> {
  await apt.update();
  let candidate = await candidateInSuites(apt, wish);
  for (const suites of wish.fallbackSuites ?? []) {
    if (candidate !== undefined) break;
    options.onProgress(`looking for ${wished(wish)} in ${suites.at(-1)}: this machine's suites do not have it`);
    await apt.update(suites);
    candidate = await candidateInSuites(apt, wish);
  }
  if (candidate === undefined) throw apt.missing(wished(wish));
  if (wish.metapackageOf === undefined) return candidate;
  const names = candidate.depends.split(",").map((dependency) => dependency.trim().split(/[\s(|]/, 1)[0] ?? "");
  const real = names.find((name) => name.startsWith(wish.metapackageOf ?? ""));
  const realCandidate = real === undefined ? undefined : await apt.candidate(real);
  if (realCandidate === undefined) throw apt.missing(real ?? `behind ${wish.name}`);
  return realCandidate;
}

async function candidateInSuites(apt: PrivateApt, wish: PackageWish): Promise<AptCandidate | undefined> {
  const candidate = await apt.candidate(wish.name);
  const isNewEnough = candidate !== undefined && isVersionAtLeast(candidate.version, wish.minimumVersion ?? "0");
  return isNewEnough ? candidate : undefined;
}

function wished(wish: PackageWish): string {
  return wish.minimumVersion === undefined ? wish.name : `${wish.name} ${wish.minimumVersion} or newer`;
}

async function announcement(apt: PrivateApt, wish: PackageWish, candidate: AptCandidate): Promise<string> {
  const fetching = `fetching ${candidate.name} ${candidate.version}`;
  if (wish.withDependencies === undefined) return `${fetching} (${megabytes(candidate.sizeBytes)} MB)`;
  const { packageCount, sizeBytes } = await apt.closure(candidate);
  return `${fetching} and what it needs, ${packageCount} packages (${megabytes(sizeBytes)} MB)`;
}

async function unpack(archive: string, directory: string): Promise<void> {
  const result = await runCommand("dpkg-deb", ["--extract", archive, directory]);
  if (result.status === 0) return;
  throw packagesMissing(`${path.basename(archive)} cannot be unpacked (${firstErrorLine(result)})`);
}

/** A link is kept as the file it leads to, which must be in the tree: on this machine it could be any other. */
async function keepFile(from: string, to: string, file: string): Promise<StoredFile> {
  const source = await realpath(path.join(from, file));
  if (!source.startsWith(`${await realpath(from)}/`))
    throw packagesMissing(`the link ${file} leads out of its package`);
  const contents = await readFile(source);
  await mkdir(path.dirname(path.join(to, file)), { recursive: true });
  await copyFile(source, path.join(to, file));
  return { path: file, sizeBytes: contents.length, sha256: sha256(contents) };
}

function megabytes(sizeBytes: number): string {
  return (sizeBytes / 1e6).toFixed(1);
}
