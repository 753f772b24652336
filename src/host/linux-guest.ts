// The Linux guest: an embedded PC with its VF, booted once and from then on started from a snapshot.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import type { Clock } from "../base/clock.ts";
import { OperationError } from "../base/errors.ts";
import { SeededRandom } from "../base/random.ts";
import { IdentityDomain } from "../iommu/domain.ts";
import { GuestDma } from "../iommu/guest-dma.ts";
import type { CpuDirtyLogMethod } from "../machine/pc/cpu-dirty-log.ts";
import { loadPcEmulator, type PcEmulator } from "../machine/pc/emulator.ts";
import { machineStateVersion } from "../machine/pc/machine-state.ts";
import { PcMachine } from "../machine/pc/machine.ts";
import { DmaDirtyLog } from "../memory/dirty-log.ts";
import { parseMac, writeMac } from "../network/mac.ts";
import { DescriptorShadowTracker } from "../nic/descriptor-shadow.ts";
import { MAC_BYTES } from "../nic/mac-address.ts";
import { noFrameSink, type FrameSink } from "../nic/ports.ts";
import { decodeVfState, encodeVfState, VF_STATE_VERSION } from "../nic/state.ts";
import { Vf82599 } from "../nic/vf82599.ts";
import type { LinuxAssets } from "./assets.ts";
import { withLock } from "./assets/cache.ts";
import { DeviceRunner } from "./device-runner.ts";
import type { HostedGuest } from "./hosted-guest.ts";
import { bootLinux, kernelCommandLine, networkCommands32Bit } from "./linux-boot.ts";
import { fillFromSnapshot, readSnapshot, takeSnapshot, writeSnapshot, type LinuxSnapshot } from "./linux-snapshot.ts";

export interface LinuxGuest extends HostedGuest {
  readonly vf: Vf82599;
  readonly machine: PcMachine;
  readonly dma: GuestDma;
  readonly tracker: DescriptorShadowTracker;
}

export interface LinuxGuestOptions {
  readonly memoryBytes: number;
  readonly assets: LinuxAssets;
  readonly cacheDirectory: string;
  /** The VF's address, given by its PF. */
  readonly mac: string;
  /** Where the VF's frames go. */
  readonly uplink: FrameSink;
  readonly clock: Clock;
  /** For what the guest's processor gives as random numbers. */
  readonly seed: number;
  /** Default: the rewritten wasm where it is known, else comparing. */
  readonly dirtyLogMethod?: CpuDirtyLogMethod;
  readonly onProgress?: (text: string) => void;
}

/**
 * A running guest at its prompt, with ixgbevf loaded and eth0 configured as networkPlan says. The first one boots and
 * leaves a snapshot in the cache; while it does so, others that need the same snapshot wait for it. What the guest sends
 * during a boot goes nowhere: a snapshot is of a guest that has not been on any network.
 *
 * Fails with OperationError `guest-boot-failed`, `emulator-unsupported` or `cache-unusable`.
 */
export async function startLinuxGuest(options: LinuxGuestOptions): Promise<LinuxGuest> {
  const guest = await snapshotOrBoot(options);
  guest.machine.rehearseSave();
  return guest;
}

async function snapshotOrBoot(options: LinuxGuestOptions): Promise<LinuxGuest> {
  const file = await snapshotFile(options);
  const snapshot = await readSnapshot(file);
  if (snapshot !== undefined) return startFromSnapshot(options, snapshot);
  const waiting = (): void => options.onProgress?.("waiting for another process to boot the guest");
  return withLock(
    `${file}.lock`,
    async () => {
      const madeMeanwhile = await readSnapshot(file);
      return madeMeanwhile === undefined ? bootAndKeep(options, file) : startFromSnapshot(options, madeMeanwhile);
    },
    waiting,
  );
}

/** The same hardware, paused, with RAM all zero and its VF stopped: ready to take in a guest's state. */
export async function createDestinationGuest(options: LinuxGuestOptions): Promise<LinuxGuest> {
  const guest = await assemble(options, "destination", options.uplink);
  guest.machine.prepareRestore();
  guest.vf.stop();
  return guest;
}

async function bootAndKeep(options: LinuxGuestOptions, file: string): Promise<LinuxGuest> {
  let uplink: FrameSink = noFrameSink;
  const guest = await assemble(options, "boot", { frame: (bytes) => uplink.frame(bytes) });
  const { machine, vf } = guest;
  const runner = new DeviceRunner(vf, options.clock);
  try {
    await bootLinux(machine, options.onProgress ?? (() => undefined));
    await machine.pause();
    vf.run();
    const states = { machineState: machine.saveState(), vfState: encodeVfState(vf.save()) };
    const snapshot = takeSnapshot(machine.memory.bytes(), { ...states, pageBytes: machine.memory.pages.sizeBytes });
    await writeSnapshot(file, snapshot);
    uplink = options.uplink;
    await machine.resume();
    return guest;
  } catch (error) {
    await machine.close();
    throw error;
  } finally {
    runner.close();
  }
}

