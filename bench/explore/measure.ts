// Runs a program and measures it: wall clock, processor time of all its threads, and the most memory it had resident.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Measured {
  readonly status: number | null;
  readonly output: string;
  readonly seconds: number;
  /** User and system. */
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

const POLL_MS = 10;
/** USER_HZ: what /proc counts processor time in. */
const TICKS_PER_SECOND = 100;

/** Looks at /proc while the program runs, and so misses what it did after the last look: 10 ms at the most. */
export function measure(program: string, args: readonly string[], directory: string): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const startMs = performance.now();
    const child = spawn(program, args, { cwd: directory, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let usage = { cpuSeconds: 0, residentBytes: 0 };
    const poll = setInterval(() => (usage = usageOf(child.pid ?? 0) ?? usage), POLL_MS);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("error", (error) => {
      clearInterval(poll);
      reject(error);
    });
    child.on("close", (status) => {
      clearInterval(poll);
      resolve({ status, output, seconds: (performance.now() - startMs) / 1000, ...usage });
    });
  });
}

function usageOf(pid: number): { cpuSeconds: number; residentBytes: number } | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    const resident = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    if (resident === undefined) return undefined;
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes: Number(resident) * 1024 };
  } catch {
    // It has ended.
    return undefined;
  }
}
