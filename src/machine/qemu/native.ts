// The C library, by foreign function calls: what Node cannot do with descriptors, shared memory and sockets that carry them.
import { fchmodSync, readlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { assert } from "../../base/assert.ts";
import { OperationError } from "../../base/errors.ts";
import { SocketMessage } from "./socket-message.ts";
import { errnoName, type DescriptorSockets, type Received, type Watch } from "./vfio-user/descriptor-sockets.ts";
import { SOCKET_PATH_BYTES_MAX } from "./vfio-user/socket-file.ts";

/** Linux's numbers, the same on x86-64 and arm64 (include/uapi/asm-generic). */
const linux = {
  AF_UNIX: 1,
  SOCK_STREAM: 1,
  SOCK_CLOEXEC: 0o2000000,
  SOCK_NONBLOCK: 0o4000,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_CMSG_CLOEXEC: 0x4000_0000,
  EFD_CLOEXEC: 0o2000000,
  EFD_NONBLOCK: 0o4000,
  MFD_CLOEXEC: 1,
  MFD_ALLOW_SEALING: 2,
  F_GETFL: 3,
  F_ADD_SEALS: 1033,
  F_GET_SEALS: 1034,
  F_SEAL_SHRINK: 2,
  O_ACCMODE: 3,
  O_RDWR: 2,
  O_NONBLOCK: 0o4000,
  POLLOUT: 4,
  PROT_NONE: 0,
  PROT_READ_WRITE: 3,
  MAP_SHARED: 0x01,
  MAP_PRIVATE: 0x02,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
} as const;

/** An address in this process. */
export type NativeAddress = bigint & { readonly __brand: "NativeAddress" };

/** Sockets, and what else there is to do with descriptors and memory; everything as `DescriptorSockets` says. */
export interface Native extends DescriptorSockets {
  connect(path: string): number;

  eventfd(): number;
  /**
   * Whether a descriptor that somebody gave us is an eventfd. Its flags are its giver's too, and are left alone: who waits
   * in read(2) for a signal goes on to.
   */
  adoptEventfd(descriptor: number): boolean;
  /** Adds one. False when it did not: the count is full, so that whoever waits is awake already. */
  signalEventfd(descriptor: number): boolean;
  /** The count, which is 0 afterwards. */
  takeEventfd(descriptor: number): number;

  /** A file in memory, sealed against shrinking unless told otherwise. */
  memfd(name: string, sizeBytes: number, options?: { readonly isSealed?: boolean }): number;
  /** Whether nobody can ever make this file shorter: a file in memory with F_SEAL_SHRINK (fcntl(2)). */
  isSealedAgainstShrinking(descriptor: number): boolean;
  isReadWrite(descriptor: number): boolean;

  /** Addresses that nothing else will get, on a border of `alignmentBytes`, without memory behind them. */
  reserve(sizeBytes: number, alignmentBytes: number): NativeAddress;
  /** Puts the beginning of a file at an address got from `reserve`. Gives 0 or a negated errno. */
  mapFile(address: NativeAddress, sizeBytes: number, descriptor: number): number;
  /** Puts memory of zeros that is nobody else's there, in place of what was. */
  mapZeros(address: NativeAddress, sizeBytes: number): void;
  /** The memory there. What was reserved stays reserved, so a view never dangles; until something is mapped it faults. */
  view(address: NativeAddress, sizeBytes: number): ArrayBuffer;
}

type Koffi = typeof import("koffi");
type Bytes = Uint8Array | BigUint64Array;

/** The functions of the C library that are called. */
interface CLibrary {
  socket(domain: number, type: number, protocol: number): number;
  bind(socket: number, address: Bytes, length: number): number;
  listen(socket: number, backlog: number): number;
  connect(socket: number, address: Bytes, length: number): number;
  accept4(socket: number, address: null, length: null, flags: number): number;
  send(socket: number, bytes: Bytes, length: number, flags: number): number;
  sendmsg(socket: number, message: Bytes, flags: number): number;
  recvmsg(socket: number, message: Bytes, flags: number): number;
  close(descriptor: number): number;
  eventfd(count: number, flags: number): number;
  read(descriptor: number, bytes: Bytes, length: number): number;
  write(descriptor: number, bytes: Bytes, length: number): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(descriptor: number, length: number): number;
  fcntl(descriptor: number, command: number, argument: number): number;
  poll(entries: Bytes, count: number, timeoutMs: number): number;
  mmap(at: bigint | null, length: number, protection: number, flags: number, fd: number, offset: number): bigint;
  munmap(address: bigint, length: number): number;
}

/** Their declarations, with `long` for ssize_t, which koffi has no word for. */
function bindLibrary(koffi: Koffi): CLibrary {
  // The program itself has the C library loaded, whichever it is.
  const library = koffi.load(null);
  return {
    socket: library.func("int socket(int, int, int)"),
    bind: library.func("int bind(int, const void *, uint32_t)"),
    listen: library.func("int listen(int, int)"),
    connect: library.func("int connect(int, const void *, uint32_t)"),
    accept4: library.func("int accept4(int, void *, void *, int)"),
    send: library.func("long send(int, const void *, size_t, int)"),
    sendmsg: library.func("long sendmsg(int, const void *, int)"),
    recvmsg: library.func("long recvmsg(int, void *, int)"),
    close: library.func("int close(int)"),
    eventfd: library.func("int eventfd(unsigned int, int)"),
    read: library.func("long read(int, void *, size_t)"),
    write: library.func("long write(int, const void *, size_t)"),
    memfdCreate: library.func("int memfd_create(const char *, unsigned int)"),
    ftruncate: library.func("int ftruncate(int, int64_t)"),
    fcntl: library.func("int fcntl(int, int, long)"),
    poll: library.func("int poll(void *, unsigned long, int)"),
    mmap: library.func("void *mmap(void *, size_t, int, int, int, int64_t)"),
    munmap: library.func("int munmap(void *, size_t)"),
  };
}

/** What mmap(2) returns when it failed. */
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

class LinuxNative implements Native {
  readonly #koffi: Koffi;
  readonly #c: CLibrary;
  readonly #addressOf: (memory: ArrayBuffer | ArrayBufferView) => bigint;
  readonly #one = new BigUint64Array([1n]);
  readonly #count = new BigUint64Array(1);
  /** Descriptors that others gave us and that would make us wait. */
  readonly #blocking = new Set<number>();

  constructor(koffi: Koffi) {
    this.#koffi = koffi;
    this.#c = bindLibrary(koffi);
    this.#addressOf = (memory) => koffi.address(memory);
  }

  listen(path: string): number {
    const socket = this.#socket();
    try {
      // The file takes its mode from the socket's own inode (unix_bind_bsd), so there is no moment with another one.
      fchmodSync(socket, 0o600);
      const address = socketAddress(path);
      this.#check("bind", this.#c.bind(socket, address, address.length));
      this.#check("listen", this.#c.listen(socket, 16));
      return socket;
    } catch (error) {
      this.closeDescriptor(socket);
      throw error;
    }
  }

  accept(listener: number): number {
    return this.#result(this.#c.accept4(listener, null, null, linux.SOCK_CLOEXEC | linux.SOCK_NONBLOCK));
  }

  connect(path: string): number {
    const socket = this.#socket();
    const address = socketAddress(path);
    try {
      this.#check("connect", this.#c.connect(socket, address, address.length));
      return socket;
    } catch (error) {
      this.closeDescriptor(socket);
      throw error;
    }
  }

  send(socket: number, bytes: Uint8Array, descriptors: readonly number[] = []): number {
    const flags = linux.MSG_DONTWAIT | linux.MSG_NOSIGNAL;
    if (descriptors.length === 0) return this.#result(this.#c.send(socket, bytes, bytes.length, flags));
    const message = new SocketMessage(this.#addressOf, bytes, descriptors.length);
    message.putDescriptors(descriptors);
    return this.#result(this.#c.sendmsg(socket, message.header, flags));
  }

  receiver(socket: number, buffer: Uint8Array, descriptorsMax: number): () => Received {
    const message = new SocketMessage(this.#addressOf, buffer, descriptorsMax);
    const flags = linux.MSG_DONTWAIT | linux.MSG_CMSG_CLOEXEC;
    return () => {
      message.prepare();
      const result = this.#result(this.#c.recvmsg(socket, message.header, flags));
      if (result < 0) return { result, descriptors: [], isCutShort: false };
      return { result, descriptors: message.takeDescriptors(), isCutShort: message.isCutShort };
    };
  }

  watch(descriptor: number, listener: () => void): Watch {
    // By libuv's own poll, in the event loop's epoll set: no thread of the pool is taken.
    const handle = this.#koffi.node.poll(descriptor, { readable: true }, listener);
    return {
      forRoom: (isWanted) => handle.start({ readable: true, writable: isWanted }, listener),
      close: () => handle.close(),
    };
  }

  closeDescriptor(descriptor: number): void {
    this.#blocking.delete(descriptor);
    // By C, not by fs.close: Node warns of descriptors that it did not open, and close(2) is never to be repeated.
    this.#c.close(descriptor);
  }

  eventfd(): number {
    return this.#check("eventfd", this.#c.eventfd(0, linux.EFD_CLOEXEC | linux.EFD_NONBLOCK));
  }

  adoptEventfd(descriptor: number): boolean {
    try {
      if (readlinkSync(`/proc/self/fd/${descriptor}`) !== "anon_inode:[eventfd]") return false;
    } catch {
      return false;
    }
    const flags = this.#c.fcntl(descriptor, linux.F_GETFL, 0);
    if (flags >= 0 && (flags & linux.O_NONBLOCK) === 0) this.#blocking.add(descriptor);
    return flags >= 0;
  }

  signalEventfd(descriptor: number): boolean {
    // Nobody but its giver could fill it between the two calls, and who did that would have its own device wait for it.
    if (this.#blocking.has(descriptor) && !this.#hasRoom(descriptor)) return false;
    return this.#c.write(descriptor, this.#one, 8) === 8;
  }

  takeEventfd(descriptor: number): number {
    return this.#c.read(descriptor, this.#count, 8) === 8 ? Number(this.#count[0]) : 0;
  }

  #hasRoom(descriptor: number): boolean {
    // struct pollfd: the descriptor, what is asked, and what is so.
    const entry = new Uint8Array(8);
    const fields = new DataView(entry.buffer);
    fields.setInt32(0, descriptor, true);
    fields.setInt16(4, linux.POLLOUT, true);
    return this.#c.poll(entry, 1, 0) === 1 && (fields.getInt16(6, true) & linux.POLLOUT) !== 0;
  }

  memfd(name: string, sizeBytes: number, options: { readonly isSealed?: boolean } = {}): number {
    const flags = linux.MFD_CLOEXEC | linux.MFD_ALLOW_SEALING;
    const descriptor = this.#check("memfd_create", this.#c.memfdCreate(name, flags));
    try {
      this.#check("ftruncate", this.#c.ftruncate(descriptor, sizeBytes));
      const isSealed = options.isSealed ?? true;
      if (isSealed) this.#check("fcntl", this.#c.fcntl(descriptor, linux.F_ADD_SEALS, linux.F_SEAL_SHRINK));
      return descriptor;
    } catch (error) {
      this.closeDescriptor(descriptor);
      throw error;
    }
  }

  isSealedAgainstShrinking(descriptor: number): boolean {
    const seals = this.#c.fcntl(descriptor, linux.F_GET_SEALS, 0);
    return seals >= 0 && (seals & linux.F_SEAL_SHRINK) !== 0;
  }

  isReadWrite(descriptor: number): boolean {
    const flags = this.#c.fcntl(descriptor, linux.F_GETFL, 0);
    return flags >= 0 && (flags & linux.O_ACCMODE) === linux.O_RDWR;
  }

  reserve(sizeBytes: number, alignmentBytes: number): NativeAddress {
    const flags = linux.MAP_PRIVATE | linux.MAP_ANONYMOUS | linux.MAP_NORESERVE;
    const length = sizeBytes + alignmentBytes;
    const start = this.#c.mmap(null, length, linux.PROT_NONE, flags, -1, 0);
    if (start === MAP_FAILED) this.#fail("mmap", this.#koffi.errno());
    const alignment = BigInt(alignmentBytes);
    const address = ((start + alignment - 1n) / alignment) * alignment;
    const before = Number(address - start);
    if (before > 0) this.#check("munmap", this.#c.munmap(start, before));
    const after = alignmentBytes - before;
    if (after > 0) this.#check("munmap", this.#c.munmap(address + BigInt(sizeBytes), after));
    return address as NativeAddress;
  }

  mapFile(address: NativeAddress, sizeBytes: number, descriptor: number): number {
    const flags = linux.MAP_SHARED | linux.MAP_FIXED;
    const at = this.#c.mmap(address, sizeBytes, linux.PROT_READ_WRITE, flags, descriptor, 0);
    return at === MAP_FAILED ? -this.#koffi.errno() : 0;
  }

  mapZeros(address: NativeAddress, sizeBytes: number): void {
    const flags = linux.MAP_PRIVATE | linux.MAP_FIXED | linux.MAP_ANONYMOUS | linux.MAP_NORESERVE;
    const at = this.#c.mmap(address, sizeBytes, linux.PROT_READ_WRITE, flags, -1, 0);
    if (at === MAP_FAILED) this.#fail("mmap", this.#koffi.errno());
  }

  view(address: NativeAddress, sizeBytes: number): ArrayBuffer {
    return this.#koffi.view(address, sizeBytes);
  }

  #socket(): number {
    const type = linux.SOCK_STREAM | linux.SOCK_CLOEXEC | linux.SOCK_NONBLOCK;
    return this.#check("socket", this.#c.socket(linux.AF_UNIX, type, 0));
  }

  /** A call's result, or its negated errno. */
  #result(result: number): number {
    return result >= 0 ? result : -this.#koffi.errno();
  }

  #check(call: string, result: number): number {
    return result >= 0 ? result : this.#fail(call, this.#koffi.errno());
  }

  #fail(call: string, code: number): never {
    const name = errnoName(code);
    throw new OperationError({
      code: "system-call-failed",
      message: `the system refused ${call}: ${name}`,
      advice: adviceFor[name] ?? `See the section on errors of "man 2 ${call}".`,
      facts: { call, errno: name },
    });
  }
}

