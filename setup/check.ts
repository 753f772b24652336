// The static checks: format, lint, types and dead code. `check.ts [NAME…]` runs those named, else all, side by side.
import { spawn } from "node:child_process";
import path from "node:path";

interface Check {
  readonly name: string;
  /** A program of node_modules/.bin and its arguments. */
  readonly command: readonly [string, ...string[]];
  /** What to do about a complaint. */
  readonly advice: string;
}

const checks: readonly Check[] = [
  { name: "format", command: ["oxfmt", "--check"], advice: "npm run format" },
  { name: "lint", command: ["oxlint", "--type-aware", "--deny-warnings"], advice: "see .oxlintrc.json" },
  { name: "types", command: ["tsc"], advice: "see tsconfig.json" },
  { name: "dead-code", command: ["knip", "--no-progress"], advice: "see knip.json" },
];

const root = path.dirname(import.meta.dirname);

/** Runs the check and resolves with whether it passed; its output is shown only when it did not. */
function run(check: Check): Promise<boolean> {
  const [program, ...args] = check.command;
  const startMs = performance.now();
  const child = spawn(process.execPath, [path.join(root, "node_modules/.bin", program), ...args], {
    cwd: root,
    // Tools that start Node by name must find this one, not the machine's own.
    env: { ...process.env, PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env["PATH"] ?? ""}` },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
  return new Promise((resolve) => {
    const finish = (isClean: boolean): void => {
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      process.stdout.write(isClean ? "" : `${output}\n`);
      process.stdout.write(`${check.name}: ${isClean ? "clean" : `not clean (${check.advice})`}, ${seconds} s\n`);
      resolve(isClean);
    };
    child.on("error", (error) => {
      output += error.message;
      finish(false);
    });
    child.on("close", (code) => finish(code === 0));
  });
}

const names = process.argv.slice(2);
const unknown = names.find((name) => !checks.some((check) => check.name === name));
if (unknown !== undefined) {
  process.stderr.write(`no check is called ${unknown}; there are ${checks.map((check) => check.name).join(", ")}\n`);
  process.exit(64);
}
const chosen = checks.filter((check) => names.length === 0 || names.includes(check.name));
const results = await Promise.all(chosen.map((check) => run(check)));
process.exitCode = results.every(Boolean) ? 0 : 1;
