// From the words of the command line to MigrateOptions and back, with every bound and conflict checked on the way.
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { OperationError } from "../base/errors.ts";
import type { AssetOverrides } from "../host/assets.ts";
import { frameSizes } from "../host/model/network-load.ts";
import { notConvergingChoices, type MigrateOptions, type QemuOptions, type TrafficKind } from "../host/report.ts";
import type { MachineKind } from "../machine/machine.ts";
import { vIommus } from "../machine/qemu/qemu-command-line.ts";
import { baselineByName, type Baseline } from "../strategy/baselines.ts";
import { defaultStrategy, strategies, strategyByName } from "../strategy/strategies.ts";
import type { Strategy } from "../strategy/strategy.ts";
import { parseChoice, parseRate, parseSize, parseWholeNumber } from "./quantities.ts";

/** Machines that some strategy runs on. */
export const machines: readonly MachineKind[] = [...new Set(strategies.flatMap((strategy) => strategy.machines))];

/** The words an option has if it is not given. */
export const defaults = {
  machine: "linux",
  strategy: defaultStrategy.name,
  memory: "128M",
  load: "1G",
  frameBytes: "1518",
  downtimeLimit: "100",
  roundsMax: "20",
  ifNotConverging: "switch-over",
  iommu: "none",
} as const;

const MIB = 1 << 20;
/** Traffic that a machine's guest can be part of; what comes first is what it gets unless asked. */
const trafficOf: Readonly<Record<MachineKind, readonly TrafficKind[]>> = {
  linux: ["download", "echo", "none"],
  model: ["frames", "none"],
  qemu: ["download", "echo", "none"],
};
/**
 * The embedded PC boots a stock 32-bit kernel: less is too little for its initrd, more is not addressed. The model needs
 * 10 MiB for rings as long as ixgbevf's and for what its socket holds.
 */
const memoryBoundsOf: Readonly<Record<MachineKind, { readonly min: number; readonly max: number }>> = {
  linux: { min: 64 * MIB, max: 1024 * MIB },
  model: { min: 16 * MIB, max: 1024 * MIB },
  qemu: { min: 64 * MIB, max: 1024 * MIB },
};
/** The card's link. */
const LOAD_BITS_PER_SECOND_MAX = 1e10;

/** As commander hands them over. */
export interface MigrateWords {
  readonly machine: string;
  readonly strategy: string;
  readonly memory: string;
  readonly traffic?: string;
  readonly load?: string;
  readonly frameBytes?: string;
  readonly qemu?: string;
  readonly iommu?: string;
  readonly downtimeLimit: string;
  readonly bandwidth?: string;
  readonly seed?: string;
  readonly record?: string;
  readonly capture?: string;
  readonly kernel?: string;
  readonly initrd?: string;
  readonly bios?: string;
  readonly vgaBios?: string;
  readonly roundsMax: string;
  readonly ifNotConverging: string;
  readonly json?: boolean;
}

/** Throws OperationError `usage-…` or `strategy-unknown` for what cannot be meant. */
export function migrateOptionsFrom(words: MigrateWords, randomSeed: () => number): MigrateOptions {
  const machine = parseChoice("--machine", words.machine, machines);
  const baseline = baselineByName(words.strategy);
  const strategy = baseline ?? strategyByName(words.strategy);
  if (!strategy.machines.includes(machine)) throw strategyNotThere(strategy, machine);
  refuseConflicts(words);
  refuseWordsOfOthers(words, machine);
  const traffic = trafficFrom(words, machine);
  if (baseline !== undefined && traffic === "none") throw nothingToSee(baseline.name);
  return {
    machine,
    strategy: strategy.name,
    memoryBytes: parseSize("--memory", words.memory, memoryBoundsOf[machine]),
    traffic,
    ...(traffic === "frames" ? { load: loadFrom(words) } : {}),
    downtimeLimitMs: parseWholeNumber("--downtime-limit", words.downtimeLimit, { min: 1, max: 60_000 }),
    ...(words.bandwidth === undefined ? {} : { bandwidthBytesPerSecond: parseRate("--bandwidth", words.bandwidth) }),
    seed:
      words.seed === undefined ? randomSeed() : parseWholeNumber("--seed", words.seed, { min: 0, max: 2 ** 32 - 1 }),
    ...(words.capture === undefined ? {} : { captureFile: words.capture }),
    ...(machine === "qemu" ? { qemu: qemuFrom(words) } : {}),
    assets: assetOverrides(words),
    roundsMax: parseWholeNumber("--rounds-max", words.roundsMax, { min: 1, max: 1000 }),
    ifNotConverging: parseChoice("--if-not-converging", words.ifNotConverging, notConvergingChoices),
  };
}

