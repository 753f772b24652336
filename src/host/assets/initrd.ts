// The guests' initial root file system: busybox, the VF's driver and an init that ends in a shell on the serial line.
import { CpioWriter } from "./cpio.ts";
import type { KernelModule } from "./kernel-modules.ts";
import { libraryPattern, loaderPattern } from "./linked-program.ts";

/** Loaded at boot where the kernel's command line does not say `underway.modules=NAME,NAME…`. */
const BOOT_MODULE = "ixgbevf";
/** The 32-bit guest's: pktgen, which sends frames as fast as the driver takes them, is loaded by who wants it. */
export const guestModules = [BOOT_MODULE, "pktgen"] as const;
/** The 64-bit guest's: beside that the standby card of failover (which needs net_failover), and virtio's IOMMU. */
export const qemuGuestModules = [...guestModules, "virtio_net", "virtio_iommu"] as const;

/**
 * The shell is run again when it ends, because a kernel whose init ends panics. `cttyhack` gives it the serial line
 * as controlling terminal, without which it complains that it has no job control. The line does not echo: without
 * echo busybox edits no lines, so it sends no terminal escapes, and what comes back is prompts and output alone.
 *
 * Which modules are loaded is for the kernel's command line to say, so one archive serves every guest: the order of
 * `underway.modules=virtio_iommu,ixgbevf` is kept, because a card probed before the IOMMU's driver is there waits for
 * it or does without it.
 */
function initScript(modules: readonly KernelModule[]): string {
  const needs = modules
    .filter((module) => module.needs.length > 0)
    .map((module) => `${module.name}) set -- ${module.needs.join(" ")} ${module.name} ;;`);
  return `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=dumb PS1='guest# '
hostname underway
ip link set lo up
load() {
  case $1 in
  ${[...needs, "*) ;;"].join("\n  ")}
  esac
  for name; do [ -d /sys/module/$name ] || insmod /lib/modules/$name.ko; done
}
modules=${BOOT_MODULE}
for word in $(cat /proc/cmdline); do
  case $word in underway.modules=*) modules=\${word#*=} ;; esac
done
for module in $(echo $modules | tr , ' '); do load $module; done
cd /root
while true; do setsid cttyhack sh -c 'stty -echo; exec sh'; done
`;
}

/** The archive's bytes: the same inputs give the same bytes. `programs` are those beside busybox, and their libraries. */
export function buildInitrd(inputs: {
  readonly busybox: Uint8Array;
  readonly modules: readonly KernelModule[];
  readonly programs: readonly { readonly path: string; readonly contents: Uint8Array }[];
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
  if (inputs.programs.length > 0) archive.directory("lib64");
  for (const { path, contents } of inputs.programs) archive.file(placeOf(path), contents, 0o755);
  archive.file("init", initScript(inputs.modules), 0o755);
  return archive.finish();
}

/** Programs of amd64 name their loader in /lib64; it looks for libraries in /lib, among others. */
function placeOf(file: string): string {
  const name = file.slice(file.lastIndexOf("/") + 1);
  if (loaderPattern.test(file)) return `lib64/${name}`;
  return libraryPattern.test(file) ? `lib/${name}` : `bin/${name}`;
}
