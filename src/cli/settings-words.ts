// Assumptions and bounds as they are typed: NAME=VALUE.
import { assumptionSwitches, boundSwitches, type Assumptions, type Bounds } from "../explore/assumptions.ts";

interface Settings {
  readonly assumptions: Assumptions;
  readonly bounds: Bounds;
}

function settingsOf({ assumptions, bounds }: Settings): [name: string, value: unknown][] {
  return [...Object.entries(assumptions), ...Object.entries(bounds)];
}

const inWords = (settings: readonly [string, unknown][]): string =>
  settings.map(([name, value]) => `${name}=${String(value)}`).join(", ");

export const allSettings = (settings: Settings): string => inWords(settingsOf(settings));

/** What differs from the defaults, such as `frames=2, queues=2`, or that nothing does. */
export function settingsInWords(settings: Settings): string {
  const defaults: Readonly<Record<string, { readonly default: unknown }>> = { ...assumptionSwitches, ...boundSwitches };
  return inWords(settingsOf(settings).filter(([name, value]) => defaults[name]?.default !== value)) || "the defaults";
}
