// Finds a kernel module and what it depends on in an unpacked kernel package, whose modules may be compressed.
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { OperationError } from "../../base/errors.ts";
import { runCommand } from "./command.ts";

export interface KernelModule {
  /** As insmod's file is named, without suffix: `ixgbevf`. */
  readonly name: string;
  /** The plain file, relative to the folder searched. */
  readonly file: string;
  /** The ELF object. */
  readonly contents: Uint8Array;
  /** The names of all modules that must be in the kernel before this one, in the order they can be loaded in. */
  readonly needs: readonly string[];
}

const moduleFile = /^(?<name>[^/]+)\.ko(?:\.(?:xz|zst))?$/;

/** A package holds no modules.dep (that is made where it is installed), so the modules' own `depends=` is followed. */
export async function findModules(root: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = new Map<string, string>();
  for (const file of await readdir(root, { recursive: true })) {
    const name = moduleFile.exec(path.basename(file))?.groups?.["name"];
    if (name !== undefined) files.set(canonical(name), file);
  }
  const found = new Map<string, KernelModule>();
  const add = async (name: string): Promise<void> => {
    if (found.has(canonical(name))) return;
    const file = files.get(canonical(name));
    if (file === undefined) throw moduleMissing(name);
    const plain = await decompressed(path.join(root, file));
    const contents = await readFile(plain);
    const needs = new Set<string>();
    for (const dependency of moduleDependencies(contents)) {
      await add(dependency);
      for (const further of found.get(canonical(dependency))?.needs ?? []) needs.add(further);
      needs.add(dependency);
    }
    found.set(canonical(name), { name, file: path.relative(root, plain), contents, needs: [...needs] });
  };
  for (const name of wanted) await add(name);
  // A map keeps its order: dependencies come before what needs them.
  return [...found.values()];
}

/** The `depends=` line of the module's .modinfo section: names, separated by commas, all NUL-terminated. */
export function moduleDependencies(contents: Uint8Array): string[] {
  const buffer = Buffer.from(contents.buffer, contents.byteOffset, contents.byteLength);
  const key = "\0depends=";
  const start = buffer.indexOf(key, 0, "latin1");
  if (start < 0) return [];
  const end = buffer.indexOf(0, start + key.length);
  const names = buffer.toString("latin1", start + key.length, end < 0 ? buffer.length : end);
  return names.split(",").filter((name) => name !== "");
}

/** Puts the plain module beside a compressed one, as the guest's insmod wants it, and hands back its path. */
async function decompressed(file: string): Promise<string> {
  const suffix = path.extname(file);
  if (suffix === ".ko") return file;
  const plain = file.slice(0, -suffix.length);
  if (suffix === ".zst") {
    await writeFile(plain, zstdDecompressSync(await readFile(file)));
    return plain;
  }
  const result = await runCommand("xz", ["--decompress", "--keep", "--force", file]);
  if (result.status === 0) return plain;
  throw new OperationError({
    code: "asset-missing",
    message: `the kernel module ${path.basename(file)} could not be decompressed (${result.stderr.trim()})`,
    advice: "install xz-utils, or pass --kernel FILE and --initrd FILE",
    facts: { file },
  });
}

function moduleMissing(name: string): OperationError<"asset-missing"> {
  return new OperationError({
    code: "asset-missing",
    message: `the kernel package holds no module ${name}`,
    advice: "pass --kernel FILE and --initrd FILE of a kernel that has it",
    facts: { module: name },
  });
}

/** The kernel takes - and _ in a module's name for the same. */
function canonical(name: string): string {
  return name.replaceAll("-", "_");
}
