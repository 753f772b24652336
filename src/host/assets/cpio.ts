// Writes a cpio archive in the "newc" format, the one the Linux kernel unpacks as its initial root file system.
import { assert } from "../../base/assert.ts";

/** Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; each field is 8 hex digits. */
const MAGIC = "070701";
const TYPE_FILE = 0o100_000;
const TYPE_DIRECTORY = 0o040_000;
const TYPE_SYMLINK = 0o120_000;
const TYPE_CHARACTER_DEVICE = 0o020_000;

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly contents?: Uint8Array;
  readonly device?: { readonly major: number; readonly minor: number };
}

/**
 * An archive being written. All owners are root and all times are zero, so the same entries give the same bytes.
 * A folder must be added before what it holds. Names are relative, without a leading slash.
 */
export class CpioWriter {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;
  #inode = 1;

  directory(name: string): void {
    this.#add({ name, mode: TYPE_DIRECTORY | 0o755 });
  }

  file(name: string, contents: Uint8Array | string, permissions = 0o644): void {
    this.#add({ name, mode: TYPE_FILE | permissions, contents: Buffer.from(contents) });
  }

  symlink(name: string, target: string): void {
    this.#add({ name, mode: TYPE_SYMLINK | 0o777, contents: Buffer.from(target) });
  }

  characterDevice(name: string, device: { readonly major: number; readonly minor: number }, permissions: number): void {
    this.#add({ name, mode: TYPE_CHARACTER_DEVICE | permissions, device });
  }

  /** The whole archive, closed by its trailer and padded to 512 bytes. The writer cannot be used afterwards. */
  finish(): Uint8Array {
    this.#add({ name: "TRAILER!!!", mode: 0 });
    this.#padTo(512);
    return Buffer.concat(this.#parts);
  }

  #add(entry: Entry): void {
    assert(entry.name !== "" && !entry.name.startsWith("/"), `not a relative name: ${entry.name}`);
    const name = Buffer.from(`${entry.name}\0`);
    const contents = entry.contents ?? new Uint8Array(0);
    const links = 1;
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    const fields = [this.#inode++, entry.mode, 0, 0, links, 0, contents.length, 0, 0];
    fields.push(entry.device?.major ?? 0, entry.device?.minor ?? 0, name.length, 0);
    this.#push(Buffer.from(MAGIC + fields.map((field) => field.toString(16).padStart(8, "0")).join("")));
    this.#push(name);
    this.#padTo(4);
    this.#push(contents);
    this.#padTo(4);
  }

  #push(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#sizeBytes += bytes.length;
  }

  #padTo(alignment: number): void {
    const remainder = this.#sizeBytes % alignment;
    if (remainder !== 0) this.#push(new Uint8Array(alignment - remainder));
  }
}
