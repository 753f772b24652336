// Two hosts as docs/QEMU.md has them: on each a QEMU with plain options, `vf serve` and `sidecar`, and one switch between.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { OperationError } from "../../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest, type QemuGuestAssets } from "../../src/host/assets-qemu.ts";
import { hostClock } from "../../src/host/clock.ts";
import { cablePath, FabricServer } from "../../src/host/fabric-server.ts";
import { notRun } from "../../src/host/test-programs.ts";
import { SerialConsole } from "../../src/machine/qemu/serial-console.ts";
import { runCommand } from "../../src/machine/shell.ts";

const PROGRAM = path.join(path.dirname(path.dirname(import.meta.dirname)), "src/cli/main.ts");
const BOOT_TIMEOUT_MS = 120_000;
const SOCKET_TIMEOUT_MS = 20_000;

/** What is needed of the world outside. */
export interface Needed {
  readonly command: readonly string[];
  readonly assets: QemuGuestAssets;
}

/** Undefined, and the test was not run, where there is no QEMU to be had. */
export async function needed(t: TestContext): Promise<Needed | undefined> {
  try {
    const [{ command }, assets] = await Promise.all([prepareQemu(), prepareQemuGuest()]);
    return { command, assets };
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return notRun(t, error.message);
  }
}

/** A program that runs, and what it has said. */
export class Running {
  readonly child: ChildProcess;
  readonly code: Promise<number | null>;
  said = "";
  #onMore: () => void = () => {};

  constructor(command: readonly string[]) {
    const [program = "", ...words] = command;
    this.child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.said += text;
        this.#onMore();
      });
    }
    this.code = once(this.child, "close").then(([code]) => {
      this.#onMore();
      return code as number | null;
    });
  }

  /** Waits until it has said that; fails with what it said when it ends before. */
  async untilItSays(what: string | RegExp): Promise<void> {
    const has = (): boolean => (typeof what === "string" ? this.said.includes(what) : what.test(this.said));
    let isOver = false;
    const over = this.code.then(() => (isOver = true));
    while (!has()) {
      if (isOver) throw new Error(`it never said ${String(what)}, but: ${this.said}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onMore = resolve;
      await Promise.race([promise, over]);
    }
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.child.kill(signal);
    await this.code;
  }
}

export const underway = (...words: readonly string[]): Running => new Running([process.execPath, PROGRAM, ...words]);

/** The network that both hosts are plugged into, with the built-in peer on it; all that is started goes with the test. */
export class Site {
  readonly fabric: FabricServer;
  readonly directory: string;
  readonly #needed: Needed;
  readonly #running: Running[] = [];

  static async make(t: TestContext, parts: Needed): Promise<Site> {
    const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
    const site = new Site(directory, parts);
    t.after(() => site.#close());
    return site;
  }

  private constructor(directory: string, parts: Needed) {
    this.directory = directory;
    this.#needed = parts;
    this.fabric = new FabricServer({ clock: hostClock, seed: 1, onEvent: () => {} });
  }

  /** A VF server whose cable is in the switch, and a QEMU with it. */
  async host(
    name: string,
    options: { readonly expects: boolean; readonly devices?: readonly string[] },
  ): Promise<Host> {
    const directory = path.join(this.directory, name);
    await mkdir(directory, { mode: 0o700 });
    await this.fabric.addCable(name, this.directory);
    const at = (file: string): string => path.join(directory, file);
    const server = this.keep(
      underway("vf", "serve", "--socket", at("vf"), "--uplink", `unix:${cablePath(this.directory, name)}`),
    );
    await server.untilItSays("Serving the VF");
    const incoming = options.expects ? ["-S", "-incoming", "defer"] : [];
    const words = qemuWords(at, this.#needed.assets, options.devices ?? []);
    const qemu = this.keep(new Running([...this.#needed.command, ...words, ...incoming]));
    await server.untilItSays("Its memory is shared");
    const console = await consoleAt(at("serial"));
    return { name, server, qemu, console, vf: at("vf"), qmp: at("qmp"), sidecar: (...rest) => this.#sidecar(at, rest) };
  }

  #sidecar(at: (file: string) => string, rest: readonly string[]): Running {
    return this.keep(underway("sidecar", "--vf", at("vf"), "--qmp", at("qmp"), ...rest));
  }

  keep(running: Running): Running {
    this.#running.push(running);
    return running;
  }

  async #close(): Promise<void> {
    for (const running of this.#running.toReversed()) await running.kill();
    await this.fabric.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

export interface Host {
  readonly name: string;
  readonly server: Running;
  readonly qemu: Running;
  readonly console: SerialConsole;
  readonly vf: string;
  readonly qmp: string;
  sidecar(...words: readonly string[]): Running;
}

function qemuWords(at: (file: string) => string, assets: QemuGuestAssets, devices: readonly string[]): string[] {
  const hasIommu = devices.some((device) => device.includes("iommu"));
  const modules = devices.some((device) => device.includes("virtio-iommu")) ? "virtio_iommu,ixgbevf" : "ixgbevf";
  const iommu = hasIommu ? " intel_iommu=on iommu.passthrough=0 iommu.strict=1" : "";
  return [
    ["-accel", "tcg", "-cpu", "qemu64", "-m", "128M", "-nodefaults", "-no-user-config", "-display", "none"],
    ["-object", "memory-backend-memfd,id=ram,size=128M,share=on", "-machine", "q35,memory-backend=ram"],
    ["-serial", `unix:${at("serial")},server=on,wait=off`, "-qmp", `unix:${at("qmp")},server=on,wait=off`],
    ["-global", "migration.switchover-ack-legacy=on"],
    ["-kernel", assets.kernel.path, "-initrd", assets.initrd.path],
    ["-append", `console=ttyS0 quiet nokaslr mitigations=off underway.modules=${modules}${iommu}`],
    devices.flatMap((device) => ["-device", device]),
    ["-device", JSON.stringify({ driver: "vfio-user-pci", id: "vf0", socket: { type: "unix", path: at("vf") } })],
  ].flat();
}

async function consoleAt(socketPath: string): Promise<SerialConsole> {
  const endsAtMs = hostClock.nowMs() + SOCKET_TIMEOUT_MS;
  while (!existsSync(socketPath)) {
    if (hostClock.nowMs() > endsAtMs) throw new Error(`QEMU made no ${socketPath}`);
    await sleep(20);
  }
  const socket = connect(socketPath);
  await once(socket, "connect");
  return new SerialConsole(socket);
}

/** Until the shell is there, and the guest has its address. */
export async function bringUp({ console }: Host, address: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = console.onOutput(() => {
    if (console.output.includes("guest# ")) resolve();
  });
  const timer = setTimeout(resolve, BOOT_TIMEOUT_MS);
  await promise;
  clearTimeout(timer);
  stop();
  for (const command of [
    "ip link set eth0 up",
    `ip addr add ${address} dev eth0`,
    "n=0; while [ $n -lt 100 ] && ! grep -q 1 /sys/class/net/eth0/carrier; do n=$((n+1)); usleep 100000; done",
  ]) {
    const { exitStatus, output } = await inGuest(console, command);
    if (exitStatus !== 0) throw new Error(`${command}: ${output}; ${console.output.slice(-500)}`);
  }
}

export const inGuest = (console: SerialConsole, command: string): ReturnType<typeof runCommand> =>
  runCommand(console, command, { timeoutMs: 60_000 });
