// The whole program with a made-up migration behind it, for tests that look at a process from outside.
import { processEnvironment } from "./environment.ts";
import { fakeRunner } from "./fakes.ts";
import { runCli } from "./run-cli.ts";

process.exitCode = await runCli(process.argv.slice(2), processEnvironment(), async () => fakeRunner);
