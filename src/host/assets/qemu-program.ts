// QEMU as a program: what to keep of Debian's packages, how to run it from where it was unpacked, and whether it will do.
import path from "node:path";
import { pick, type AssetFile } from "./asset-cache.ts";
import { firstErrorLine, runCommand } from "./command.ts";
import { libraryPattern, loaderPattern, programWithLibraries } from "./linked-program.ts";
import { packagesMissing } from "./packages-missing.ts";
import { isVersionAtLeast } from "./versions.ts";

type Inspection = { readonly version: string } | { readonly version: undefined; readonly why: string };

const programPattern = /(?:^|\/)bin\/qemu-system-x86_64$/;

/**
 * What a PC started with -kernel reads: SeaBIOS, the loaders of Linux and of multiboot images, the BIOS of the screen,
 * the APIC helper of old guests, and the ROMs of virtio-net and of the cards that QEMU adds unasked.
 */
const firmwarePattern =
  /\/(?:bios-256k\.bin|vgabios-stdvga\.bin|kvmvapic\.bin|linuxboot_dma\.bin|multiboot_dma\.bin|pvh\.bin|efi-(?:virtio|e1000|e1000e)\.rom)$/;

/**
 * The program, the libraries it was linked with, those that these need in turn, and the firmware of a PC: 72 of 186 MB,
 * few enough that the store checks the hash of each before every use in less time than QEMU takes to start.
 */
export async function selectQemu(root: string): Promise<string[]> {
  return [...(await programWithLibraries(root, programPattern)), ...(await pick(root, firmwarePattern))];
}

/**
 * The command that runs QEMU out of its tree: by the tree's own loader, because the machine's C library may be older
 * than the one QEMU was linked with, and without the machine's cache of libraries.
 */
export function privateQemuCommand(files: readonly AssetFile[]): string[] {
  const paths = files.map((file) => file.path);
  const program = paths.find((file) => programPattern.test(file));
  const loader = paths.find((file) => loaderPattern.test(file));
  if (program === undefined || loader === undefined) throw packagesMissing("QEMU's program or its loader was not kept");
  const foldersOf = (pattern: RegExp): string[] => [
    ...new Set(paths.filter((file) => pattern.test(file)).map((file) => path.dirname(file))),
  ];
  const libraries = foldersOf(libraryPattern).join(":");
  const data = foldersOf(firmwarePattern).flatMap((folder) => ["-L", folder]);
  return [loader, "--inhibit-cache", "--library-path", libraries, program, ...data];
}

/** Whether this is a QEMU of that version or newer with vfio-user-pci, found out by asking it. */
export async function inspectQemu(command: readonly string[], minimumVersion: string): Promise<Inspection> {
  const [program = "", ...leading] = command;
  const told = await runCommand(program, [...leading, "--version"]);
  const version = /^QEMU emulator version (?<version>[\d.]+)/m.exec(told.stdout)?.groups?.["version"];
  if (version === undefined) return { version: undefined, why: firstErrorLine(told) };
  if (!isVersionAtLeast(version, minimumVersion)) {
    return {
      version: undefined,
      why: `it is version ${version}, and ${minimumVersion} is the first with vfio-user-pci`,
    };
  }
  const devices = await runCommand(program, [...leading, "-device", "help"]);
  if (devices.stdout.includes('"vfio-user-pci"')) return { version };
  return { version: undefined, why: `its version ${version} was built without vfio-user-pci` };
}
