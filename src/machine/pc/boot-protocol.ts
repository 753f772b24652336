// What of the Linux/x86 boot protocol (Documentation/arch/x86/boot.rst) v86 leaves undone: checks, and where the initrd goes.
import { OperationError } from "../../base/errors.ts";

/** Offsets in the kernel's setup header. */
const header = {
  bootFlag: 0x1fe,
  magic: 0x202,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  initrdAddressMax: 0x22c,
  preferredAddress: 0x258,
  initSize: 0x260,
  end: 0x264,
} as const;
const bootFlag = 0xaa55;
/** "HdrS". */
const magic = 0x5372_6448;

/** Where v86 puts the kernel's real-mode part, with the header in it. */
const realModeAddress = 0x8_0000;
const pageBytes = 4096;
/** SeaBIOS has its ACPI tables and buffers at the end of RAM, in far less than this. */
const firmwareBytes = 1 << 20;

/** Throws OperationError `kernel-invalid` for what is not a bzImage. Its length becomes a multiple of 4, as v86 wants. */
export function checkedKernel(kernel: Uint8Array): Uint8Array {
  const view = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const isKernel =
    kernel.length >= header.end &&
    view.getUint16(header.bootFlag, true) === bootFlag &&
    view.getUint32(header.magic, true) === magic;
  if (!isKernel) {
    throw new OperationError({
      code: "kernel-invalid",
      message: "the kernel is not a Linux bzImage",
      advice: "pass a 32-bit x86 bzImage, such as /boot/vmlinuz of Debian's linux-image-686",
      facts: { bytes: kernel.length },
    });
  }
  const padded = new Uint8Array(Math.ceil(kernel.length / 4) * 4);
  padded.set(kernel);
  return padded;
}

/**
 * Puts the initrd as high as RAM and the kernel allow. v86 itself puts it at 64 MiB whatever the guest's size, and fails
 * without a word when that is beyond RAM. Throws OperationError `memory-too-small`.
 */
export function placeInitrd(ram: Uint8Array, kernel: Uint8Array, initrd: Uint8Array): void {
  const setup = new DataView(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const addressEnd = Math.min(ram.length - firmwareBytes, setup.getUint32(header.initrdAddressMax, true) + 1);
  const address = Math.floor((addressEnd - initrd.length) / pageBytes) * pageBytes;
  const kernelEnd = setup.getUint32(header.preferredAddress, true) + setup.getUint32(header.initSize, true);
  if (address < kernelEnd) {
    throw new OperationError({
      code: "memory-too-small",
      message: `a guest with ${ram.length >>> 20} MiB has no room for its kernel and its initrd`,
      advice: "give the guest more memory",
      facts: { memoryBytes: ram.length, kernelEnd, initrdBytes: initrd.length },
    });
  }
  ram.set(initrd, address);
  const loaded = new DataView(ram.buffer, ram.byteOffset + realModeAddress, header.end);
  loaded.setUint32(header.ramdiskImage, address, true);
  loaded.setUint32(header.ramdiskSize, initrd.length, true);
}
