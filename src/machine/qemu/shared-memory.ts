// The guest's RAM as QEMU shares it: one file in memory, mapped once, at which both QEMU and the device write.
import { fstatSync, type BigIntStats } from "node:fs";
import { assert } from "../../base/assert.ts";
import { pageGeometry, type PageGeometry } from "../../memory/geometry.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import type { Native, NativeAddress } from "./native.ts";
import { errnoName } from "./vfio-user/descriptor-sockets.ts";

const PAGE_BYTES = 4096;
/** The largest guest: what one typed array can span. */
export const SHARED_MEMORY_BYTES_MAX = 2 ** 33;
/** The largest page of x86-64, on whose border a file of such pages must lie. */
const ALIGNMENT_BYTES = 2 ** 30;

/** What became of a descriptor: bytes of the guest's RAM from `address`, or a sentence on why it is none. */
export type Adoption = { readonly address: number } | { readonly refused: string };

export interface SharedMemoryOptions {
  /**
   * Maps a file that its owner may make shorter. Who does, while we look at it, ends this process with SIGBUS, so this is
   * for clients that are trusted. A file with the seal is safe; one of huge pages as long as its owner takes none of them
   * away (fallocate(2), FALLOC_FL_PUNCH_HOLE) while the machine has no other.
   */
  readonly allowUnsealed?: boolean;
}

/** Addresses of this process that are ours for good, and the one buffer that spans them. */
interface Range {
  readonly address: NativeAddress;
  readonly sizeBytes: number;
  readonly buffer: ArrayBuffer;
}

/** The file that is mapped, and arrays of its size. */
interface Mapping {
  readonly device: bigint;
  readonly inode: bigint;
  readonly sizeBytes: number;
  readonly pages: PageGeometry;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
}

/**
 * Guest RAM that is known as soon as the client has sent its descriptor; an address is an offset in its file. What asks
 * for sizes or bytes before is a programmer's error.
 *
 * A mapping that goes away under a typed array takes the process along (SIGSEGV). So none ever does: when the client is
 * gone, zeros take the file's place at the same addresses, which are the next client's. Addresses are taken in
 * powers of two and only when the ones we have are too few, so all clients together take at most twice the largest.
 */
export class SharedMemory implements GuestMemory {
  readonly #native: Native;
  readonly #allowUnsealed: boolean;
  readonly #listeners = new Set<() => void>();
  #range: Range | undefined;
  #mapping: Mapping | undefined;
  /** The mapping's client is gone. Who still has business with it, such as a move that is about to fail, finds zeros. */
  #isReleased = false;

  constructor(native: Native, options: SharedMemoryOptions = {}) {
    this.#native = native;
    this.#allowUnsealed = options.allowUnsealed ?? false;
  }

  get isKnown(): boolean {
    return this.#mapping !== undefined && !this.#isReleased;
  }

  get sizeBytes(): number {
    return this.#known().sizeBytes;
  }

  get pages(): PageGeometry {
    return this.#known().pages;
  }

  bytes(): Uint8Array {
    return this.#known().bytes;
  }

  words(): Uint32Array {
    return this.#known().words;
  }

