// An error as it goes over the control socket, and back.
import { OperationError } from "../../base/errors.ts";
import type { Failure } from "./answers.ts";

export function failureOf({ code, message, advice, facts }: OperationError): Failure {
  return { code, message, advice, facts: { ...facts } };
}

export function errorOf(failure: Failure): OperationError {
  return new OperationError(failure);
}
