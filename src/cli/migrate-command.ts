// `underway migrate`: boots a guest, moves it to another host process under traffic, and prints what became of it.
import { Command, Option } from "commander";
import { frameSizes } from "../host/model/network-load.ts";
import type { MigrateOptions, MigrationReport, SidedEvent } from "../host/report.ts";
import { vIommus } from "../machine/qemu/qemu-command-line.ts";
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";
import { checkingUsage } from "./failure.ts";
import { checkFilesReadable, defaults, machines, migrateOptionsFrom, type MigrateWords } from "./migrate-options.ts";
import { PROGRAM, VERSION } from "./program.ts";
import { Recording } from "./recording.ts";
import { renderReport } from "./report-render.ts";
import { watched } from "./watched.ts";

/** Who carries a migration out. Rejects with an OperationError if it could not be; the guest then runs on the source. */
export type MigrationRunner = (
  options: MigrateOptions,
  sinks: {
    readonly onEvent: (event: SidedEvent) => void;
    readonly onStage: (text: string) => void;
    readonly signal: AbortSignal;
  },
) => Promise<MigrationReport>;

const examples = `
Examples:
  $ ${PROGRAM} migrate
      Debian's kernel with its own ixgbevf moves while it downloads a file.
  $ ${PROGRAM} migrate --strategy blind
      What goes wrong when nobody tells the hypervisor about DMA. Exit code 2.
  $ ${PROGRAM} migrate --bandwidth 1G --json | jq .downtimeMs
      Over a link of 1 Gbit/s; the report for a program to read.
  $ ${PROGRAM} migrate --seed 1742 --record run.ndjson --capture run.pcapng
      The same run again, with its events and its frames kept.
  $ ${PROGRAM} migrate --machine model --load 5G --frame-bytes mix
      A guest without an operating system, under load, with nothing to download.
  $ ${PROGRAM} migrate --machine qemu --iommu intel
      Two real QEMUs and a 64-bit guest, the card served to them over vfio-user.

Ctrl-C cancels the migration: the guest runs on, on the source, with a working
card. Ctrl-C again leaves at once.
`;

const trafficHelp =
  "linux, qemu: download (by the guest, over TCP), echo (with a built-in peer) or none; model: frames (numbered, every byte checked) or none (default: download; frames)";
const notConvergingHelp = "after the last round, still above the limit: switch-over or give-up";

/** An option whose default is printed as it would be typed. */
const option = (flags: string, description: string, value: string): Option =>
  new Option(flags, description).default(value, value);

/** `done` gets the exit code. */
export function migrateCommand(
  environment: Environment,
  loadRunner: () => Promise<MigrationRunner>,
  done: (exitCode: ExitCode) => void,
): Command {
  return new Command("migrate")
    .summary("move a running guest to another host process, and audit every byte")
    .description(
      "Boots a guest whose network card is an SR-IOV virtual function, moves it to another host process while the card " +
        "goes on writing into its memory, and holds the result against the ground truth.",
    )
    .optionsGroup("What moves:")
    .addOption(option("--machine <KIND>", `the guest's machine: ${machines.join(", ")}`, defaults.machine))
    .addOption(option("--memory <SIZE>", "its memory, 64M (model: 16M) to 1G, in whole MiB", defaults.memory))
    .option("--traffic <KIND>", trafficHelp)
    .option("--load <RATE>", `frames: how much the network sends, at most 10G (default: ${defaults.load})`)
    .option("--frame-bytes <SIZE>", `frames: ${frameSizes.join(", ")}, with FCS (default: ${defaults.frameBytes})`)
    .option("--iommu <KIND>", `qemu: the guest's own IOMMU: ${vIommus.join(", ")} (default: ${defaults.iommu})`)
    .option("--seed <N>", "seed of everything random in the run (default: chosen and printed)")
    .optionsGroup("How it moves:")
    .addOption(option("--strategy <NAME>", `see \`${PROGRAM} strategies\``, defaults.strategy))
    .addOption(
      option("--downtime-limit <MS>", "switch over once no more than this is expected", defaults.downtimeLimit),
    )
    .option("--bandwidth <RATE>", "limit in bits per second (100M, 1G), or bytes per second (12MB) (default: none)")
    .addOption(option("--rounds-max <N>", "rounds of pre-copy at most, the first one included", defaults.roundsMax))
    .addOption(option("--if-not-converging <CHOICE>", notConvergingHelp, defaults.ifNotConverging))
    .optionsGroup("What is kept:")
    .option("--record <FILE>", "write the event stream, one JSON object a line")
    .option("--capture <FILE>", "write the frames, as pcapng")
    .option("--json", "print the report as JSON, and nothing else, on stdout")
    .optionsGroup("Files by hand, where apt is not there to fetch them:")
    .option("--qemu <FILE>", "qemu: qemu-system-x86_64, 10.1 or newer")
    .option("--kernel <FILE>", "a Linux kernel (linux: 32-bit, qemu: 64-bit); together with --initrd")
    .option("--initrd <FILE>", "an initrd with that kernel's ixgbevf module")
    .option("--bios <FILE>", "SeaBIOS")
    .option("--vga-bios <FILE>", "SeaBIOS's VGA BIOS")
    .optionsGroup("Other:")
    .helpOption("-h, --help", "print this")
    .addHelpText("after", examples)
    .action(async (words: MigrateWords) => {
      done(await migrate(words, environment, loadRunner));
    });
}

async function migrate(
  words: MigrateWords,
  environment: Environment,
  loadRunner: () => Promise<MigrationRunner>,
): Promise<ExitCode> {
  const options = checkingUsage(() => migrateOptionsFrom(words, environment.randomSeed));
  checkFilesReadable(options);
  const recording = words.record === undefined ? undefined : await Recording.open(words.record, options, VERSION);
  const cancelling = "Cancelling; the guest goes on running on the source.";
  return watched(environment, { recording, cancelling }, async (progress, signal) => {
    const run = await loadRunner();
    const report = await run(options, {
      onEvent(event) {
        recording?.event(event);
        progress.event(event);
      },
      onStage: (text) => progress.stage(text),
      signal,
    });
    progress.end();
    const { stdout } = environment;
    stdout.write(words.json === true ? `${JSON.stringify(report, undefined, 2)}\n` : renderReport(report, stdout));
    return ExitCode[report.verdict];
  });
}
