// What Ctrl-C means: the first time to cancel and wait for the end of that, the second time to leave at once.
import type { Environment } from "./environment.ts";
import { ExitCode } from "./exit-codes.ts";

/** npm sends on the interrupt that the terminal has already sent to everyone: two that come this close are one. */
const SAME_INTERRUPT_MS = 500;

export interface Cancelling {
  readonly signal: AbortSignal;
  /** Interrupts are nobody's business any more. */
  readonly stop: () => void;
}

/** `onCancel` hears of the first interrupt, `onLeave` of the second, just before the program ends. */
export function cancelOnInterrupt(environment: Environment, onCancel: () => void, onLeave: () => void): Cancelling {
  const controller = new AbortController();
  let cancelledAtMs = 0;
  const stop = environment.onInterrupt(() => {
    const nowMs = environment.clock.nowMs();
    if (!controller.signal.aborted) {
      cancelledAtMs = nowMs;
      onCancel();
      controller.abort();
    } else if (nowMs - cancelledAtMs >= SAME_INTERRUPT_MS) {
      onLeave();
      environment.leave(ExitCode.interrupted);
    }
  });
  return { signal: controller.signal, stop };
}
