// The other model checkers: Spin and rumur from Debian, fetched privately, and their verifiers of the common model.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { defaultCacheDirectory } from "../../src/host/assets/cache.ts";
import { firstErrorLine, runCommand } from "../../src/host/assets/command.ts";
import { PackageStore, type PackageWish } from "../../src/host/assets/packages.ts";
import type { OrderName } from "./orders.ts";

/** A verifier that was made, and how to run it. */
export interface Verifier {
  readonly program: string;
  readonly args: readonly string[];
}

const COMPILER = ["-std=gnu11", "-O3", "-march=native", "-mcx16", "-w"];
/** Longest schedule, and a table of 2^26 places: with more room for its states Spin is no faster. */
const SPIN_RUN = ["-m1000", "-w26"];

function wishFor(name: string): PackageWish {
  return {
    name,
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    keeps: "the program",
    select: async (root) =>
      (await readdir(root, { recursive: true })).filter((file) => new RegExp(`(?:^|/)bin/${name}$`).test(file)),
  };
}

export class Checkers {
  readonly #programs: ReadonlyMap<string, string>;
  readonly #directory: string;

  private constructor(programs: ReadonlyMap<string, string>, directory: string) {
    this.#programs = programs;
    this.#directory = directory;
  }

  /** Fetches what is not cached yet; verifiers are built in `directory`. */
  static async obtain(directory: string): Promise<Checkers> {
    const store = new PackageStore(path.join(defaultCacheDirectory(), "bench", "packages"));
    const names = ["spin", "rumur"];
    const packages = await store.obtain(names.map(wishFor), {
      onProgress: (message) => process.stderr.write(`${message}\n`),
    });
    const programs = packages.map(({ name, directory: folder, files }): [string, string] => [
      name,
      path.join(store.directory, folder, files[0]?.path ?? ""),
    ]);
    return new Checkers(new Map(programs), directory);
  }

  /** Options of the C compiler, as Spin's manual has them, beside those that every verifier is compiled with. */
  async spin(name: string, order: OrderName, options: readonly string[]): Promise<Verifier> {
    const model = path.join(import.meta.dirname, "common.pml");
    const directory = await this.#folder(name);
    await run(this.#programs.get("spin") ?? "spin", ["-a", `-DORDER=${orderNumber(order)}`, model], directory);
    await run("cc", [...COMPILER, "-DSAFETY", "-DMEMLIM=8000", ...options, "-o", "pan", "pan.c"], directory);
    return { program: path.join(directory, "pan"), args: SPIN_RUN };
  }

  /** The type of a queue says whether rumur may use that queues are alike. */
  async rumur(name: string, order: OrderName, queueType: "0..2" | "scalarset(3)"): Promise<Verifier> {
    const directory = await this.#folder(name);
    const model = await readFile(path.join(import.meta.dirname, "common.m"), "utf8");
    const filledIn = model.replace("@ORDER@", String(orderNumber(order))).replace("@QUEUE@", queueType);
    await writeFile(path.join(directory, "common.m"), filledIn);
    const options = ["--threads", "1", "--deadlock-detection", "off", "--scalarset-schedules", "off"];
    const traces = ["--counterexample-trace", "off"];
    await run(
      this.#programs.get("rumur") ?? "rumur",
      [...options, ...traces, "--set-capacity", "1073741824", "--output", "verifier.c", "common.m"],
      directory,
    );
    await run("cc", [...COMPILER, "-o", "verifier", "verifier.c", "-lpthread", "-latomic"], directory);
    return { program: path.join(directory, "verifier"), args: [] };
  }

  async #folder(name: string): Promise<string> {
    const folder = path.join(this.#directory, name.replaceAll(/[^a-z]+/g, "-"));
    await mkdir(folder, { recursive: true });
    return folder;
  }
}

function orderNumber(order: OrderName): number {
  return order === "rings first" ? 0 : 1;
}

async function run(program: string, args: readonly string[], directory: string): Promise<void> {
  const result = await runCommand(program, args, { directory });
  if (result.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${firstErrorLine(result)}`);
}

/** Distinct states that a verifier says it has seen. */
export function statesIn(output: string): number {
  return Number(/(\d+) states, stored/.exec(output)?.[1] ?? /(\d+) states, \d+ rules/.exec(output)?.[1] ?? Number.NaN);
}

/** Whether a verifier has found nothing wrong. */
export function isSafeIn(output: string): boolean {
  return /errors: 0\b/.test(output) || output.includes("No error found");
}
