// Native calls for tests, and what a test counts with them.
import { readdirSync } from "node:fs";
import type { TestContext } from "node:test";
import { loadNative, type Native } from "./native.ts";

/** The native calls; where there are none the test says that it did not run, and in CI, which has them, it fails. */
export function nativeOrNotRun(t: TestContext): Native | undefined {
  const native = loadNative();
  if (native !== undefined) return native;
  const why = "the package koffi is not there, or has nothing for this machine";
  if (process.env["CI"] !== undefined) throw new Error(`${why}, which CI needs`);
  t.skip(`not run: ${why}`);
  return undefined;
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
