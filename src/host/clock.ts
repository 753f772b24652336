// The host's clock: monotonic, and the same in every process of one machine, so that their times can be compared.
import type { Clock } from "../base/clock.ts";

/**
 * performance.now() counts from the start of this process, process.hrtime() from an origin all processes share, and
 * both are CLOCK_MONOTONIC. The quickest of a few comparisons is the one that nothing came between.
 */
function originMs(): number {
  let origin = 0;
  let quickestMs = Infinity;
  for (let attempt = 0; attempt < 10; attempt++) {
    const beforeMs = performance.now();
    const [seconds, nanoseconds] = process.hrtime();
    const tookMs = performance.now() - beforeMs;
    if (tookMs >= quickestMs) continue;
    quickestMs = tookMs;
    origin = seconds * 1e3 + nanoseconds / 1e6 - beforeMs - tookMs / 2;
  }
  return origin;
}

const origin = originMs();

export const hostClock: Clock = { nowMs: () => origin + performance.now() };
