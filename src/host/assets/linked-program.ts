// A program out of unpacked packages together with every library that it needs, so that it runs without the rest.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { neededLibraries } from "./elf.ts";
import { packagesMissing } from "./packages-missing.ts";

export const libraryPattern = /\.so(?:\.[^/]+)?$/;
/** The dynamic loader of amd64 or arm64, which starts the program and finds its libraries. */
export const loaderPattern = /\/ld-linux[^/]*\.so\.\d+$/;
/** Not linked with anything, yet needed: the C library loads it when a thread ends before its function returns. */
const unwinderPattern = /\/libgcc_s\.so\.1$/;

/** The program, the loader, the libraries it was linked with and those that these need in turn; relative to `root`. */
export async function programWithLibraries(root: string, programPattern: RegExp): Promise<string[]> {
  const files = (await readdir(root, { recursive: true })).toSorted();
  const libraries = new Map<string, string>();
  for (const file of files.filter((one) => libraryPattern.test(one))) {
    // The same name again is a link to the first.
    if (!libraries.has(path.basename(file))) libraries.set(path.basename(file), file);
  }
  const program = files.find((file) => programPattern.test(file));
  if (program === undefined) throw packagesMissing(`no file matches ${programPattern.source}`);
  const unlinked = [loaderPattern, unwinderPattern].map((pattern) => files.find((file) => pattern.test(file)));
  const kept = new Set([program, ...unlinked.filter((file) => file !== undefined)]);
  // A set that grows is walked to its new end.
  for (const file of kept) {
    for (const name of neededLibraries(await readFile(path.join(root, file)))) {
      const library = libraries.get(name);
      if (library === undefined) throw packagesMissing(`${name}, which ${path.basename(file)} needs, is in no package`);
      kept.add(library);
    }
  }
  return [...kept];
}
