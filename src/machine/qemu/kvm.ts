// Whether this machine can run a guest on KVM.
import { open, readFile } from "node:fs/promises";

/**
 * KVM can be used by this user on this machine. The device alone does not say so: some hosts of containers offer one that
 * makes VMs without the processor's help, which then stop at the first instruction that KVM does not emulate.
 */
export async function isKvmUsable(): Promise<boolean> {
  try {
    const device = await open("/dev/kvm", "r+");
    await device.close();
    return hasVirtualization(await readFile("/proc/cpuinfo", "utf8"));
  } catch {
    return false;
  }
}

/** Reads /proc/cpuinfo of an x86: Intel's VMX or AMD's SVM. */
export function hasVirtualization(cpuinfo: string): boolean {
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/) ?? [];
  return flags.includes("vmx") || flags.includes("svm");
}
