// What goes on around a move while it is under way: progress that ticks, Ctrl-C, and a recording that is closed at its end.
import type { Environment } from "./environment.ts";
import { cancelOnInterrupt } from "./interrupt.ts";
import { Progress } from "./progress.ts";
import type { Recording } from "./recording.ts";

const TICK_MS = 250;

/** `cancelling` is what a person reads at the first Ctrl-C. Progress is off the screen when `body` is over. */
export async function watched<Result>(
  environment: Environment,
  parts: { readonly recording: Recording | undefined; readonly cancelling: string },
  body: (progress: Progress, signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const progress = new Progress(environment.stderr, environment.clock);
  const ticking = setInterval(() => progress.tick(), TICK_MS);
  const cancelling = cancelOnInterrupt(
    environment,
    () => progress.note(`${parts.cancelling} Ctrl-C again leaves at once.`),
    () => progress.end(),
  );
  try {
    return await body(progress, cancelling.signal);
  } finally {
    clearInterval(ticking);
    cancelling.stop();
    progress.end();
    const failure = await parts.recording?.close();
    if (failure !== undefined) environment.stderr.write(`${failure.message} (${String(failure.facts["reason"])})\n`);
  }
}
