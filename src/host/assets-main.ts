// Prints what a Linux guest is made of as JSON, after fetching what is not cached: `npm run assets`.
import { parseArgs } from "node:util";
import { OperationError } from "../base/errors.ts";
import { prepareAssets, preparePasst } from "./assets.ts";

const { values } = parseArgs({
  options: { kernel: { type: "string" }, initrd: { type: "string" }, bios: { type: "string" } },
});
const onProgress = (message: string): void => void process.stderr.write(`${message}\n`);
try {
  const linux = await prepareAssets({ onProgress, overrides: { ...values } });
  const passt = await preparePasst({ onProgress });
  process.stdout.write(`${JSON.stringify({ linux, passt }, undefined, 2)}\n`);
} catch (error) {
  if (!(error instanceof OperationError)) throw error;
  process.stderr.write(`underway: ${error.message}; ${error.advice}.\n`);
  process.exitCode = 1;
}
