// The host's clock: monotonic, and the same in every process of one machine, so that their times can be compared.
import type { Clock } from "../base/clock.ts";

/** performance.now() counts from the start of this process; CLOCK_MONOTONIC, which it is made of, from the machine's. */
const originMs = ((): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6 - performance.now();
})();

export const hostClock: Clock = { nowMs: () => originMs + performance.now() };
