// The program's entry: the command line on this process.
import { processEnvironment } from "./environment.ts";
import { runCli } from "./run-cli.ts";

// The runner brings the emulator with it; help and listings do without.
process.exitCode = await runCli(process.argv.slice(2), processEnvironment(), async () => {
  const { runMigration } = await import("../host/run-migration.ts");
  return runMigration;
});
