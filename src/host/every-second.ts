// The beat that keeps a migration's link alive, from a timer of Node's.
import { hostClock } from "./clock.ts";

export function everySecond(callback: (nowMs: number) => void): () => void {
  const timer = setInterval(() => callback(hostClock.nowMs()), 1000);
  return () => clearInterval(timer);
}
