// The rewrite of v86's wasm that gives the embedded PC a log of the pages its CPU writes.
import { WasmFormatError, signed, unsigned } from "./leb128.ts";
import { joined, ValueType, WasmModule } from "./wasm-module.ts";
import { webAssembly } from "./web-assembly.ts";

/*
 * Where a CPU write can be seen
 *
 * v86 has no dirty log, and its compiled code stores to guest RAM by plain wasm stores, which nothing can hook. But
 * each such store, compiled or interpreted, first looks up the page in a software TLB, and uses the entry only if it
 * is valid and writable. A writable entry has exactly one maker: do_page_walk(), called with for_writing, when the
 * lookup missed. (Read-only entries are made on reads; the first write to such a page misses, and walks again.) So:
 *
 *     a page that the CPU writes has had a page walk for writing since the TLB was last emptied.
 *
 * That is how a hypervisor without a hardware log works too: write-protect all, note the first fault of each page.
 * An epoch is: read the map of marked pages, clear it, empty the TLB. The log is per page and never misses a write;
 * it may name a page that was only about to be written (a walk precedes a fault in the same instruction).
 *
 * What is wrapped
 *
 * - `do_page_walk(address, for_writing, user, jit, side_effects)` returns the TLB entry
 *   (RAM's place in wasm memory + physical page) XOR virtual page, with flags in the low bits: valid 1, read-only 2,
 *   memory-mapped 8. If the entry is valid, writable and RAM, its page is marked. This covers every store of an
 *   instruction: moves, string instructions with REP (one walk per page), FPU and SSE stores, pushes of interrupts
 *   and faults, task switches, and code that modifies itself.
 * - `write8`, `write16` and `write32` take physical addresses and pass no TLB: the accessed and dirty bits that the
 *   walk itself sets in page tables go through write8, and so do stores split over two pages. v86's devices in
 *   JavaScript can reach the same functions as exports.
 *
 * What is not covered, by design: DMA. A device writes RAM through GuestMemory, past all of this, as a real card
 * writes past the CPU. That is the whole point of this program.
 *
 * How it fails
 *
 * The names and shapes above are internals. So the rewrite is done only to the one binary whose every call was looked
 * at (by its hash), it checks each function's type all the same, and the result has to validate. Everything else is
 * refused, and the machine falls back to comparing RAM with a copy (ShadowCompareDirtyLog).
 *
 * Two exported globals say where the map is, zero while there is none. The map has one byte for each 4 KiB of the
 * 32-bit physical address space, so that no address needs a bounds check.
 */

/** Export: address of the map's byte for the page frame at wasm address 0; see `dirtyMapGlobals`. */
export const dirtyMapByFrameExport = "_dirty_map_by_frame";
/** Export: address of the map's byte for physical page 0. */
export const dirtyMapExport = "_dirty_map";
/** Bytes the map must have: one for each page that a 32-bit physical address can name. */
export const dirtyMapBytes = 1 << 20;

/** SHA-256 of `build/v86.wasm` in npm v86 0.5.462+g5f9a90f. */
const knownBinary = "aa0d0e149d6b60063b85de4871e78505637ce92821e14a9f9802c4008ba2336e";

export type RewriteRefusal =
  | { readonly kind: "refused"; readonly reason: "unknown-binary"; readonly sha256: string }
  | { readonly kind: "refused"; readonly reason: "malformed"; readonly detail: string }
  | { readonly kind: "refused"; readonly reason: "function-missing"; readonly name: string }
  | { readonly kind: "refused"; readonly reason: "unexpected-type"; readonly name: string }
  | { readonly kind: "refused"; readonly reason: "invalid-result" };

export type RewriteResult = { readonly kind: "rewritten"; readonly bytes: Uint8Array<ArrayBuffer> } | RewriteRefusal;

/** Rewrites the known v86.wasm; refuses any other. */
export async function rewriteForDirtyLog(binary: Uint8Array): Promise<RewriteResult> {
  const sha256 = await sha256Hex(binary);
  if (sha256 !== knownBinary) return { kind: "refused", reason: "unknown-binary", sha256 };
  return rewriteUnchecked(binary);
}

/** The rewrite without the check of the hash, which only tests should leave out. */
export function rewriteUnchecked(binary: Uint8Array): RewriteResult {
  try {
    return rewrite(new WasmModule(binary));
  } catch (error) {
    if (!(error instanceof WasmFormatError)) throw error;
    return { kind: "refused", reason: "malformed", detail: error.message };
  }
}

