// What the refusals of TLS mean to a person who moves a guest: whose certificate was not believed, and by whom.
import { OperationError } from "../base/errors.ts";

const advice = {
  "tls-peer-untrusted":
    "The other side's certificate must be signed by the CA given with --tls-ca, be valid now, and name the host as it is given with --to.",
  "tls-refused":
    "The other side did not take our certificate: sign it by the CA that is given there with --tls-ca, and see its dates.",
  "tls-failed": "Start both sides with --tls-ca, --tls-cert and --tls-key; see that this port is the other side's.",
} as const;

export type TlsErrorCode = keyof typeof advice;

const sentences: Readonly<Record<TlsErrorCode, string>> = {
  "tls-peer-untrusted": "This side does not trust the certificate of",
  "tls-refused": "This side's certificate was refused by",
  "tls-failed": "No TLS came about with",
};

/** Codes of OpenSSL's verification, as Node gives them (X509_V_ERR_…, its names without that). */
const untrusted =
  /^(?:SELF_SIGNED_CERT|DEPTH_ZERO_SELF|UNABLE_TO_|CERT_|CRL_|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH|ERR_TLS_CERT_)/;

/** Alerts about a certificate (RFC 8446, section 6.2), in OpenSSL's spelling. */
const refusal = /ALERT_(?:BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)/;

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "";

/** Whether this is TLS's own trouble, and not the connection's below it. */
export function isTlsRefusal(cause: unknown): boolean {
  const code = codeOf(cause);
  return code.startsWith("ERR_SSL_") || code.startsWith("ERR_TLS_") || code === "EPROTO" || untrusted.test(code);
}

export function tlsError(cause: unknown, peer: { host: string; port: number }): OperationError<TlsErrorCode> {
  const reason = codeOf(cause);
  const code = untrusted.test(reason) ? "tls-peer-untrusted" : refusal.test(reason) ? "tls-refused" : "tls-failed";
  return tlsErrorOf(code, peer, reason, cause);
}

export function tlsErrorOf(
  code: TlsErrorCode,
  { host, port }: { host: string; port: number },
  reason: string,
  cause?: unknown,
): OperationError<TlsErrorCode> {
  const message = `${sentences[code]} ${host} port ${port} (${reason}).`;
  return new OperationError({ code, message, advice: advice[code], facts: { host, port, reason }, cause });
}
