// Prints what the guests and QEMU are made of as JSON, after fetching what is not cached: `npm run assets [-- --machine qemu [--iperf3]]`.
import { parseArgs } from "node:util";
import { OperationError } from "../base/errors.ts";
import { prepareQemu, prepareQemuGuest } from "./assets-qemu.ts";
import { prepareAssets, preparePasst } from "./assets.ts";

const { values } = parseArgs({
  options: {
    machine: { type: "string", default: "linux" },
    kernel: { type: "string" },
    initrd: { type: "string" },
    bios: { type: "string" },
    qemu: { type: "string" },
    iperf3: { type: "boolean", default: false },
  },
});
const onProgress = (message: string): void => void process.stderr.write(`${message}\n`);
const { machine, qemu, bios, iperf3, ...guest } = values;

try {
  if (machine === "qemu") {
    const program = await prepareQemu({ onProgress, ...(qemu === undefined ? {} : { qemu }) });
    const linux = await prepareQemuGuest({ onProgress, overrides: { ...guest }, withIperf3: iperf3 });
    process.stdout.write(`${JSON.stringify({ qemu: program, linux }, undefined, 2)}\n`);
  } else {
    const linux = await prepareAssets({ onProgress, overrides: { ...guest, ...(bios === undefined ? {} : { bios }) } });
    const passt = await preparePasst({ onProgress });
    process.stdout.write(`${JSON.stringify({ linux, passt }, undefined, 2)}\n`);
  }
} catch (error) {
  if (!(error instanceof OperationError)) throw error;
  process.stderr.write(`underway: ${error.message}; ${error.advice}.\n`);
  process.exitCode = 1;
}
