// The cache folder: where it is, how a file appears in it whole or not at all, and who may fill it.
import { spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { OperationError } from "../../base/errors.ts";

/** `$UNDERWAY_CACHE`, else `$XDG_CACHE_HOME/underway`, else `~/.cache/underway`; always absolute. */
export function defaultCacheDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const own = environment["UNDERWAY_CACHE"];
  if (own !== undefined && own !== "") return path.resolve(own);
  const shared = environment["XDG_CACHE_HOME"];
  // The XDG rules say that a relative path is to be ignored.
  if (shared !== undefined && path.isAbsolute(shared)) return path.join(shared, "underway");
  return path.join(homedir(), ".cache", "underway");
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Writes the file whole or not at all: readers see the old one or the new one, never a part. */
export async function writeFileAtomically(file: string, contents: Uint8Array | string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await writeFile(temporary, contents, { flush: true });
    await rename(temporary, file);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The file's bytes, or undefined when there is no such file. */
export async function readFileIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch {
    return undefined;
  }
}

/**
 * Runs `body` while no other process runs one under the same lock file. The kernel holds the lock (flock(2), through
 * util-linux' flock) for a child whose standard input is a pipe from this process, so the lock is gone the moment
 * this process is, however it ended: there is no stale lock to recover from. `onWait` is called when it takes long.
 * Fails with OperationError `cache-unusable` when the lock file cannot be made.
 */
export async function withLock<Result>(
  lockFile: string,
  body: () => Promise<Result>,
  onWait: () => void = () => undefined,
): Promise<Result> {
  const release = await acquireLock(lockFile, onWait);
  try {
    return await body();
  } finally {
    await release();
  }
}

async function acquireLock(lockFile: string, onWait: () => void): Promise<() => Promise<void>> {
  const waiting = setTimeout(onWait, 1000);
  try {
    await mkdir(path.dirname(lockFile), { recursive: true });
    // Detached: an interrupt from the terminal must not take the lock away while this process winds up.
    const child = spawn("flock", ["--exclusive", lockFile, "sh", "-c", "echo locked; exec cat"], {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
    await new Promise<void>((resolve, reject) => {
      child.stdout.once("data", () => resolve());
      child.once("error", reject);
      child.once("close", () => reject(new Error(complaint.trim())));
    });
    return async () => {
      child.stdin.end();
      await gone;
    };
  } catch (cause) {
    throw cacheUnusable(path.dirname(lockFile), cause);
  } finally {
    clearTimeout(waiting);
  }
}

/** A failed write as OperationError `cache-unusable`; any other error as it is. */
export function asCacheError(error: unknown, where: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const isWriteError = ["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "ENOTDIR"].includes(String(code));
  return isWriteError ? cacheUnusable(where, error) : error;
}

function cacheUnusable(where: string, cause: unknown): OperationError<"cache-unusable"> {
  return new OperationError({
    code: "cache-unusable",
    message: `the cache cannot be written at ${where} (${cause instanceof Error ? cause.message : String(cause)})`,
    advice: "make room there, or set UNDERWAY_CACHE to a folder that you may write to",
    facts: { path: where },
    cause,
  });
}
