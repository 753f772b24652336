// What a person or a program is told when something could not be done.
import { OperationError } from "../base/errors.ts";
import { ExitCode } from "./exit-codes.ts";
import { pageOf, paragraph } from "./layout.ts";
import type { Environment } from "./environment.ts";

/** The command line itself was wrong: nothing was started. */
export class WrongUsage extends Error {
  override readonly name = "WrongUsage";
  readonly error: OperationError;

  constructor(error: OperationError) {
    super(error.message);
    this.error = error;
  }
}

/** Runs a check of the command line: what it throws is wrong usage. */
export function checkingUsage<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof OperationError) throw new WrongUsage(error);
    throw error;
  }
}

/** Tells what was thrown: as JSON on stdout, or as a paragraph on stderr. Returns the exit code that goes with it. */
export function reportFailure(thrown: unknown, environment: Environment, json: boolean): ExitCode {
  const isUsage = thrown instanceof WrongUsage;
  const error = isUsage ? thrown.error : thrown instanceof OperationError ? thrown : defect(thrown);
  if (json) {
    const { code, message, advice, facts } = error;
    environment.stdout.write(`${JSON.stringify({ error: { code, message, advice, facts } }, undefined, 2)}\n`);
  } else {
    environment.stderr.write(failureText(error, isUsage ? "Wrong usage." : "Not carried out.", environment));
  }
  return isUsage ? ExitCode.wrongUsage : ExitCode.notCarriedOut;
}

function failureText(error: OperationError, verdict: string, environment: Environment): string {
  const page = pageOf(environment.stderr);
  const { red, bold, dim } = page.colors;
  const facts = Object.entries(error.facts).map(([name, value]) => `${name}: ${String(value)}`);
  const text = `${sentence(error.message)} ${sentence(error.advice)}`;
  // The verdict is coloured after wrapping: a colour must not run over the end of a line.
  const lines = paragraph(`${verdict} ${text}`, page.width, "");
  const first = lines[0] ?? "";
  lines[0] = red(bold(first.slice(0, verdict.length))) + first.slice(verdict.length);
  lines.push(...paragraph([error.code, ...facts].join(", "), page.width, "").map((line) => dim(line)));
  return `${lines.join("\n")}\n`;
}

/** Begins with a capital and ends with a full stop, whoever wrote it. */
function sentence(text: string): string {
  const trimmed = text.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

/** Something was thrown that nobody meant to throw. */
function defect(thrown: unknown): OperationError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return new OperationError({
    code: "internal-error",
    message: `This is a defect of Underway: ${error.name}: ${error.message}`,
    advice: "Please report it with the command line, the seed and the lines below",
    facts: { stack: (error.stack ?? "").split("\n").slice(1, 6).join("\n").trim() },
    cause: thrown,
  });
}
