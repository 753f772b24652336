// Strategies and engines that are broken on purpose, for the explorer to find out.
import type { EngineParts, Experiment } from "../../src/explore/experiment.ts";
import type { Command, PageSource, Strategy } from "../../src/strategy/strategy.ts";

export const pause: Command = { kind: "pause-vcpus" };
export const stopDevice: Command = { kind: "stop-device" };
export const stopTransmit: Command = { kind: "stop-transmit" };
export const saveDevice: Command = { kind: "save-device" };
export const cutRings: Command = { kind: "cut-rings" };
export const copy = (...pages: PageSource[]): Command => ({ kind: "copy", pages });
export const everything = copy("rings", "mapped", "released", "cpu-dirty");

export type Change = (experiment: Experiment) => Experiment;

export const withStrategy =
  (change: (strategy: Strategy) => Strategy): Change =>
  (experiment) => ({ ...experiment, strategy: change(experiment.strategy) });

/** Other commands at switchover. */
export const inOrder = (...switchover: Command[]): Change => withStrategy((strategy) => ({ ...strategy, switchover }));

/** Takes a source of pages away everywhere; the engine does not make good for it by its own account of pages left out. */
export function without(source: PageSource): Change {
  return withStrategy((strategy) => ({
    ...strategy,
    skipsMappedInPreCopy: false,
    preCopy: strategy.preCopy.filter((log) => log !== source),
    switchover: strategy.switchover.map((command) =>
      command.kind === "copy" ? copy(...command.pages.filter((pages) => pages !== source)) : command,
    ),
  }));
}

/** An engine that works with other parts. */
const withParts =
  (change: (parts: EngineParts) => EngineParts): Change =>
  (experiment) => ({ ...experiment, change });

/** Never sends the page, whatever it holds. */
export const withoutPage = (missing: number): Change =>
  withParts((parts) => ({
    ...parts,
    target: {
      memoryPart: (page, start, lengthBytes) => {
        if (page !== missing) parts.target.memoryPart(page, start, lengthBytes);
      },
      givenPage: (page, bytes) => parts.target.givenPage(page, bytes),
    },
  }));

/** Does not know what was posted, so that nothing can be turned back. */
export const withoutPostings: Change = withParts((parts) => ({
  ...parts,
  vm: { ...parts.vm, tracker: trackerOf(parts, { postedWords: () => false }) },
}));

type Tracker = EngineParts["vm"]["tracker"];

function trackerOf({ vm: { tracker } }: EngineParts, changes: Partial<Tracker>): Tracker {
  return {
    method: tracker.method,
    mappedInto: (into) => tracker.mappedInto(into),
    fetchReleased: (into) => tracker.fetchReleased(into),
    putBackReleased: (pages) => tracker.putBackReleased(pages),
    postedWords: (queue, slot, words) => tracker.postedWords(queue, slot, words),
    ringPagesInto: (into) => tracker.ringPagesInto(into),
    ...changes,
  };
}
