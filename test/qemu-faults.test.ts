// DMA that the guest's IOMMU does not allow, made by the served VF on a real QEMU: the guest's own kernel log tells of it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { OperationError } from "../src/base/errors.ts";
import { prepareQemu, prepareQemuGuest } from "../src/host/assets-qemu.ts";
import { hostClock } from "../src/host/clock.ts";
import { DeviceRunner } from "../src/host/device-runner.ts";
import { bringUpNetwork, untilPrompt } from "../src/host/linux-boot.ts";
import { commonQemuSettings } from "../src/host/qemu-settings.ts";
import { notRun } from "../src/host/test-programs.ts";
import { loadNative } from "../src/machine/qemu/native.ts";
import { QemuProcess } from "../src/machine/qemu/qemu-process.ts";
import { ServedVm } from "../src/machine/qemu/served-vm.ts";
import { runCommand } from "../src/machine/shell.ts";
import { formatMac } from "../src/network/mac.ts";
import { networkPlan } from "../src/network/plan.ts";
import { noFrameSink } from "../src/nic/ports.ts";

/** Mapped by nobody. */
const STRAY = "0x12345000";

test(
  "a transmit ring where nothing is mapped is a fault that the guest's kernel logs",
  { timeout: 120_000 },
  async (t) => {
    const native = loadNative();
    const prepared = await Promise.all([prepareQemu(), prepareQemuGuest()]).catch((thrown: unknown) => {
      if (thrown instanceof OperationError) return thrown;
      throw thrown;
    });
    if (native === undefined || prepared instanceof OperationError) {
      notRun(t, prepared instanceof OperationError ? prepared.message : "koffi is not there");
      return;
    }
    const [qemu, assets] = prepared;
    const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
    t.after(() => rm(directory, { recursive: true, force: true }));
    const vfSocketPath = path.join(directory, "vf");
    const mac = formatMac(networkPlan.guestMac);
    const served = await ServedVm.listen({
      socketPath: vfSocketPath,
      mac,
      uplink: noFrameSink,
      clock: hostClock,
      native,
    });
    t.after(() => served.close());
    const runner = new DeviceRunner(served.vf, hostClock);
    t.after(() => runner.close());
    const common = await commonQemuSettings({
      memoryBytes: 128 << 20,
      qemu,
      assets,
      iommu: "intel",
      modules: ["ixgbevf"],
    });
    // For devmem, which pokes at registers that a driver has.
    const boot = { ...common.boot, commandLine: `${common.boot.commandLine} iomem=relaxed` };
    const settings = { ...common, boot, vfSocketPath, incoming: false };
    const running = await QemuProcess.start({ command: qemu.command, runDirectory: directory, settings });
    t.after(() => running.kill());
    await untilPrompt(running.console, () => {});
    await bringUpNetwork(running.console, [
      "ip link set eth0 up",
      "sleep 3",
      "b=$(head -n 1 /sys/class/net/eth0/device/resource | cut -d ' ' -f 1)",
      `devmem $((b+0x2000)) 32 ${STRAY}`,
      "devmem $((b+0x2004)) 32 0",
      "devmem $((b+0x2018)) 32 $(( ($(devmem $((b+0x2018)) 32) + 1) % 1024 ))",
      "sleep 1",
    ]);
    const { output } = await runCommand(running.console, "dmesg | grep -i dmar", { timeoutMs: 20_000 });
    assert.match(output, /DMAR: \[DMA Read[^\n]*fault addr 0x12345/, output);
    assert.ok(served.faults.total > 0);
  },
);
