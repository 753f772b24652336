// The file of a server's socket: nobody's before we take it, replaced when its server is dead, and removed only while ours.
import { lstatSync, unlinkSync, type BigIntStats } from "node:fs";
import { connect } from "node:net";
import { OperationError } from "../../../base/errors.ts";

/** Bytes of a socket's path, its closing 0 not counted: sun_path of unix(7) has 108. */
export const SOCKET_PATH_BYTES_MAX = 107;

/**
 * Makes sure that a socket can be made at `path`: removes the socket of a server that is dead. Throws OperationError
 * `socket-in-use` when a server answers there, `socket-path-taken` when something else than a socket is there, and
 * `socket-path-too-long`.
 */
export async function clearSocketPath(path: string): Promise<void> {
  checkSocketPath(path);
  const stats = statOrUndefined(path);
  if (stats === undefined) return;
  if (!stats.isSocket()) {
    throw new OperationError({
      code: "socket-path-taken",
      message: `${path} exists and is no socket`,
      advice: "Choose another path for the socket, or remove the file.",
      facts: { path },
    });
  }
  if (await answers(path)) {
    throw new OperationError({
      code: "socket-in-use",
      message: `a server answers at ${path} already`,
      advice: "Choose another path for the socket, or end that server.",
      facts: { path },
    });
  }
  removeSocketFile(path, stats);
}

/** Throws OperationError `socket-path-too-long`; a path that is cut short would silently be another one. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > 0 && bytes <= SOCKET_PATH_BYTES_MAX) return;
  throw new OperationError({
    code: "socket-path-too-long",
    message: `the socket's path has ${bytes} bytes, where 1 to ${SOCKET_PATH_BYTES_MAX} are allowed: ${path}`,
    advice: "Choose a shorter path for the socket.",
    facts: { path, bytes },
  });
}

export type SocketFile = Pick<BigIntStats, "dev" | "ino">;

/** Which file is at `path` now, to know it again at the end. */
export function socketFileAt(path: string): SocketFile | undefined {
  return statOrUndefined(path);
}

/** Removes the file unless another one has taken its place. */
export function removeSocketFile(path: string, ours: SocketFile | undefined): void {
  const now = statOrUndefined(path);
  if (now === undefined || now.dev !== ours?.dev || now.ino !== ours.ino) return;
  try {
    unlinkSync(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

function statOrUndefined(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

/** Whether a server takes connections at `path`: a socket whose server is dead refuses them at once. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      // A full backlog is a live server's.
      else if (error.code === "EAGAIN") resolve(true);
      else reject(error);
    });
  });
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
