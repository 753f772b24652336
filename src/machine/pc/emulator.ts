// Loads npm v86: the wasm, rewritten and compiled once for all machines of a process, and an instance of the emulator.
import { V86 } from "v86";
import { OperationError } from "../../base/errors.ts";
import { checkedKernel, placeInitrd } from "./boot-protocol.ts";
import type { MachineClock } from "./clock.ts";
import type { CpuDirtyLogMethod } from "./cpu-dirty-log.ts";
import { checkedInternals, type V86Emulator } from "./v86-internals.ts";
import { rewriteForDirtyLog, type RewriteRefusal } from "./wasm-rewrite.ts";
import { webAssembly, type WasmCompiledModule, type WasmExports } from "./web-assembly.ts";

/** v86's compiled wasm; machines of one process share it. */
export interface PcEmulator {
  readonly module: WasmCompiledModule;
  /** How its machines log CPU writes, and why not by the rewritten wasm if they do not. */
  readonly dirtyLogMethod: CpuDirtyLogMethod;
  readonly refusal: RewriteRefusal | undefined;
}

/**
 * Compiles `v86.wasm`, rewritten to log CPU writes. With `dirtyLogMethod: "shadow-compare"`, or if the binary is not the
 * one that the rewrite knows, it is compiled as it is. Throws OperationError `emulator-unsupported`.
 */
export async function loadPcEmulator(
  wasm: Uint8Array,
  options: { dirtyLogMethod?: CpuDirtyLogMethod } = {},
): Promise<PcEmulator> {
  const rewritten = options.dirtyLogMethod === "shadow-compare" ? undefined : await rewriteForDirtyLog(wasm);
  if (rewritten?.kind === "rewritten") {
    return { module: await compiled(rewritten.bytes), dirtyLogMethod: "wasm", refusal: undefined };
  }
  if (options.dirtyLogMethod === "wasm") {
    throw unsupported(`the rewrite of its wasm was refused: ${rewritten?.reason ?? "not tried"}`);
  }
  return { module: await compiled(new Uint8Array(wasm)), dirtyLogMethod: "shadow-compare", refusal: rewritten };
}

async function compiled(bytes: Uint8Array<ArrayBuffer>): Promise<WasmCompiledModule> {
  try {
    return await webAssembly.compile(bytes);
  } catch (error) {
    throw unsupported("its wasm cannot be compiled", error);
  }
}

export interface EmulatorOptions {
  readonly memoryBytes: number;
  readonly bios: Uint8Array;
  readonly vgaBios?: Uint8Array | undefined;
  readonly boot?:
    | { readonly kernel: Uint8Array; readonly initrd: Uint8Array; readonly commandLine: string }
    | undefined;
  readonly clock: MachineClock;
  /** What RDRAND gives: uniform 32-bit integers. */
  readonly randomU32: () => number;
}

/** Two planes of text and the least frame buffer that the VGA BIOS takes. */
const vgaMemoryBytes = 512 * 1024;
const loadedEvent = "emulator-loaded";
/** The BIOS ends at 1 MiB, and begins no lower than the option ROMs' end; the VGA BIOS is the first of these. */
const biosBytesMax = 0x4_0000;
const vgaBiosBytesMax = 0x1_0000;

/**
 * An instance with its devices, which has not run. Throws OperationError `emulator-unsupported`, `kernel-invalid`,
 * `firmware-invalid` or `memory-too-small`.
 */
export async function createEmulator(emulator: PcEmulator, options: EmulatorOptions): Promise<V86Emulator> {
  const image = (bytes: Uint8Array) => ({ buffer: bytes.slice().buffer });
  const { bios, vgaBios, clock } = options;
  checkFirmware("BIOS", bios, biosBytesMax);
  if (vgaBios !== undefined) checkFirmware("VGA BIOS", vgaBios, vgaBiosBytesMax);
  const boot = options.boot && { ...options.boot, kernel: checkedKernel(options.boot.kernel) };
  const created = await new Promise<V86>((resolve, reject) => {
    // The constructor's own promise chain has no error path, so errors leave by ours.
    const instantiate = (imports: object): Promise<WasmExports> =>
      new Promise((loaded) => {
        const { env } = imports as { env: Record<string, unknown> };
        env["microtick"] = () => clock.nowMs();
        env["get_rand_int"] = () => options.randomU32() | 0;
        webAssembly
          .instantiate(emulator.module, imports)
          .then(({ exports }) => loaded(exports))
          .catch((error: unknown) => reject(unsupported("its wasm cannot be instantiated", error)));
      });
    const instance = new V86({
      wasm_fn: instantiate as never,
      memory_size: options.memoryBytes,
      vga_memory_size: vgaMemoryBytes,
      bios: image(bios),
      ...(vgaBios === undefined ? {} : { vga_bios: image(vgaBios) }),
      ...(boot === undefined ? {} : { bzimage: image(boot.kernel), cmdline: boot.commandLine }),
      acpi: true,
      autostart: false,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      net_device: { type: "none" as never },
    });
    instance.add_listener(loadedEvent, () => resolve(instance));
  });
  const loaded = checkedInternals(created);
  if (boot !== undefined) {
    const { wasm_memory, mem8, memory_size } = loaded.v86.cpu;
    placeInitrd(new Uint8Array(wasm_memory.buffer, mem8.byteOffset, memory_size[0]), boot.kernel, boot.initrd);
  }
  return loaded;
}

function checkFirmware(what: string, bytes: Uint8Array, bytesMax: number): void {
  if (bytes.length > 0 && bytes.length <= bytesMax) return;
  throw new OperationError({
    code: "firmware-invalid",
    message: `the ${what} has ${bytes.length} bytes, and there is room for ${bytesMax}`,
    advice: "pass bios.bin and vgabios-stdvga.bin of Debian's seabios",
    facts: { bytes: bytes.length, bytesMax },
  });
}

function unsupported(what: string, cause?: unknown): OperationError {
  return new OperationError({
    code: "emulator-unsupported",
    message: `this build of v86 cannot be used: ${what}`,
    advice: "install the exact version of v86 that package.json names",
    cause,
  });
}
