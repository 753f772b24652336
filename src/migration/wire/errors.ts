// Errors of the wire: every code with the sentence that says what to do next.
import { OperationError, type ErrorFacts } from "../../base/errors.ts";

const sameVersionBothSides = "Check that both sides run the same release of Underway, then migrate again.";
const checkThePath = "Bytes changed on the way: check the network path and the peer's memory, then migrate again.";

/** Codes and advice. The message of the error says what exactly was wrong and where. */
export const wireAdvice = {
  "wire-magic": "Check that the other end of this port is Underway, and not another program or a TLS listener.",
  "wire-checksum": checkThePath,
  "wire-reserved": sameVersionBothSides,
  "wire-type": sameVersionBothSides,
  "wire-length": sameVersionBothSides,
  "wire-sequence": checkThePath,
  "wire-payload": sameVersionBothSides,
  "wire-state": sameVersionBothSides,
  "wire-contradiction": sameVersionBothSides,
  "wire-incomplete": "The peer ended in the middle of a message: look at the peer's log for why.",
  "version-unsupported": "Install a release on one side whose protocol versions overlap with the other's.",
  "peer-closed": "Look at the peer's log; if the migration had been committed, ask the destination for the outcome.",
  "peer-silent": "Check that the peer is alive and the network path is open in both directions.",
  "conversation-closed": "Nothing needs to be done: this side ended the conversation.",
} as const;

export type WireErrorCode = keyof typeof wireAdvice;

export function wireError(code: WireErrorCode, message: string, facts: ErrorFacts = {}): OperationError<WireErrorCode> {
  return new OperationError({ code, message, advice: wireAdvice[code], facts });
}
