// Programs that tests hold our work against: required in CI, and where they are missing elsewhere the test says it did not run.
import { spawnSync } from "node:child_process";
import type { TestContext } from "node:test";
import { OperationError } from "../base/errors.ts";
import { preparePasst } from "./assets.ts";

/** Says that a test was not run and why; in CI, where everything must be there, fails it instead. */
export function notRun(t: TestContext, why: string): undefined {
  if (process.env["CI"] !== undefined) throw new Error(`${why}, which CI needs`);
  t.skip(`not run: ${why}`);
  return undefined;
}

/**
 * Reads a capture with tshark and gives one row of field values for each frame that the display filter lets through.
 * Undefined when tshark is not installed. Any complaint of tshark's about the file is an error.
 */
export function readWithTshark(
  t: TestContext,
  capture: string,
  fields: readonly string[],
  filter = "frame",
): string[][] | undefined {
  const parameters = [
    "-r",
    capture,
    "-Y",
    filter,
    "-T",
    "fields",
    "-E",
    "separator=|",
    ...fields.flatMap((field) => ["-e", field]),
  ];
  const { status, stdout, stderr, error } = spawnSync("tshark", parameters, { encoding: "utf8" });
  if (error !== undefined) return notRun(t, `tshark is not installed (${error.message})`);
  const complaints = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("Running as user"));
  if (status !== 0 || complaints.length > 0) throw new Error(`tshark ended with ${status}: ${complaints.join("; ")}`);
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("|"));
}

/** The path of the passt program, or undefined when there is none. */
export async function passtProgram(t: TestContext): Promise<string | undefined> {
  try {
    return (await preparePasst()).path;
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return notRun(t, error.message);
  }
}
