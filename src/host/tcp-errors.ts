// What the system's socket errors mean to a person who migrates a guest.
import { OperationError } from "../base/errors.ts";
import { wireAdvice } from "../migration/wire/errors.ts";

const advice = {
  "peer-refused": "Start the destination first, and check its address and port.",
  "peer-unreachable": "Check the destination's name and address, the route to it and the firewalls between.",
  "peer-closed": wireAdvice["peer-closed"],
  "address-in-use": "Choose another port, or stop the program that listens on this one.",
  "address-unavailable": "Listen on an address that this host has.",
  "address-forbidden": "Choose a port of 1024 or above, or run with the right to use lower ones.",
} as const;

export type TcpErrorCode = keyof typeof advice;

const codesOfSystem: Readonly<Record<string, TcpErrorCode>> = {
  ECONNREFUSED: "peer-refused",
  EHOSTUNREACH: "peer-unreachable",
  EHOSTDOWN: "peer-unreachable",
  ENETUNREACH: "peer-unreachable",
  ENETDOWN: "peer-unreachable",
  ENOTFOUND: "peer-unreachable",
  EAI_AGAIN: "peer-unreachable",
  ETIMEDOUT: "peer-unreachable",
  EADDRINUSE: "address-in-use",
  EADDRNOTAVAIL: "address-unavailable",
  EACCES: "address-forbidden",
};

const sentences: Readonly<Record<TcpErrorCode, string>> = {
  "peer-refused": "Nothing listens at",
  "peer-unreachable": "There is no way to",
  "peer-closed": "The link broke to",
  "address-in-use": "Somebody else listens at",
  "address-unavailable": "This host does not have the address",
  "address-forbidden": "This user may not listen at",
};

/** The typed error for what a socket or the resolver reported about `address`; what is not known counts as a broken link. */
export function tcpError(cause: unknown, address: { host: string; port: number }): OperationError<TcpErrorCode> {
  const systemCode = systemCodeOf(cause);
  return tcpErrorOf(codesOfSystem[systemCode] ?? "peer-closed", { ...address, systemCode }, cause);
}

export function tcpErrorOf(
  code: TcpErrorCode,
  facts: { host: string; port: number; systemCode: string },
  cause?: unknown,
): OperationError<TcpErrorCode> {
  const message = `${sentences[code]} ${facts.host} port ${facts.port} (${facts.systemCode}).`;
  return new OperationError({ code, message, advice: advice[code], facts, cause });
}

/** A host with several addresses fails with one error for all of them; the first tells enough. */
function systemCodeOf(cause: unknown): string {
  if (cause instanceof AggregateError) return systemCodeOf(cause.errors[0]);
  if (cause instanceof Error && "code" in cause && typeof cause.code === "string") return cause.code;
  return "unknown";
}
