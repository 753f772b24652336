// One question put to the explorer: a strategy, a guest with its frames, and what is assumed of the machine.
import type { MigratableVm } from "../migration/parts.ts";
import type { Strategy } from "../strategy/strategy.ts";
import type { Assumptions } from "./assumptions.ts";
import type { PartTarget } from "./engine-run.ts";
import type { Scenario } from "./scenario.ts";

/** What an engine works with. */
export interface EngineParts {
  readonly vm: MigratableVm;
  readonly target: PartTarget;
}

export interface Experiment {
  readonly strategy: Strategy;
  readonly scenario: Scenario;
  readonly assumptions: Assumptions;
  /** Rounds of pre-copy between the first one, which is over when the search begins, and the switchover. */
  readonly roundsMax: number;
  /** The switchover's copies send their pages in any order, and every order is explored; false: upwards. */
  readonly anyOrder?: boolean;
  /** Breaks the engine, to see that the search finds it. */
  readonly change?: (parts: EngineParts) => EngineParts;
  /** Whether the destination raises every enabled vector before the guest goes on; true unless it is to be broken. */
  readonly raisesInterrupts?: boolean;
}
