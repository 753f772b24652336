// What no guest may ever see, on either side of a move.
import type { ModelMachine } from "../machine/model/machine.ts";

/** In words, or undefined. */
export function harmTo({ panic, counters }: ModelMachine): string | undefined {
  if (panic !== undefined) return `the guest died: ${panic}`;
  if (counters.corrupt > 0) return `the guest read ${counters.corrupt} damaged frames`;
  if (counters.repeated > 0) return `the guest read ${counters.repeated} frames twice`;
  return undefined;
}