  wordInOrder(index: number): number {
    return Atomics.load(this.#known().words, index);
  }

  /** Nobody to tell: KVM derives nothing from RAM, and for the code that TCG translated vfio-user has no message. */
  deviceWrote(): void {}

  /** Calls the listener each time that RAM becomes known; at once if it is. Gives what takes the listener away. */
  onKnown(listener: () => void): () => void {
    this.#listeners.add(listener);
    if (this.isKnown) listener();
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Takes over a descriptor for `lengthBytes` bytes at `offset` of a file, and closes it in any case. The first one tells
   * which file is the guest's RAM; it is mapped whole. What is refused can be had by messages only.
   */
  adopt(descriptor: number, offset: number, lengthBytes: number): Adoption {
    try {
      return this.#adopt(descriptor, offset, lengthBytes);
    } finally {
      this.#native.closeDescriptor(descriptor);
    }
  }

  /** The client is gone, and with it RAM; arrays that are still about show zeros. */
  release(): void {
    if (this.#range === undefined || !this.isKnown) return;
    this.#isReleased = true;
    this.#native.mapZeros(this.#range.address, this.#range.sizeBytes);
  }

  #adopt(descriptor: number, offset: number, lengthBytes: number): Adoption {
    // Whether it is sealed comes first: until it is, its owner may change the size after we looked.
    const isSafe = this.#allowUnsealed || this.#native.isSealedAgainstShrinking(descriptor);
    const stats = fstatSync(descriptor, { bigint: true });
    const known = this.isKnown ? this.#mapping : undefined;
    if (known !== undefined && (stats.dev !== known.device || stats.ino !== known.inode)) {
      return { refused: "it is another file than the guest's RAM, and RAM in several files is not supported" };
    }
    const sizeBytes = known?.sizeBytes ?? Number(stats.size);
    const isInside =
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(lengthBytes) &&
      offset >= 0 &&
      lengthBytes > 0 &&
      lengthBytes <= sizeBytes - offset;
    if (!isInside) {
      return { refused: `${lengthBytes} bytes at ${offset} are not inside the file of ${sizeBytes} bytes` };
    }
    if (known !== undefined) return { address: offset };
    const refused = whyNot(stats) ?? (isSafe ? undefined : unsealed);
    if (refused !== undefined) return { refused };
    const range = this.#map(descriptor, sizeBytes);
    if ("refused" in range) return range;
    this.#isReleased = false;
    this.#mapping = {
      device: stats.dev,
      inode: stats.ino,
      sizeBytes,
      pages: pageGeometry(sizeBytes, PAGE_BYTES),
      bytes: new Uint8Array(range.buffer, 0, sizeBytes),
      words: new Uint32Array(range.buffer, 0, sizeBytes / 4),
    };
    for (const listener of this.#listeners) listener();
    return { address: offset };
  }

  /** Maps the file over our addresses. */
  #map(descriptor: number, sizeBytes: number): Range | { readonly refused: string } {
    if (!this.#native.isReadWrite(descriptor)) return { refused: "it was not opened for reading and writing" };
    if (this.#range === undefined || this.#range.sizeBytes < sizeBytes) this.#range = this.#reserve(sizeBytes);
    const { address, sizeBytes: rangeBytes } = this.#range;
    const result = this.#native.mapFile(address, sizeBytes, descriptor);
    if (result === 0) return this.#range;
    // A mapping that failed may have taken away what was there before.
    this.#native.mapZeros(address, rangeBytes);
    return { refused: `it could not be mapped: ${errnoName(-result)}` };
  }

  #reserve(sizeBytes: number): Range {
    const rangeBytes = 2 ** Math.ceil(Math.log2(sizeBytes));
    const address = this.#native.reserve(rangeBytes, ALIGNMENT_BYTES);
    this.#native.mapZeros(address, rangeBytes);
    // V8 takes the buffer for as much memory of its own and collects garbage for it, so there is one for all clients.
    return { address, sizeBytes: rangeBytes, buffer: this.#native.view(address, rangeBytes) };
  }

  #known(): Mapping {
    assert(this.#mapping !== undefined, "the guest's RAM is not known: no client has shared it");
    return this.#mapping;
  }
}

const unsealed =
  "the file may be made shorter, which would end this process: start QEMU with memory-backend-memfd,share=on, " +
  "whose file is sealed, or allow unsealed memory";

function whyNot(stats: BigIntStats): string | undefined {
  if (!stats.isFile()) return "it is not a file";
  if (stats.size > SHARED_MEMORY_BYTES_MAX) {
    return `the file has ${stats.size} bytes, where ${SHARED_MEMORY_BYTES_MAX} are the most`;
  }
  if (stats.size % BigInt(PAGE_BYTES) !== 0n) return `the file's ${stats.size} bytes are not whole pages`;
  return undefined;
}
