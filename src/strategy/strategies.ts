// All strategies, right and wrong, by name.
import { OperationError } from "../base/errors.ts";
import { blind } from "./blind.ts";
import { copyDescriptors } from "./copy-descriptors.ts";
import { deviceLog } from "./device-log.ts";
import { dummyWriteAfter } from "./dummy-write-after.ts";
import { dummyWriteBefore } from "./dummy-write-before.ts";
import { quiesce } from "./quiesce.ts";
import { reinit } from "./reinit.ts";
import { ringsFirst } from "./rings-first.ts";
import { ringsFirstAsStated } from "./rings-first-as-stated.ts";
import { shuffle } from "./shuffle.ts";
import type { Strategy } from "./strategy.ts";

export const strategies: readonly Strategy[] = [
  ringsFirst,
  quiesce,
  deviceLog,
  reinit,
  shuffle,
  copyDescriptors,
  dummyWriteAfter,
  dummyWriteBefore,
  ringsFirstAsStated,
  blind,
];

export const defaultStrategy: Strategy = ringsFirst;

export function strategyByName(name: string): Strategy {
  const found = strategies.find((strategy) => strategy.name === name);
  if (found !== undefined) return found;
  throw new OperationError({
    code: "strategy-unknown",
    message: `There is no strategy called "${name}".`,
    advice: `Use one of: ${strategies.map((strategy) => strategy.name).join(", ")}.`,
    facts: { name },
  });
}
