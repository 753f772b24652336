// Typed errors of operations (peer, network, file, missing kernel): a code, facts, and a sentence on what to do next.

export type ErrorFacts = Readonly<Record<string, string | number | boolean>>;

/**
 * An operation failed. `code` is stable and machine-readable (kebab-case), `message` says what happened,
 * `advice` is one sentence that says what to do next.
 */
export class OperationError<Code extends string = string> extends Error {
  override readonly name = "OperationError";
  readonly code: Code;
  readonly advice: string;
  readonly facts: ErrorFacts;

  constructor(options: { code: Code; message: string; advice: string; facts?: ErrorFacts; cause?: unknown }) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.advice = options.advice;
    this.facts = options.facts ?? {};
  }
}
