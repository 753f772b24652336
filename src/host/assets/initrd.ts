// The guest's initial root file system: busybox, the VF's driver and an init that ends in a shell on the serial line.
import { CpioWriter } from "./cpio.ts";
import type { KernelModule } from "./kernel-modules.ts";

/** Loaded at boot. */
const BOOT_MODULE = "ixgbevf";
/** In the guest, for who wants them: pktgen sends frames as fast as the driver takes them. */
export const guestModules = [BOOT_MODULE, "pktgen"] as const;

/**
 * The shell is run again when it ends, because a kernel whose init ends panics. `cttyhack` gives it the serial line
 * as controlling terminal, without which it complains that it has no job control. The line does not echo: without
 * echo busybox edits no lines, so it sends no terminal escapes, and what comes back is prompts and output alone.
 */
function initScript(modules: readonly KernelModule[]): string {
  const boot = modules.filter((module) => module.name !== "pktgen");
  return `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=dumb PS1='guest# '
hostname underway
ip link set lo up
${boot.map((module) => `insmod /lib/modules/${module.name}.ko`).join("\n")}
cd /root
while true; do setsid cttyhack sh -c 'stty -echo; exec sh'; done
`;
}

/** The archive's bytes: the same inputs give the same bytes. `modules` are loaded in their order. */
export function buildInitrd(inputs: {
  readonly busybox: Uint8Array;
  readonly modules: readonly KernelModule[];
}): Uint8Array {
  const archive = new CpioWriter();
  for (const name of ["bin", "dev", "etc", "lib", "lib/modules", "root"]) archive.directory(name);
  // The kernel opens /dev/console for init before init can mount anything.
  archive.characterDevice("dev/console", { major: 5, minor: 1 }, 0o600);
  archive.characterDevice("dev/null", { major: 1, minor: 3 }, 0o666);
  archive.file("bin/busybox", inputs.busybox, 0o755);
  archive.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
  archive.file("etc/hosts", "127.0.0.1 localhost underway\n");
  for (const module of inputs.modules) archive.file(`lib/modules/${module.name}.ko`, module.contents);
  archive.file("init", initScript(inputs.modules), 0o755);
  return archive.finish();
}
