// Mends of v86's platform that a Linux with PCI hot-plug, and a complete dirty log, need.
import type { V86Cpu } from "./v86-internals.ts";

/** QEMU's ACPI PCI hot-plug registers, which SeaBIOS' tables describe: up, down, eject, removable slots. */
const hotPlugPorts = [0xae00, 0xae04, 0xae08, 0xae0c];
const generalPurposeStatusPorts = [0xafe0, 0xafe1];
/** Word of configuration space that BAR 0 is. */
const firstBarWord = 4;
const biosShadow = { address: 0xfff0_0000, sizeBytes: 0x10_0000 } as const;

/**
 * v86 leaves QEMU's hot-plug ports unimplemented, so they read all ones, "every slot's card is to be ejected"; and it
 * stores writes to the general-purpose event status as they are, where ACPI says that a one clears the bit (ACPI
 * specification, 4.8.4.1), so the event stays. Linux' acpiphp then ejects the card, without a word.
 */
export function mendHotPlug({ io, devices: { acpi } }: V86Cpu): void {
  const none = (): number => 0;
  const ignore = (): void => undefined;
  for (const port of hotPlugPorts) {
    io.register_read(port, acpi, none, none, none);
    io.register_write(port, acpi, ignore, ignore, ignore);
  }
  for (const [index, port] of generalPurposeStatusPorts.entries()) {
    io.register_write(port, acpi, (value) => {
      acpi.gpe[index] = (acpi.gpe[index] ?? 0) & ~value;
    });
  }
}

/**
 * v86 maps the first megabyte of RAM, where the BIOS lies, once more at the top of the address space, writable. A write
 * there would change RAM without passing the CPU's translation, and so the dirty log. On a PC that range is ROM.
 */
export function protectBiosShadow({ io, mem8 }: V86Cpu): void {
  io.mmap_register(
    biosShadow.address,
    biosShadow.sizeBytes,
    (address) => mem8[address & (biosShadow.sizeBytes - 1)] ?? 0,
    () => undefined,
  );
}

/**
 * v86's IDE controller without a first channel shows addresses in the BARs of that channel that it does not decode; a
 * state with them cannot be loaded. They become zero, as they do at the first write.
 */
export function clearEmptyBars({ devices: { pci } }: V86Cpu): void {
  for (const [index, device] of pci.devices.entries()) {
    const space = pci.device_spaces[index];
    if (device === undefined || space === undefined) continue;
    for (const [number, bar] of device.pci_bars.entries()) if (bar === undefined) space[firstBarWord + number] = 0;
  }
}

/** Functions of v86's VGA that draw; all that they change is the picture. */
const drawing = [
  "complete_redraw",
  "complete_replot",
  "set_font_bitmap",
  "set_size_graphical",
  "set_size_text",
  "text_mode_redraw",
  "update_layers",
  "update_vga_size",
] as const;

/**
 * Nobody sees the screen, so nothing is drawn. That saves time whenever a state is loaded, and it takes away the only
 * loops of a device's that run as often as numbers in a state say, which may be any.
 */
export function drawNothing({ devices: { vga } }: V86Cpu): void {
  for (const name of drawing) vga[name] = () => undefined;
}
