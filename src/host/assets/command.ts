// Runs one command of the host to its end and hands back what it said.
import { spawn } from "node:child_process";
import { constants } from "node:os";

export interface CommandOptions {
  readonly directory?: string;
  /** Variables set on top of this process's own. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface CommandResult {
  /** The exit status; 128 + n when a signal n ended it; undefined when the command does not exist. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Never rejects: a command that cannot be started has no status and says why in `stderr`. Output is in the C locale. */
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: options.directory,
      env: { ...process.env, LC_ALL: "C", ...options.environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", (error) => resolve({ status: undefined, stdout, stderr: error.message }));
    child.on("close", (code, signal) => {
      const status = signal === null ? (code ?? undefined) : 128 + constants.signals[signal];
      resolve({ status, stdout, stderr });
    });
  });
}

/** The line of a failed command's output that says most: the first that names an error, else the last. */
export function firstErrorLine(result: CommandResult): string {
  const lines = `${result.stderr}\n${result.stdout}`.split("\n").filter((line) => line.trim() !== "");
  return (lines.find((line) => /^E: |error|fail/i.test(line)) ?? lines.at(-1) ?? "it said nothing").trim();
}
