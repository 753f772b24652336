// The error of everything that has to come from Debian, and how each kind of asset says it to a person.
import { OperationError } from "../../base/errors.ts";

/** `facts.why` says what went wrong; who asked for the packages adds what they are for and the way round it. */
export function packagesMissing(why: string): OperationError<"asset-missing"> {
  return new OperationError({
    code: "asset-missing",
    message: `Debian's packages are not cached and cannot be fetched: ${why}`,
    advice: "connect this machine to its Debian archive",
    facts: { why },
  });
}

/** The work's result; a lack of packages is told as a lack of `what`, with the advice that belongs to it. */
export async function namingWhatIsMissing<Result>(
  missing: { readonly what: string; readonly advice: string },
  work: Promise<Result>,
): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    const why = error instanceof OperationError && error.code === "asset-missing" ? error.facts["why"] : undefined;
    if (why === undefined) throw error;
    throw new OperationError({
      code: "asset-missing",
      message: `${missing.what} not cached and cannot be fetched: ${String(why)}`,
      advice: missing.advice,
      facts: { why },
      cause: error,
    });
  }
}