async function startFromSnapshot(options: LinuxGuestOptions, snapshot: LinuxSnapshot): Promise<LinuxGuest> {
  const guest = await assemble(options, "destination", options.uplink);
  guest.machine.zeroMemory();
  fillFromSnapshot(guest.machine.memory.bytes(), snapshot);
  guest.machine.restoreState(snapshot.machineState);
  guest.vf.restore(decodeVfState(snapshot.vfState));
  guest.vf.start();
  await guest.machine.resume();
  return guest;
}

/** Wires machine, DMA, VF, tracker and device log together. */
async function assemble(
  options: LinuxGuestOptions,
  purpose: "boot" | "destination",
  uplink: FrameSink,
): Promise<LinuxGuest> {
  const { assets, memoryBytes, clock } = options;
  const random = new SeededRandom(options.seed);
  const [emulator, bios, vgaBios, kernel, initrd] = await Promise.all([
    emulatorFor(options.dirtyLogMethod),
    readAsset(assets.bios.path),
    assets.vgaBios === undefined ? undefined : readAsset(assets.vgaBios.path),
    purpose === "boot" ? readAsset(assets.kernel.path) : undefined,
    purpose === "boot" ? readAsset(assets.initrd.path) : undefined,
  ]);
  const boot = kernel && initrd ? { kernel, initrd, commandLine: kernelCommandLine } : undefined;
  const randomU32 = (): number => random.u32();
  const machine = await PcMachine.create(emulator, { memoryBytes, bios, vgaBios, boot, hostClock: clock, randomU32 });
  const domain = new IdentityDomain();
  const deviceLog = new DmaDirtyLog(machine.memory.pages.count, machine.memory.pages.shift);
  const dma = new GuestDma({
    memory: machine.memory,
    domain,
    observers: [{ after: (address, length) => deviceLog.deviceWrote(address, length) }],
  });
  const mac = new Uint8Array(MAC_BYTES);
  writeMac(mac, 0, parseMac(options.mac));
  const vf = new Vf82599({ dma, messages: machine.interrupts, uplink, clock, mac });
  machine.attach(vf);
  const { pages } = machine.memory;
  const { queuePairs } = vf;
  const tracker = vf.watchReceiveRings(
    (registers) => new DescriptorShadowTracker({ registers, dma, pages, queuePairs }),
  );
  const translate = (iova: number): number => {
    const address = domain.translate(iova);
    return address >= 0 && address < memoryBytes ? address : -1;
  };
  return {
    machine,
    vf,
    arriving: vf,
    dma,
    tracker,
    deviceLog,
    translate,
    console: machine.console,
    machineStateVersion,
    prepareMove: async () => {
      machine.rehearseSave();
      return undefined;
    },
    prepareArrival: async () => {},
    finishMove: async () => {},
    close: () => machine.close(),
  };
}

async function readAsset(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new OperationError({
      code: "asset-missing",
      message: `the file ${file} cannot be read`,
      advice: "run the command again; what is missing is fetched again",
      facts: { path: file },
      cause,
    });
  }
}

const emulatorDirectory = path.dirname(fileURLToPath(import.meta.resolve("v86")));
const emulators = new Map<CpuDirtyLogMethod | undefined, Promise<PcEmulator>>();

/** Compiled once in a process. */
function emulatorFor(method: CpuDirtyLogMethod | undefined): Promise<PcEmulator> {
  const known = emulators.get(method);
  if (known !== undefined) return known;
  const load = async (): Promise<PcEmulator> => {
    const wasm = await readAsset(path.join(emulatorDirectory, "v86.wasm"));
    return loadPcEmulator(wasm, method === undefined ? {} : { dirtyLogMethod: method });
  };
  const loading = load();
  emulators.set(method, loading);
  return loading;
}

/** Whatever may change a byte of the snapshot is in its name. */
async function snapshotFile(options: LinuxGuestOptions): Promise<string> {
  const hash = createHash("sha256");
  for (const name of ["v86.wasm", "libv86.mjs"]) hash.update(await readAsset(path.join(emulatorDirectory, name)));
  const facts = [
    options.assets.key,
    options.memoryBytes,
    options.mac,
    machineStateVersion,
    VF_STATE_VERSION,
    kernelCommandLine,
    networkCommands32Bit,
  ];
  hash.update(JSON.stringify(facts));
  const name = `linux-${options.memoryBytes / 2 ** 20}m-${hash.digest("hex").slice(0, 16)}.snapshot`;
  return path.join(options.cacheDirectory, "snapshots", name);
}
