// A private apt: the machine's own archives, keys and proxies, but its own lists and cache, so nothing is installed.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { OperationError } from "../../base/errors.ts";
import { formatSources, parseDeb822, parseOneLine, sourcesOfSuites, type AptSource } from "./apt-sources.ts";
import { firstErrorLine, runCommand, type CommandResult } from "./command.ts";
import { packagesMissing } from "./packages-missing.ts";

/** What the archive's index says of the version that would be installed. */
export interface AptCandidate {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  /** The field as it stands, or empty. */
  readonly depends: string;
}

/** What has to be fetched for a package and all that it needs to run. */
export interface AptClosure {
  readonly packageCount: number;
  readonly sizeBytes: number;
}

/** Where the machine keeps its apt configuration, as `apt-config` tells. */
interface MachineApt {
  readonly paths: ReadonlyMap<string, string>;
  /** The `Acquire::` settings: proxies, retries, certificates. */
  readonly acquire: readonly string[];
}

/** Settings that would weaken signature checks or fetch indexes that nobody reads here. */
const notTakenOver = /^Acquire::(?:Allow|IndexTargets|Languages|GzipIndexes|PDiffs|Changelogs|cdrom)/;

/** Passwords for archives, and the keys the machine trusts: used where they are. */
const keptPaths = ["netrc", "netrcparts", "trusted", "trustedparts"] as const;

export class PrivateApt {
  readonly #directory: string;
  readonly #architecture: string;
  readonly #sources: readonly AptSource[];
  /** Whose indexes are here: a list of suites, or `own` for the machine's. */
  #indexed: string | undefined;
  /** The suite that is preferred to the others of the indexes, whatever they say of themselves. */
  #preferredSuite: string | undefined;
  /** The updates' complaints: they matter only if a package then cannot be had. */
  readonly #updateProblems = new Set<string>();

  private constructor(directory: string, architecture: string, sources: readonly AptSource[]) {
    this.#directory = directory;
    this.#architecture = architecture;
    this.#sources = sources;
  }

  /**
   * Lays out the configuration in `directory`, for packages of `architecture`.
   * Fails with OperationError `asset-missing` where there is no apt or no Debian archive is configured.
   */
  static async open(directory: string, architecture: string): Promise<PrivateApt> {
    const machine = await readMachineApt();
    const sources = await readMachineSources(machine.paths);
    if (sources.length === 0) {
      throw packagesMissing("this machine's apt configuration names no Debian archive to fetch them from");
    }
    for (const folder of ["lists/partial", "archives/partial", "etc/sources.list.d", "etc/empty.d"]) {
      await mkdir(path.join(directory, folder), { recursive: true });
    }
    await writeFile(path.join(directory, "status"), "");
    await writeFile(path.join(directory, "apt.conf"), privateConfiguration(directory, architecture, machine));
    return new PrivateApt(directory, architecture, sources);
  }