function trafficFrom({ traffic, load, frameBytes }: MigrateWords, machine: MachineKind): TrafficKind {
  const kinds = trafficOf[machine];
  const kind = parseChoice("--traffic", traffic ?? kinds[0] ?? "none", kinds);
  const unused = load === undefined ? (frameBytes === undefined ? undefined : "--frame-bytes") : "--load";
  if (kind !== "frames" && unused !== undefined) {
    throw new OperationError({
      code: "usage-conflict",
      message: `${unused} was given, and --traffic ${kind} sends no frames of its own.`,
      advice: "Leave it out, or move the machine model with --traffic frames.",
      facts: { option: unused, traffic: kind },
    });
  }
  return kind;
}

function loadFrom({ load, frameBytes }: MigrateWords): NonNullable<MigrateOptions["load"]> {
  const text = load ?? defaults.load;
  const bitsPerSecond = parseRate("--load", text) * 8;
  if (bitsPerSecond > LOAD_BITS_PER_SECOND_MAX) {
    throw new OperationError({
      code: "usage-invalid-value",
      message: `--load ${text} is more than the card's link of 10 Gbit/s carries.`,
      advice: "Use a rate from 1M to 10G.",
      facts: { option: "--load", value: text },
    });
  }
  return { bitsPerSecond, frameBytes: parseChoice("--frame-bytes", frameBytes ?? defaults.frameBytes, frameSizes) };
}

function qemuFrom({ qemu, iommu }: MigrateWords): QemuOptions {
  return {
    ...(qemu === undefined ? {} : { program: qemu }),
    iommu: parseChoice("--iommu", iommu ?? defaults.iommu, vIommus),
  };
}

/**
 * What an option needs of the machine. The model boots nothing, and its frames pass no switch where they could be
 * captured; QEMU brings its own BIOS.
 */
const machinesOf: readonly (readonly [option: string, word: keyof MigrateWords, machines: readonly MachineKind[]])[] = [
  ["--capture", "capture", ["linux", "qemu"]],
  ["--kernel", "kernel", ["linux", "qemu"]],
  ["--initrd", "initrd", ["linux", "qemu"]],
  ["--bios", "bios", ["linux"]],
  ["--vga-bios", "vgaBios", ["linux"]],
  ["--qemu", "qemu", ["qemu"]],
  ["--iommu", "iommu", ["qemu"]],
];

function refuseWordsOfOthers(words: MigrateWords, machine: MachineKind): void {
  for (const [option, word, machinesWithIt] of machinesOf) {
    if (words[word] === undefined || machinesWithIt.includes(machine)) continue;
    throw new OperationError({
      code: "usage-conflict",
      message: `${option} is not for the machine ${machine}.`,
      advice: `Leave it out, or choose --machine ${machinesWithIt.join(" or ")}.`,
      facts: { option, machine },
    });
  }
}

function assetOverrides({ kernel, initrd, bios, vgaBios }: MigrateWords): AssetOverrides {
  return {
    ...(kernel === undefined ? {} : { kernel }),
    ...(initrd === undefined ? {} : { initrd }),
    ...(bios === undefined ? {} : { bios }),
    ...(vgaBios === undefined ? {} : { vgaBios }),
  };
}

