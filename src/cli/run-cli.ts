// The command line as a whole: commands, help, what goes wrong, and the exit code.
import { Command, CommanderError, type OutputConfiguration } from "commander";
import { OperationError } from "../base/errors.ts";
import type { Environment } from "./environment.ts";
import { exploreCommand, type Explorer } from "./explore-command.ts";
import { ExitCode, exitCodeMeanings } from "./exit-codes.ts";
import { reportFailure, WrongUsage } from "./failure.ts";
import { migrateCommand, type MigrationRunner } from "./migrate-command.ts";
import { PROGRAM, VERSION } from "./program.ts";
import { replayCommand } from "./replay-command.ts";
import { sidecarCommand, type Controller } from "./sidecar-command.ts";
import { strategiesCommand } from "./strategies-command.ts";
import { vfCommand, type VfService } from "./vf-command.ts";

const exitCodesText = `Exit codes:
${exitCodeMeanings.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join("\n")}
`;

/** Runs the program on the words after its name and says how it should exit. Never throws. */
export async function runCli(
  words: readonly string[],
  environment: Environment,
  loadRunner: () => Promise<MigrationRunner>,
  loadExplorer = exploreThreads,
  loadVf = vfServer,
): Promise<ExitCode> {
  let exitCode: ExitCode = ExitCode.wrongUsage;
  const done = (code: ExitCode): void => {
    exitCode = code;
  };
  const program = underway(environment, [
    migrateCommand(environment, loadRunner, done),
    exploreCommand(environment, loadExplorer, done),
    replayCommand(environment, done),
    strategiesCommand(environment, done),
    vfCommand(environment, async () => (await loadVf()).serve, done),
    sidecarCommand(environment, async () => (await loadVf()).ask, done),
  ]);
  try {
    await program.parseAsync(words, { from: "user" });
    return exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return ExitCode.consistent;
    const problem = thrown instanceof CommanderError ? new WrongUsage(usageError(thrown)) : thrown;
    return reportFailure(problem, environment, wantsJson(words));
  }
}

async function exploreThreads(): Promise<Explorer> {
  const { exploreInThreads } = await import("../host/explore-threads.ts");
  return exploreInThreads;
}

/** What `vf` and `sidecar` do their work with. */
export interface VfParts {
  readonly serve: VfService;
  readonly ask: Controller;
}

async function vfServer(): Promise<VfParts> {
  const [{ serveVf }, { askForJob }] = await Promise.all([
    import("../host/vf-server/serve.ts"),
    import("../host/vf-server/control-client.ts"),
  ]);
  return { serve: serveVf, ask: askForJob };
}

function underway(environment: Environment, commands: readonly Command[]): Command {
  const program = new Command("underway")
    .name(PROGRAM)
    .description(
      "Live migration for virtual machines whose network card is an SR-IOV virtual function, " +
        "while the card keeps writing into guest memory; with an audit of every byte.",
    )
    .usage("COMMAND [options]")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this; with a command before it, that command's options and examples")
    .helpCommand(false)
    .addHelpText("after", `\nExamples:\n  $ ${PROGRAM} migrate\n  $ ${PROGRAM} migrate --help\n`)
    .addHelpText("afterAll", exitCodesText);
  for (const command of commands) program.addCommand(command);
  for (const command of [program, ...program.commands, ...program.commands.flatMap((each) => each.commands)]) {
    command
      .exitOverride()
      .configureOutput(outputTo(environment))
      .configureHelp({ styleTitle: (title) => environment.stdout.colors.bold(title), sortOptions: false });
  }
  return program;
}

function outputTo({ stdout, stderr }: Environment): OutputConfiguration {
  const widthMax = 100;
  return {
    writeOut: (text) => stdout.write(text),
    writeErr: (text) => stderr.write(text),
    // Errors are thrown as well, and told in one place.
    outputError: () => {},
    getOutHelpWidth: () => Math.min(widthMax, stdout.columns),
    getErrHelpWidth: () => Math.min(widthMax, stderr.columns),
    getOutHasColors: () => stdout.colors.isColorSupported,
    getErrHasColors: () => stderr.colors.isColorSupported,
  };
}

/** commander's own complaint: `error: unknown option '--memry'`, with a suggestion on the next line where it has one. */
function usageError({ code, message }: CommanderError): OperationError {
  const [what = "", ...hints] = message.replace(/^error: /, "").split("\n");
  const hint = hints.join(" ").replace(/^\(|\)$/g, "");
  const kebab = code.replace(/^commander\./, "").replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`);
  if (kebab === "help") {
    return new OperationError({
      code: "usage-no-command",
      message: "No command was given",
      advice: `Try ${PROGRAM} migrate`,
    });
  }
  const help = `See ${PROGRAM} --help, or the --help of the command.`;
  return new OperationError({ code: `usage-${kebab}`, message: what, advice: hint === "" ? help : `${hint} ${help}` });
}

const wantsJson = (words: readonly string[]): boolean => words.includes("--json");