  /**
   * Fetches the indexes of the machine's own suites, or of others from the same archives (the last is preferred: apt
   * itself shuns backports), unless they are the ones at hand. A failing archive is no failure yet: another may hold
   * what is wanted.
   */
  async update(suites?: readonly string[]): Promise<void> {
    const wanted = suites?.join(" ") ?? "own";
    if (wanted === this.#indexed) return;
    const sources = suites === undefined ? this.#sources : sourcesOfSuites(this.#sources, suites);
    const file = path.join(this.#directory, "etc/sources.list.d/debian.sources");
    await writeFile(file, formatSources(sources, this.#architecture));
    this.#preferredSuite = suites?.at(-1);
    this.#indexed = wanted;
    const result = await this.#run("apt-get", ["update"]);
    if (result.status !== 0) this.#updateProblems.add(updateProblem(result));
  }

  /** The version that would be installed, or undefined when no archive has the package. */
  async candidate(name: string): Promise<AptCandidate | undefined> {
    const result = await this.#run("apt-cache", ["show", "--no-all-versions", name]);
    if (result.status !== 0) return undefined;
    const field = (key: string): string => new RegExp(`^${key}: (.*)$`, "m").exec(result.stdout)?.[1] ?? "";
    return {
      name: field("Package"),
      version: field("Version"),
      architecture: field("Architecture"),
      sizeBytes: Number(field("Size")),
      sha256: field("SHA256"),
      depends: field("Depends"),
    };
  }

  /** Fetches the package into `directory` and hands back the file's path; apt has checked signature and hash. */
  async download(candidate: AptCandidate, directory: string): Promise<string> {
    const result = await this.#run("apt-get", ["download", `${candidate.name}=${candidate.version}`], directory);
    const file = (await readdir(directory)).find((name) => name.startsWith(`${candidate.name}_`));
    if (result.status === 0 && file !== undefined) return path.join(directory, file);
    throw packagesMissing(`the package ${candidate.name} could not be fetched (${firstErrorLine(result)})`);
  }

  /** What the package needs to run, itself included: recommendations are not followed, and nothing counts as installed. */
  async closure(candidate: AptCandidate): Promise<AptClosure> {
    const result = await this.#install(candidate, ["--print-uris"]);
    // 'URI' file size hash
    const sizes = [...result.stdout.matchAll(/^'[^']+' \S+ (?<size>\d+)/gm)].map((match) =>
      Number(match.groups?.["size"] ?? 0),
    );
    return { packageCount: sizes.length, sizeBytes: sizes.reduce((sum, size) => sum + size, 0) };
  }

  /** Fetches the package and all that it needs to run; hands back the files' paths. apt has checked them all. */
  async downloadClosure(candidate: AptCandidate, directory: string): Promise<string[]> {
    await mkdir(path.join(directory, "partial"), { recursive: true });
    await this.#install(candidate, ["--download-only", "-o", `Dir::Cache::archives=${directory}`]);
    const files = (await readdir(directory)).filter((name) => name.endsWith(".deb"));
    return files.toSorted().map((name) => path.join(directory, name));
  }

  /** The error that says why `name` cannot be had. */
  missing(name: string): OperationError<"asset-missing"> {
    const why = [...this.#updateProblems].join("; ");
    return packagesMissing(
      `the package ${name} (${this.#architecture}) is in none of this machine's Debian archives${why && ` (${why})`}`,
    );
  }

  async #install(candidate: AptCandidate, how: readonly string[]): Promise<CommandResult> {
    const what = `${candidate.name}=${candidate.version}`;
    const result = await this.#run("apt-get", ["install", "--assume-yes", "--no-install-recommends", ...how, what]);
    if (result.status === 0) return result;
    throw packagesMissing(
      `the package ${candidate.name} and what it needs could not be fetched (${firstErrorLine(result)})`,
    );
  }

  #run(program: string, args: readonly string[], directory = this.#directory): Promise<CommandResult> {
    const preferred = this.#preferredSuite === undefined ? [] : ["-o", `APT::Default-Release=${this.#preferredSuite}`];
    return runCommand(program, [...args, ...preferred], {
      directory,
      environment: { APT_CONFIG: path.join(this.#directory, "apt.conf"), DEBIAN_FRONTEND: "noninteractive" },
    });
  }
}

/** Of an archive signed by a key that the machine lacks, apt's first line says only that it is not signed. */
function updateProblem(result: CommandResult): string {
  const missingKey = /(?:NO_PUBKEY|Missing key) (?<key>[0-9A-F]+)/i.exec(`${result.stderr}\n${result.stdout}`);
  if (missingKey === null) return firstErrorLine(result);
  const key = missingKey.groups?.["key"] ?? "";
  return `the archive is signed with the key ${key}, which is newer than this machine's: upgrade debian-archive-keyring`;
}

async function readMachineApt(): Promise<MachineApt> {
  const pairs = ["sourcelist", "sourceparts", ...keptPaths].flatMap((name) => [
    name.toUpperCase(),
    `Dir::Etc::${name}/f`,
  ]);
  const shell = await runCommand("apt-config", ["shell", ...pairs]);
  const dump = await runCommand("apt-config", ["dump"]);
  if (shell.status === undefined || dump.status === undefined) {
    throw packagesMissing("apt was not found on this machine");
  }
  if (shell.status !== 0 || dump.status !== 0) throw packagesMissing(`apt-config failed (${firstErrorLine(shell)})`);
  const paths = new Map<string, string>();
  for (const match of shell.stdout.matchAll(/^(?<name>[A-Z]+)='(?<value>.*)'$/gm)) {
    paths.set((match.groups?.["name"] ?? "").toLowerCase(), match.groups?.["value"] ?? "");
  }
  const acquire = dump.stdout.split("\n").filter((line) => line.startsWith("Acquire::") && !notTakenOver.test(line));
  return { paths, acquire };
}

async function readMachineSources(paths: ReadonlyMap<string, string>): Promise<AptSource[]> {
  const files = [paths.get("sourcelist") ?? ""];
  const parts = paths.get("sourceparts") ?? "";
  const names = await readdir(parts).catch((): string[] => []);
  files.push(...names.toSorted().map((name) => path.join(parts, name)));
  const sources: AptSource[] = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (file.endsWith(".sources")) sources.push(...parseDeb822(text));
    if (file.endsWith(".list")) sources.push(...parseOneLine(text));
  }
  return sources;
}

/**
 * The whole configuration. APT_CONFIG is read before the machine's own files, so naming other folders here keeps
 * the machine's hooks and pins out; what it says of proxies and certificates is repeated. Signature checks stay on.
 */
function privateConfiguration(directory: string, architecture: string, machine: MachineApt): string {
  const at = (name: string): string => path.join(directory, name);
  const settings: [string, string][] = [
    ["Dir::State", directory],
    ["Dir::State::lists", at("lists")],
    ["Dir::State::status", at("status")],
    ["Dir::Cache", directory],
    ["Dir::Cache::archives", at("archives")],
    ["Dir::Log", directory],
    ["Dir::Etc", at("etc")],
    ["Dir::Etc::main", at("etc/apt.conf")],
    ["Dir::Etc::parts", at("etc/empty.d")],
    ["Dir::Etc::sourcelist", at("etc/sources.list")],
    ["Dir::Etc::sourceparts", at("etc/sources.list.d")],
    ["Dir::Etc::preferences", at("etc/preferences")],
    ["Dir::Etc::preferencesparts", at("etc/empty.d")],
    ...keptPaths.flatMap((name): [string, string][] => {
      const kept = machine.paths.get(name) ?? "";
      return kept === "" ? [] : [[`Dir::Etc::${name}`, kept]];
    }),
    ["APT::Architecture", architecture],
    ["APT::Architectures::", architecture],
    // As root apt would fetch as a user of its own, who may not write to this folder.
    ["APT::Sandbox::User", "root"],
    ["Acquire::Languages", "none"],
    ["Acquire::PDiffs", "false"],
    ["Acquire::Retries", "2"],
  ];
  return [...machine.acquire, ...settings.map(([name, value]) => `${name} "${value}";`)].join("\n") + "\n";
}
