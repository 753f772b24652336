// QEMU as a child process: started with its sockets, its words kept, and gone when this process is.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { qemuArguments, type QemuSettings } from "./qemu-command-line.ts";
import { QmpClient } from "./qmp.ts";
import { SerialConsole } from "./serial-console.ts";

export { isKvmUsable } from "./kvm.ts";

const START_TIMEOUT_MS = 30_000;
const WORDS_CHARACTERS_MAX = 4096;
/** Longest path that fits a Unix socket address, its final zero left out. */
const SOCKET_PATH_BYTES_MAX = 107;

export interface QemuStart {
  /** The program and its leading arguments. */
  readonly command: readonly string[];
  readonly settings: Omit<QemuSettings, "qmpPath" | "serialPath">;
  /** Where to make the private folder for sockets; a short path. Default: the system's folder for such things. */
  readonly runDirectory?: string;
}

export interface QemuEnd {
  readonly status: number | null;
  readonly signal: string | null;
  /** The last of what QEMU said on its standard error. */
  readonly lastWords: string;
}

/**
 * A QEMU that answers on QMP. It connects to sockets that this process listens on, in a folder only this user can enter: no
 * waiting for socket files to appear, and nobody else's client in the way.
 */
export class QemuProcess {
  readonly pid: number;
  readonly qmp: QmpClient;
  readonly console: SerialConsole;
  /** Resolves when the process is gone, however that came about; never rejects. */
  readonly ended: Promise<QemuEnd>;
  readonly #child: ChildProcess;
  readonly #directory: string;

  /** Rejects with OperationError `qemu-start-failed`, QEMU's own words in it. */
  static async start(options: QemuStart): Promise<QemuProcess> {
    const directory = await mkdtemp(path.join(options.runDirectory ?? tmpdir(), "uw-"));
    const sockets = [
      new ExpectedSocket(path.join(directory, "qmp")),
      new ExpectedSocket(path.join(directory, "tty")),
    ] as const;
    const [qmpSocket, serialSocket] = sockets;
    let child: ChildProcess | undefined;
    let ended: Promise<QemuEnd> | undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      await Promise.all(sockets.map((socket) => socket.listen()));
      const settings = { ...options.settings, qmpPath: qmpSocket.path, serialPath: serialSocket.path };
      child = spawnWithUs([...options.command, ...qemuArguments(settings)]);
      ended = watch(child);
      const timeout = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`it does not answer in ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS);
      });
      const early = ended.then((end) => {
        throw new Error(tellEnd(end));
      });
      const greeted = qmpSocket.connected.then((socket) =>
        QmpClient.over(socket, qmpSocket.path, {
          greetingTimeoutMs: START_TIMEOUT_MS,
          commandTimeoutMs: START_TIMEOUT_MS,
        }),
      );
      const [qmp, serial] = await Promise.race([Promise.all([greeted, serialSocket.connected]), early, timeout]);
      return new QemuProcess({ child, directory, ended, qmp, console: new SerialConsole(serial) });
    } catch (cause) {
      child?.kill("SIGKILL");
      const end = await ended;
      await rm(directory, { recursive: true, force: true });
      throw startFailed(options.command[0] ?? "", cause, end);
    } finally {
      clearTimeout(timer);
      for (const socket of sockets) socket.stopListening();
    }
  }

  private constructor(parts: {
    child: ChildProcess;
    directory: string;
    ended: Promise<QemuEnd>;
    qmp: QmpClient;
    console: SerialConsole;
  }) {
    assert(parts.child.pid !== undefined, "a process that answers has a number");
    this.pid = parts.child.pid;
    this.#child = parts.child;
    this.#directory = parts.directory;
    this.qmp = parts.qmp;
    this.console = parts.console;
    this.ended = parts.ended.then(async (end) => {
      await rm(this.#directory, { recursive: true, force: true });
      return end;
    });
  }

  /** A path for one more socket of this QEMU, in its folder. */
  socketPath(name: string): string {
    const socketPath = path.join(this.#directory, name);
    assert(Buffer.byteLength(socketPath) <= SOCKET_PATH_BYTES_MAX, "the path is too long for a socket");
    return socketPath;
  }

  /** Ends it at once, and waits until it is gone. */
  async kill(): Promise<QemuEnd> {
    this.qmp.close();
    this.console.close();
    this.#child.kill("SIGKILL");
    return this.ended;
  }
}

/** A socket on which the first connection counts. */
class ExpectedSocket {
  readonly path: string;
  readonly connected: Promise<Socket>;
  readonly #server = createServer();

  constructor(socketPath: string) {
    this.path = socketPath;
    this.connected = new Promise((resolve) => {
      this.#server.once("connection", resolve);
    });
  }

  listen(): Promise<void> {
    if (Buffer.byteLength(this.path) > SOCKET_PATH_BYTES_MAX) {
      return Promise.reject(new Error(`the path ${this.path} is too long for a socket`));
    }
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.path, resolve);
    });
  }

  stopListening(): void {
    this.#server.close();
  }
}

/**
 * When this process ends, however it does, the kernel kills the child (prctl(2), PR_SET_PDEATHSIG; it outlives exec, and
 * is tied to the thread that spawned). In a session of its own it gets no Ctrl-C, which at a terminal goes to everyone, and
 * which QEMU would take as an order to end the guest.
 */
function spawnWithUs(command: readonly string[]): ChildProcess {
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
}

function watch(child: ChildProcess): Promise<QemuEnd> {
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-WORDS_CHARACTERS_MAX);
  });
  return new Promise((resolve) => {
    child.on("error", (error) => resolve({ status: null, signal: null, lastWords: error.message }));
    child.on("close", (status, signal) => resolve({ status, signal, lastWords: words.trim() }));
  });
}

/** How an end is told to a person. */
export function tellEnd(end: QemuEnd): string {
  const how = end.signal === null ? `it ended with status ${end.status ?? "unknown"}` : `it was ended by ${end.signal}`;
  return end.lastWords === "" ? how : `${how}: ${end.lastWords}`;
}

/** QEMU's own words tell more than the connection that broke when it ended. */
function startFailed(program: string, cause: unknown, end: QemuEnd | undefined): OperationError<"qemu-start-failed"> {
  const told = end === undefined || end.lastWords === "" ? undefined : tellEnd(end);
  const why = told ?? (cause instanceof Error ? cause.message : String(cause));
  return new OperationError({
    code: "qemu-start-failed",
    message: `QEMU (${program}) did not start: ${why}`,
    advice:
      "See what QEMU says; it must be 10.1 or newer with vfio-user-pci compiled in, and the VF's socket must be there.",
    facts: { program, why },
    cause,
  });
}
