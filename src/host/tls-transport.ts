// TLS 1.3 around the migration's link, with both sides authenticated: the only way that a guest leaves this computer.
import { readFileSync } from "node:fs";
import { BlockList, isIP } from "node:net";
import { connect, createServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { OperationError } from "../base/errors.ts";
import type { Transport } from "../migration/wire/transport.ts";
import { tcpError } from "./tcp-errors.ts";
import {
  connectTimeoutMsDefault,
  listenerOf,
  socketOptions,
  SocketTransport,
  type LinkErrors,
  type TcpAddress,
  type TcpListener,
  untilConnected,
} from "./tcp-transport.ts";
import { isTlsRefusal, tlsError, tlsErrorOf } from "./tls-errors.ts";

/** PEM files: who may talk to us, who we are, and what proves it. */
export interface TlsFiles {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** What the files hold. */
export type TlsIdentity = Required<Pick<SecureContextOptions, "ca" | "cert" | "key">>;

const HANDSHAKE_TIMEOUT_MS = 10_000;

/** Throws OperationError `tls-file-unreadable`. */
export function readTlsFiles(files: TlsFiles): TlsIdentity {
  return {
    ca: readPem("CA", files.ca),
    cert: readPem("certificate", files.certificate),
    key: readPem("key", files.key),
  };
}

function readPem(what: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OperationError({
      code: "tls-file-unreadable",
      message: `The TLS ${what} cannot be read: ${reason}.`,
      advice: "Name PEM files that the user who serves the VF may read.",
      facts: { file },
      cause,
    });
  }
}

/** Throws OperationError `tls-needed`: a guest's memory does not cross a network in the clear. */
export function requireSafeLink(address: TcpAddress, tls: unknown): void {
  if (tls !== undefined || isLoopback(address.host)) return;
  throw new OperationError({
    code: "tls-needed",
    message: `${address.host} is not on this computer, and the guest's memory would go there in the clear.`,
    advice: "Give --tls-ca, --tls-cert and --tls-key on both sides, or use a loopback address.",
    facts: { host: address.host },
  });
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8);
loopback.addAddress("::1", "ipv6");

/** Names are not looked up, but for the one that means this computer by definition (RFC 6761, section 6.3). */
function isLoopback(host: string): boolean {
  const family = isIP(host);
  if (family === 0) return host.toLowerCase() === "localhost";
  return loopback.check(host, family === 4 ? "ipv4" : "ipv6");
}

/**
 * As connectTcp; the peer's certificate must be the CA's and name the host that was asked for. Rejects also with
 * `tls-peer-untrusted`, `tls-refused`, `tls-failed` or `tls-identity-invalid`.
 */
export async function connectTls(
  address: TcpAddress,
  identity: TlsIdentity,
  options: { readonly timeoutMs?: number } = {},
): Promise<Transport> {
  const socket = withIdentity(() =>
    connect({
      ...socketOptions,
      ...identity,
      host: address.host,
      port: address.port,
      minVersion: "TLSv1.3",
      ...(isIP(address.host) === 0 ? { servername: address.host } : {}),
    }),
  );
  const timeoutMs = options.timeoutMs ?? connectTimeoutMsDefault;
  await untilConnected(socket, { event: "secureConnect", address, timeoutMs, errorOf: linkError });
  return transportOver(socket, address, connecting);
}

/**
 * As listenTcp, for peers whose certificate is the CA's; `onRefused` hears of the others. Rejects also with
 * `tls-identity-invalid`.
 */
export function listenTls(
  address: TcpAddress,
  identity: TlsIdentity,
  on: {
    readonly transport: (transport: Transport, peer: TcpAddress) => void;
    readonly refused?: (error: OperationError) => void;
  },
): Promise<TcpListener> {
  return new Promise((resolve, reject) => {
    const server = withIdentity(() =>
      createServer({
        ...socketOptions,
        ...identity,
        requestCert: true,
        rejectUnauthorized: true,
        minVersion: "TLSv1.3",
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      }),
    );
    server.on("secureConnection", (socket) => {
      const peer = peerOf(socket);
      on.transport(transportOver(socket, peer, listening), peer);
    });
    server.on("tlsClientError", (error, socket) => {
      on.refused?.(refusalOf(error, socket));
      socket.destroy();
    });
    server.once("error", (error) => reject(tcpError(error, address)));
    server.listen({ host: address.host, port: address.port }, () => resolve(listenerOf(server)));
  });
}

/** Key and certificate are read when they are used: what is wrong with them is said by OpenSSL, by throwing. */
function withIdentity<T>(use: () => T): T {
  try {
    return use();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new OperationError({
      code: "tls-identity-invalid",
      message: `The TLS certificate and key cannot be used: ${reason}.`,
      advice: "Give a certificate, the key that it was made for and the CA's certificate, all as PEM.",
      facts: { reason },
      cause,
    });
  }
}

/**
 * With TLS 1.3 the side that connects is done before the other has looked at its certificate (RFC 8446, section 2): a
 * refusal comes as an end before the first word.
 */
const connecting: LinkErrors = {
  errorOf: linkError,
  endedUnheard: (peer) => tlsErrorOf("tls-refused", peer, "closed"),
};
const listening: LinkErrors = { errorOf: linkError };

function transportOver(socket: TLSSocket, peer: TcpAddress, errors: LinkErrors): Transport {
  // Neither is taken from the options where the connection is TLS's own.
  socket.setNoDelay(true).setKeepAlive(true);
  return new SocketTransport(socket, peer, errors);
}

function linkError(cause: unknown, peer: TcpAddress): OperationError {
  return isTlsRefusal(cause) ? tlsError(cause, peer) : tcpError(cause, peer);
}

/** Node tells of a certificate that it does not believe as of a connection that was reset, and keeps the reason beside. */
function refusalOf(error: Error, socket: TLSSocket): OperationError {
  const { authorizationError: reason } = socket as { authorizationError?: unknown };
  const why = reason instanceof Error && "code" in reason ? reason.code : reason;
  return typeof why === "string"
    ? tlsErrorOf("tls-peer-untrusted", peerOf(socket), why)
    : linkError(error, peerOf(socket));
}

const peerOf = (socket: TLSSocket): TcpAddress => ({
  host: socket.remoteAddress ?? "unknown",
  port: socket.remotePort ?? 0,
});