function refuseConflicts({ kernel, initrd, record, capture }: MigrateWords): void {
  if ((kernel === undefined) !== (initrd === undefined)) {
    const [given, missing] = kernel === undefined ? ["--initrd", "--kernel"] : ["--kernel", "--initrd"];
    throw new OperationError({
      code: "usage-conflict",
      message: `${given} was given without ${missing}.`,
      advice: "Give both or neither: the initrd carries the driver module, and a module fits one kernel only.",
      facts: { given, missing },
    });
  }
  if (record !== undefined && capture !== undefined && path.resolve(record) === path.resolve(capture)) {
    throw new OperationError({
      code: "usage-conflict",
      message: "--record and --capture name the same file.",
      advice: "Give them two names.",
      facts: { file: record },
    });
  }
}

function strategyNotThere({ name, machines: there }: Strategy | Baseline, machine: MachineKind): OperationError {
  const what = baselineByName(name) === undefined ? "strategy" : "baseline";
  return new OperationError({
    code: "usage-conflict",
    message: `The ${what} ${name} does not run on the machine ${machine}.`,
    advice: `Choose --machine ${there.join(" or ")}; \`underway strategies\` lists the machines of each.`,
    facts: { strategy: name, machine },
  });
}

function nothingToSee(baseline: string): OperationError {
  return new OperationError({
    code: "usage-conflict",
    message: `--traffic none was given, and of the baseline ${baseline} nothing is known but what its traffic shows.`,
    advice: "Leave it out: nobody audits the memory that QEMU moves by itself.",
    facts: { strategy: baseline, traffic: "none" },
  });
}

/** Throws OperationError `file-unreadable`: better now than after a boot. */
export function checkFilesReadable({ assets, qemu }: MigrateOptions): void {
  for (const [option, file] of [
    ["--qemu", qemu?.program],
    ["--kernel", assets.kernel],
    ["--initrd", assets.initrd],
    ["--bios", assets.bios],
    ["--vga-bios", assets.vgaBios],
  ] as const) {
    if (file === undefined) continue;
    try {
      accessSync(file, constants.R_OK);
    } catch (cause) {
      throw new OperationError({
        code: "file-unreadable",
        message: `The file given with ${option} cannot be read.`,
        advice: "Check its name and its permissions, or leave the option out to have the file fetched.",
        facts: { file, reason: cause instanceof Error ? cause.message : String(cause) },
        cause,
      });
    }
  }
}

/** The command line that repeats a run; files that a run writes are left out. */
export function repeatCommand(program: string, options: MigrateOptions): string {
  const { assets, bandwidthBytesPerSecond, load, qemu } = options;
  const words: [string, string | undefined, (string | undefined)?][] = [
    ["--machine", options.machine, defaults.machine],
    ["--strategy", options.strategy, defaults.strategy],
    ["--memory", `${options.memoryBytes / MIB}M`, defaults.memory],
    ["--traffic", options.traffic, trafficOf[options.machine][0]],
    ["--load", load === undefined ? undefined : `${load.bitsPerSecond}`, "1000000000"],
    ["--frame-bytes", load?.frameBytes, defaults.frameBytes],
    ["--qemu", qemu?.program],
    ["--iommu", qemu?.iommu, defaults.iommu],
    ["--downtime-limit", String(options.downtimeLimitMs), defaults.downtimeLimit],
    ["--bandwidth", bandwidthBytesPerSecond === undefined ? undefined : `${bandwidthBytesPerSecond * 8}`],
    ["--rounds-max", String(options.roundsMax), defaults.roundsMax],
    ["--if-not-converging", options.ifNotConverging, defaults.ifNotConverging],
    ["--kernel", assets.kernel],
    ["--initrd", assets.initrd],
    ["--bios", assets.bios],
    ["--vga-bios", assets.vgaBios],
    ["--seed", String(options.seed)],
  ];
  const given = words.filter(([, value, ifLeftOut]) => value !== undefined && value !== ifLeftOut);
  return [program, "migrate", ...given.map(([option, value]) => `${option} ${shellWord(value ?? "")}`)].join(" ");
}

const shellWord = (text: string): string =>
  /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
