// The guest of `migrate --machine qemu`: a QEMU of our own, its VF served from this process, booted anew each time.
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { OperationError } from "../base/errors.ts";
import { loadNative } from "../machine/qemu/native.ts";
import { qemuIds, type VIommu } from "../machine/qemu/qemu-command-line.ts";
import { QemuProcess } from "../machine/qemu/qemu-process.ts";
import { ServedVm } from "../machine/qemu/served-vm.ts";
import type { QemuAsset, QemuGuestAssets } from "./assets-qemu.ts";
import { attachQemu, type AttachedQemu } from "./attached-qemu.ts";
import { DeviceRunner } from "./device-runner.ts";
import type { HostedGuestOptions } from "./hosted-guest.ts";
import { bringUpNetwork, networkCommands, untilPrompt } from "./linux-boot.ts";
import { commonQemuSettings } from "./qemu-settings.ts";

export interface QemuGuestKind {
  readonly machine: "qemu";
  readonly qemu: QemuAsset;
  readonly assets: QemuGuestAssets;
  readonly iommu: VIommu;
}

const modulesOf: Readonly<Record<VIommu, readonly string[]>> = {
  none: ["ixgbevf"],
  intel: ["ixgbevf"],
  virtio: ["virtio_iommu", "ixgbevf"],
};
const SHARED_TIMEOUT_MS = 30_000;

/** A guest at its prompt, with eth0 as networkPlan says. Rejects with an OperationError that says what is missing. */
export async function startQemuGuest(options: HostedGuestOptions, kind: QemuGuestKind): Promise<AttachedQemu> {
  const { onProgress = () => {}, clock } = options;
  onProgress("booting Linux in QEMU");
  const guest = await assemble(options, kind, { isRunning: true });
  const runner = new DeviceRunner(guest.vf, clock);
  try {
    await untilPrompt(guest.console, () => {}, guest.lost);
    onProgress("bringing up the guest's network");
    await bringUpNetwork(guest.console, networkCommands);
    return guest;
  } catch (thrown) {
    await guest.close();
    throw thrown;
  } finally {
    runner.close();
  }
}

/** A QEMU that waits for a guest, with its VF stopped. */
export async function expectQemuGuest(options: HostedGuestOptions, kind: QemuGuestKind): Promise<AttachedQemu> {
  const guest = await assemble(options, kind, { isRunning: false });
  guest.vf.stop();
  return guest;
}

async function assemble(
  options: HostedGuestOptions,
  kind: QemuGuestKind,
  { isRunning }: { readonly isRunning: boolean },
): Promise<AttachedQemu> {
  const { mac, uplink, clock } = options;
  const native = loadNative();
  if (native === undefined) throw nativeMissing();
  const runDirectory = path.join(options.directory, isRunning ? "a" : "b");
  await mkdir(runDirectory, { mode: 0o700, recursive: true });
  const socketPath = path.join(runDirectory, "vf");
  await using opened = new AsyncDisposableStack();
  const served = await ServedVm.listen({ socketPath, mac, uplink, clock, native });
  opened.defer(() => served.close());
  const qemu = await startQemu({ ...options, runDirectory, vfSocketPath: socketPath }, kind, isRunning);
  opened.defer(async () => void (await qemu.kill()));
  const shared = await served.untilShared(SHARED_TIMEOUT_MS);
  const kept = opened.move();
  return attachQemu({
    served,
    shared,
    qmp: qemu.qmp,
    device: { qdevId: qemuIds.vf, vendorId: 0x8086, deviceId: 0x10ed },
    directory: runDirectory,
    isRunning,
    console: qemu.console,
    close: () => kept.disposeAsync(),
  });
}

async function startQemu(
  options: { readonly memoryBytes: number; readonly runDirectory: string; readonly vfSocketPath: string },
  { qemu, assets, iommu }: QemuGuestKind,
  isRunning: boolean,
): Promise<QemuProcess> {
  const { memoryBytes, runDirectory, vfSocketPath } = options;
  const common = await commonQemuSettings({ memoryBytes, qemu, assets, iommu, modules: modulesOf[iommu] });
  return QemuProcess.start({
    command: qemu.command,
    runDirectory,
    settings: { ...common, vfSocketPath, incoming: !isRunning },
  });
}

export function nativeMissing(): OperationError<"native-missing"> {
  return new OperationError({
    code: "native-missing",
    message: "The machine qemu needs memory shared with QEMU, and koffi, which maps it, has no build for this system.",
    advice: "Run it on Linux on x86-64 or arm64, with npm's optional dependencies installed.",
  });
}
