// How a destination says that it was not started for what it is offered.
import { OperationError } from "../base/errors.ts";

export function refuseUnless(condition: boolean, what: string, how: string): void {
  if (condition) return;
  throw new OperationError({
    code: "refused",
    message: `This destination was not started for ${what}.`,
    advice: `Start it with the same settings as the source (${how}).`,
    facts: { what },
  });
}