interface Target {
  readonly name: string;
  readonly matches: (name: string) => boolean;
  readonly parameterCount: number;
  readonly resultCount: number;
  readonly wrapper: (original: number, globals: DirtyMapGlobals) => Uint8Array;
}

interface DirtyMapGlobals {
  readonly byFrame: number;
  readonly byPage: number;
}

const physicalWrite = (name: string, widthBytes: number): Target => ({
  name,
  matches: (candidate) => candidate === name,
  parameterCount: 2,
  resultCount: 0,
  wrapper: (original, globals) => physicalWriteWrapper(original, globals, widthBytes),
});

const targets: readonly Target[] = [
  {
    name: "do_page_walk",
    // Rust's v0 mangling ends with the path and the length of each name; the crate's hash in front may change.
    matches: (candidate) => candidate.endsWith("3cpu3cpu12do_page_walk"),
    parameterCount: 5,
    resultCount: 1,
    wrapper: pageWalkWrapper,
  },
  physicalWrite("write8", 1),
  physicalWrite("write16", 2),
  physicalWrite("write32", 4),
];

function rewrite(module: WasmModule): RewriteResult {
  const globals = {
    byFrame: module.addExportedGlobal(dirtyMapByFrameExport),
    byPage: module.addExportedGlobal(dirtyMapExport),
  };
  for (const target of targets) {
    const { name } = target;
    const index = module.functionNamed(target.matches);
    if (index === undefined) return { kind: "refused", reason: "function-missing", name };
    const type = module.typeOf(index);
    const isExpected =
      type !== undefined &&
      type.parameters.length === target.parameterCount &&
      type.results.length === target.resultCount &&
      [...type.parameters, ...type.results].every((value) => value === ValueType.i32);
    if (!isExpected) return { kind: "refused", reason: "unexpected-type", name };
    module.wrap(index, (original) => target.wrapper(original, globals));
  }
  const bytes = module.toBytes();
  if (!webAssembly.validate(bytes)) return { kind: "refused", reason: "invalid-result" };
  return { kind: "rewritten", bytes };
}

// The few instructions that the wrappers are made of (core specification, section 5.4).
const op = {
  if: [0x04, 0x40],
  end: [0x0b],
  equal: [0x46],
  notEqual: [0x47],
  add: [0x6a],
  and: [0x71],
  xor: [0x73],
  shiftRight: [0x76],
  store8: [0x3a, 0, 0],
  call: (index: number) => [0x10, ...unsigned(index)],
  get: (local: number) => [0x20, ...unsigned(local)],
  tee: (local: number) => [0x22, ...unsigned(local)],
  global: (index: number) => [0x23, ...unsigned(index)],
  constant: (value: number) => [0x41, ...signed(value)],
} as const;

const pageShift = 12;
const entryFlagsOfInterest = 1 | 2 | 8;
const entryValidWritableRam = 1;

/** Pushes local + offset, shifted right to a page number. */
function pageOf(local: number, offset: number): readonly number[] {
  return [...op.get(local), ...op.constant(offset), ...op.add, ...op.constant(pageShift), ...op.shiftRight];
}

/** Takes a page number, and stores 1 at that place of the map that the global points to. */
function mark(global: number): readonly number[] {
  return [...op.global(global), ...op.add, ...op.constant(1), ...op.store8];
}

function pageWalkWrapper(original: number, globals: DirtyMapGlobals): Uint8Array {
  const address = 0;
  const entry = 5;
  return joined([
    [1, 1, ValueType.i32],
    ...[0, 1, 2, 3, 4].map(op.get),
    op.call(original),
    op.tee(entry),
    op.constant(entryFlagsOfInterest),
    op.and,
    op.constant(entryValidWritableRam),
    op.equal,
    op.global(globals.byFrame),
    op.constant(0),
    op.notEqual,
    op.and,
    op.if,
    // The entry's page XOR the virtual page is the frame in wasm memory.
    pageOf(entry, 0),
    pageOf(address, 0),
    op.xor,
    mark(globals.byFrame),
    op.end,
    op.get(entry),
    op.end,
  ]);
}

function physicalWriteWrapper(original: number, globals: DirtyMapGlobals, widthBytes: number): Uint8Array {
  const address = 0;
  const value = 1;
  return joined([
    [0],
    op.global(globals.byPage),
    op.if,
    pageOf(address, 0),
    mark(globals.byPage),
    pageOf(address, widthBytes - 1),
    mark(globals.byPage),
    op.end,
    op.get(address),
    op.get(value),
    op.call(original),
    op.end,
  ]);
}

async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new Uint8Array(bytes));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