const adviceFor: Readonly<Record<string, string>> = {
  EMFILE: "Raise the limit on open files (ulimit -n).",
  ENFILE: "The whole system has run out of open files; raise fs.file-max.",
  ENOMEM: "Free some memory, or allow this process more address space (ulimit -v, vm.overcommit_memory).",
  EACCES: "Choose a path in a directory that this user may write to.",
  EADDRINUSE: "Choose another path, or remove the file.",
  ENOENT: "Make the directory first.",
};

/** struct sockaddr_un of unix(7). */
function socketAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path, "utf8");
  assert(bytes.length > 0 && bytes.length <= SOCKET_PATH_BYTES_MAX, `${path} does not fit into a socket's address`);
  const address = new Uint8Array(2 + bytes.length + 1);
  address[0] = linux.AF_UNIX;
  address.set(bytes, 2);
  return address;
}

let loaded: Native | "missing" | undefined;

/**
 * The native calls, or undefined where they cannot be had: on another system than Linux on x86-64 or arm64, or where the
 * optional package koffi is not installed.
 */
export function loadNative(): Native | undefined {
  loaded ??= load() ?? "missing";
  return loaded === "missing" ? undefined : loaded;
}

function load(): Native | undefined {
  if (process.platform !== "linux" || (process.arch !== "x64" && process.arch !== "arm64")) return undefined;
  try {
    return new LinuxNative(createRequire(import.meta.url)("koffi") as Koffi);
  } catch {
    return undefined;
  }
}
